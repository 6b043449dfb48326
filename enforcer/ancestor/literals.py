"""Values of a Python program that stand there as such: its lists, dictionaries, texts, numbers.

Nothing is run. What is computed is a mistake, and so is what the configuration cannot hold.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from enforcer.ancestor.toml import Value
from enforcer.config.mistakes import Place, Review, show

MOST_LEVELS: Final = 8
"""The deepest value of any use has three."""

_LARGEST: Final = 2**63
_MOST_SHOWN: Final = 60
_LIST: Final = 'write a list: ["one", "two"]'


class Nothing:
    """What stands there is no value of ours; the mistake is noted."""


NOTHING: Final = Nothing()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Reads values; where each of them stands goes into `lines`, what is wrong into `review`.

    names: what was assigned to plain variables so far.
    """

    review: Review
    lines: dict[Place, int]
    names: Mapping[str, ast.expr] = field(default_factory=dict)

    def read(self, node: ast.expr, place: Place, depth: int = 0) -> Value | Nothing:
        """Return the value of an expression; of one that is wrong, what of it can be used."""
        if not isinstance(node, ast.Name):
            self.lines[place] = node.lineno
        if depth > MOST_LEVELS:
            self.review.note(place, "a value", "nested too deeply", "no key is that deep")
            return NOTHING
        match node:
            case ast.Constant():
                return self._constant(node.value, place)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=ast.Constant(value=number)):
                return self._signed(node, number, place)
            case ast.Dict():
                return self._dictionary(node, place, depth)
            case ast.List() | ast.Tuple() | ast.Set():
                return self._list(node, place, depth)
            case ast.Name(id=name) if name in self.names:
                return self.read(self.names[name], place, depth + 1)
            case ast.Call(func=ast.Name(id="dict"), args=[]):
                return self._call(node, place, depth)
            case _:
                return self._computed(node, place)

    def _constant(self, value: object, place: Place) -> Value | Nothing:
        match value:
            case bool():
                return value
            case int() | float():
                # more than 64 bits, and what repr() would not even write: no configuration has it
                if -_LARGEST <= value < _LARGEST:
                    return value
                self.review.note(
                    place, "a number", "no such amount is known", "write a smaller one"
                )
            case str():
                if not any("\ud800" <= one <= "\udfff" for one in value):
                    return value
                self.review.note(
                    place,
                    "a text",
                    f"{ascii(value)[:_MOST_SHOWN]} holds half a character (a surrogate)",
                    "write the whole character",
                )
            case None:
                self.review.note(place, "None", "None says nothing", "leave it out")
            case _:
                self.review.note(
                    place,
                    type(value).__name__,
                    f"{ascii(value)[:_MOST_SHOWN]} is neither text nor number",
                    "write a text or a number",
                )
        return NOTHING

    def _signed(self, node: ast.UnaryOp, number: object, place: Place) -> Value | Nothing:
        if isinstance(number, bool) or not isinstance(number, int | float):
            return self._computed(node, place)
        return self._constant(-number if isinstance(node.op, ast.USub) else number, place)

    def _dictionary(self, node: ast.Dict, place: Place, depth: int) -> Value:
        found: dict[str, Value] = {}
        for key_node, value_node in zip(node.keys, node.values, strict=True):
            match key_node:
                case ast.Constant(value=str(key)):
                    self._entry(found, key, value_node, place, depth)
                case None:
                    self._computed(value_node, place)
                case _:
                    shown = _shown(key_node)
                    self.review.note(
                        place,
                        shown,
                        f"the key {shown} (line {key_node.lineno}) is not a text in quotes",
                        'write it in quotes: "like this"',
                    )
        return found

    def _call(self, node: ast.Call, place: Place, depth: int) -> Value:
        found: dict[str, Value] = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                self._computed(keyword.value, place)
            else:
                self._entry(found, keyword.arg, keyword.value, place, depth)
        return found

    def _entry(
        self, found: dict[str, Value], key: str, node: ast.expr, place: Place, depth: int
    ) -> None:
        below = (*place, key)
        if key in found:
            before = self.lines[below]
            self.lines[below] = node.lineno
            self.review.note(
                below,
                show(key),
                f"{show(key)} stands here twice, first in line {before}",
                "leave one of them out",
            )
        value = self.read(node, below, depth + 1)
        self.lines.setdefault(below, node.lineno)
        if not isinstance(value, Nothing):
            found[key] = value
        elif len(place) == 1:
            # Others may name it: that it is there is certain, and the mistake is noted.
            found[key] = "" if place == ("docker_profiles",) else {}

    def _list(self, node: ast.List | ast.Tuple | ast.Set, place: Place, depth: int) -> Value:
        if not isinstance(node, ast.List):
            kind = f"a {type(node).__name__.lower()}"
            self.review.note(place, kind, f"{kind} is not a list", _LIST)
        found: list[Value] = []
        for index, one in enumerate(node.elts):
            value = self.read(one, (*place, index), depth + 1)
            if not isinstance(value, Nothing):
                found.append(value)
        return found

    def _computed(self, node: ast.expr, place: Place) -> Nothing:
        shown = _shown(node)
        self.lines.setdefault(place, node.lineno)
        self.review.note(
            place,
            shown,
            f"{shown} (line {node.lineno}) would have to be computed, and nothing of this file"
            " is run",
            "write the value itself",
        )
        return NOTHING


def _shown(node: ast.expr) -> str:
    try:
        text = ascii(ast.unparse(node))[1:-1]
    except (RecursionError, ValueError):
        text = type(node).__name__
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 3]}..."
