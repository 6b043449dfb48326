"""Which statements of the program set our dictionaries, and to what."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from enforcer.ancestor.literals import PLAINLY, Nothing, Reader
from enforcer.ancestor.objects import SECTIONS, Objects, Path, path_of, root_of
from enforcer.ancestor.toml import Value
from enforcer.config.mistakes import Place, Review

_CHANGING: Final = frozenset(
    {"update", "setdefault", "pop", "popitem", "clear", "append", "extend", "insert", "remove"}
)


@dataclass(slots=True)
class Found:
    """What the program sets, and where each value stands; `whole`: nothing was unreadable."""

    sections: dict[str, Value] = field(default_factory=dict)
    whole: bool = True


def gather(tree: ast.Module, review: Review, lines: dict[Place, int]) -> Found:
    """Follow the statements from top to bottom, as Python would; mistakes go into the review."""
    objects = Objects()
    reader = Reader(review=review, lines=lines, doubted=objects.doubted)
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=targets, value=value):
                _assign(targets, value, objects, reader)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                _assign([target], value, objects, reader)
            case ast.AnnAssign(value=None):
                pass
            case ast.Expr(value=ast.Call(func=ast.Attribute(attr=attribute)) as call) if (
                attribute in _CHANGING
            ):
                _change(call, objects, reader)
            case _:
                _look_for_hidden(statement, objects, reader)
    return _read(objects, reader)


def _read(objects: Objects, reader: Reader) -> Found:
    """Read the dictionaries as they are when the program ends."""
    found = Found()
    for name in SECTIONS:
        node = objects.find((name,))
        if node is not None:
            value = reader.read(node, (name,))
            if isinstance(value, Nothing):
                found.whole = False
            else:
                found.sections[name] = value
    found.whole = found.whole and not reader.hidden
    return found


def _assign(targets: Iterable[ast.expr], value: ast.expr, objects: Objects, reader: Reader) -> None:
    _look_for_hidden(value, objects, reader)
    settled = objects.settle(value)
    for target in targets:
        path = path_of(target)
        if path is None:
            _look_for_hidden(target, objects, reader)
        else:
            _set(path, settled, target.lineno, objects, reader)


def _set(path: Path, value: ast.expr, line: int, objects: Objects, reader: Reader) -> None:
    if objects.put(path, value):
        return
    if path[0] in SECTIONS:
        reader.lines[path] = line
        reader.review.note(
            path, "nothing", f"set below {path[-2]!r}, which is no dictionary", PLAINLY
        )
    else:
        objects.doubt(path, line)


def _change(call: ast.Call, objects: Objects, reader: Reader) -> None:
    """Follow ``….update({…})`` with what stands there as such; every other change is hidden."""
    match call:
        case ast.Call(
            func=ast.Attribute(attr="update", value=changed),
            args=[ast.Dict() as more],
            keywords=[],
        ) if (path := path_of(changed)) and (entries := _entries(more)) is not None:
            _look_for_hidden(more, objects, reader)
            for key, value in entries:
                _set((*path, key), objects.settle(value), value.lineno, objects, reader)
        case _:
            _look_for_hidden(call, objects, reader)


def _entries(table: ast.Dict) -> list[tuple[str, ast.expr]] | None:
    """Return the keys and values of a dictionary; None if not all of its keys are texts."""
    found: list[tuple[str, ast.expr]] = []
    for key, value in zip(table.keys, table.values, strict=True):
        if not isinstance(key, ast.Constant) or not isinstance(key.value, str):
            return None
        found.append((key.value, value))
    return found


def _look_for_hidden(node: ast.AST, objects: Objects, reader: Reader) -> None:
    """Note what changes a dictionary where it cannot be followed: a loop, an if."""
    for name, line in (*_changes(node), *_changes_by_loops(node)):
        if name in SECTIONS:
            reader.hide((name,), line)
        else:
            objects.doubt((name,), line)


def _changes(node: ast.AST) -> Iterator[tuple[str, int]]:
    """Find the names that something below is assigned to or calls a changing method of."""
    for below in ast.walk(node):
        match below:
            case ast.Attribute() | ast.Name() | ast.Subscript() if not isinstance(
                below.ctx, ast.Load
            ):
                name = root_of(below)
            case ast.Call(func=ast.Attribute(attr=attribute, value=changed)) if (
                attribute in _CHANGING
            ):
                name = root_of(changed)
            case _:
                continue
        if name is not None:
            yield name, below.lineno


def _changes_by_loops(node: ast.AST) -> Iterator[tuple[str, int]]:
    """Find what a loop goes over, where it changes what it finds: ``for one in mine.values()``."""
    for loop in ast.walk(node):
        if isinstance(loop, ast.For):
            found = {one.id for one in ast.walk(loop.target) if isinstance(one, ast.Name)}
            lines = [line for below in loop.body for name, line in _changes(below) if name in found]
            for one in ast.walk(loop.iter) if lines else ():
                name = root_of(one) if isinstance(one, ast.Name | ast.Attribute) else None
                if name is not None:
                    yield name, lines[0]
