"""Which statements of the program set our dictionaries, and to what."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Final

from enforcer.ancestor.literals import Nothing, Reader
from enforcer.ancestor.toml import Value
from enforcer.config.mistakes import Place, Review

SECTIONS: Final = ("volumes_ro", "resource_profiles", "docker_profiles", "user_profiles")

_CHANGING: Final = frozenset(
    {"update", "setdefault", "pop", "popitem", "clear", "append", "extend", "insert", "remove"}
)
_PLAINLY: Final = "assign it once, at the left margin: … .resource_profiles = {…}"


@dataclass(slots=True)
class Found:
    """What the program sets, and where each value stands; `whole`: nothing was unreadable."""

    sections: dict[str, Value] = field(default_factory=dict)
    whole: bool = True


def gather(tree: ast.Module, review: Review, lines: dict[Place, int]) -> Found:
    """Follow the statements from top to bottom, as Python would; mistakes go into the review."""
    found = Found()
    names: dict[str, ast.expr] = {}
    reader = Reader(review=review, lines=lines, names=names)
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    _assign(target, value, found, reader)
                    _remember(target, value, names)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                _assign(target, value, found, reader)
                _remember(target, value, names)
            case ast.Expr(value=ast.Call() as call) if _is_change(call):
                _change(call, found, reader)
            case _:
                _look_for_hidden(statement, found, reader)
    return found


def _remember(target: ast.expr, value: ast.expr, names: dict[str, ast.expr]) -> None:
    """Note what a name stands for; an attribute or an item is no name."""
    if isinstance(target, ast.Name):
        names[target.id] = value


def _assign(target: ast.expr, value: ast.expr, found: Found, reader: Reader) -> None:
    place = _place(target)
    if place is None:
        _look_for_hidden(target, found, reader)
        return
    if len(place) == 1:
        reader.lines.update({place: target.lineno})
    _set(place, value, found, reader)


def _set(place: Place, value: ast.expr, found: Found, reader: Reader) -> None:
    read = reader.read(value, place, len(place) - 1)
    reader.lines.setdefault(place, value.lineno)
    if isinstance(read, Nothing):
        found.whole = False
        return
    *above, last = place
    holder: dict[str, Value] = found.sections
    for part in above:
        below = holder.get(str(part))
        if not isinstance(below, dict):
            reader.review.note(
                place, "nothing", f"set below {part!r}, which is no dictionary", _PLAINLY
            )
            return
        holder = below
    holder[str(last)] = read


def _is_change(call: ast.Call) -> bool:
    func = call.func
    return (
        isinstance(func, ast.Attribute)
        and func.attr in _CHANGING
        and _place(func.value) is not None
    )


def _change(call: ast.Call, found: Found, reader: Reader) -> None:
    """Follow ``….update({…})`` on a dictionary of ours; every other call is a mistake."""
    assert isinstance(call.func, ast.Attribute)  # noqa: S101 - _is_change has looked
    place = _place(call.func.value)
    assert place is not None  # noqa: S101 - the same
    match call:
        case ast.Call(func=ast.Attribute(attr="update"), args=[ast.Dict() as more], keywords=[]):
            for key, value in zip(more.keys, more.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    _set((*place, key.value), value, found, reader)
                else:
                    _hidden(place, call.lineno, found, reader)
        case _:
            _hidden(place, call.lineno, found, reader)


def _look_for_hidden(node: ast.AST, found: Found, reader: Reader) -> None:
    """Note what sets one of our dictionaries where it cannot be followed: a loop, an if."""
    for below in ast.walk(node):
        match below:
            case ast.Attribute() | ast.Name() | ast.Subscript() if not isinstance(
                below.ctx, ast.Load
            ):
                section = _section(below)
            case ast.Call(func=ast.Attribute(attr=attribute, value=changed)) if (
                attribute in _CHANGING
            ):
                section = _section(changed)
            case _:
                continue
        if section is not None:
            _hidden((section,), below.lineno, found, reader)


def _hidden(place: Place, line: int, found: Found, reader: Reader) -> None:
    found.whole = False
    reader.lines.setdefault(place, line)
    reader.review.note(
        place,
        "a statement",
        f"line {line} changes it in a way that only running the file would tell",
        _PLAINLY,
    )


def _place(node: ast.expr) -> Place | None:
    """Return the place that an expression names: ``c.X.user_profiles["memo"]``, or None."""
    below: list[str] = []
    while isinstance(node, ast.Subscript):
        if not isinstance(node.slice, ast.Constant) or not isinstance(node.slice.value, str):
            return None
        below.insert(0, node.slice.value)
        node = node.value
    section = _section(node)
    return None if section is None else (section, *below)


def _section(node: ast.expr) -> str | None:
    """Return the dictionary of ours that an expression names, or in which it names something."""
    while isinstance(node, ast.Subscript):
        node = node.value
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in SECTIONS:
            return name
        case _:
            return None
