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
PLAINLY: Final = "assign it once, at the left margin: … .resource_profiles = {…}"
_LIST: Final = 'write a list: ["one", "two"]'


class Nothing:
    """What stands there is no value of ours; the mistake is noted."""


NOTHING: Final = Nothing()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Reads values; where each of them stands goes into `lines`, what is wrong into `review`.

    doubted: what was changed in a way that only running the program would tell, and in which line.
    """

    review: Review
    lines: dict[Place, int]
    doubted: Mapping[ast.expr, int]
    hidden: set[Place] = field(default_factory=set)
    """Where there may be more, or less, than stands there."""

    def hide(self, place: Place, line: int) -> None:
        """Note that a line changes what is at a place, nobody knows how."""
        self.hidden.add(place)
        self.lines[place] = line
        self.review.note(
            place,
            "a statement",
            f"line {line} changes it in a way that only running the file would tell",
            PLAINLY,
        )

    def read(self, node: ast.expr, place: Place, depth: int = 0) -> Value | Nothing:
        """Return the value of an expression; of one that is wrong, what of it can be used."""
        if node in self.doubted:
            self.hide(place, self.doubted[node])
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
