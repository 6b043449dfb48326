"""What the names of a Python program stand for.

Where a program has two names for one object, they have one node here. It is changed in place, as
the object would be, so whoever has it sees the change.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Final

SECTIONS: Final = ("volumes_ro", "resource_profiles", "docker_profiles", "user_profiles")
"""The dictionaries of ours, known by the last word of their names."""

Path = tuple[str, ...]
"""A name and keys below it: ``mine["Small"]["cpu_limit"]``."""


class Objects:
    """The nodes that the names stand for at one moment of the program."""

    def __init__(self) -> None:
        self._named: dict[str, ast.expr] = {}
        self._doubted: dict[ast.expr, int] = {}

    @property
    def doubted(self) -> Mapping[ast.expr, int]:
        """What was changed in a way that cannot be followed, and the line that does so."""
        return self._doubted

    def find(self, path: Sequence[str]) -> ast.expr | None:
        """Return what a path names; None if that is not known."""
        name, *keys = path
        found = self._named.get(name)
        for key in keys:
            if not isinstance(found, ast.Dict):
                return None
            index = _index(found, key)
            found = None if index is None else found.values[index]
        return found

    def put(self, path: Path, value: ast.expr) -> bool:
        """Let a name, or an entry of a dictionary, be a value; false: it is in no dictionary."""
        *above, last = path
        if not above:
            self._named[last] = value
            return True
        holder = self.find(above)
        if not isinstance(holder, ast.Dict):
            return False
        index = _index(holder, last)
        if index is None:
            holder.keys.append(ast.Constant(last))
            holder.values.append(value)
        else:
            holder.values[index] = value
        return True

    def doubt(self, path: Path, line: int) -> None:
        """Note that a line changes what a path names, or the nearest that is known above it."""
        for length in range(len(path), 0, -1):
            node = self.find(path[:length])
            if node is not None:
                self._doubted.setdefault(node, line)
                return

    def settle(self, value: ast.expr) -> ast.expr:
        """Return what an expression is at this moment, with what its names stand for in it."""
        match value:
            case ast.Name() | ast.Attribute() | ast.Subscript():
                path = path_of(value)
                return (None if path is None else self.find(path)) or value
            case ast.Dict():
                # What is merged in (**) stays as it is written: it has to be computed anyway.
                value.values = [
                    one if key is None else self.settle(one)
                    for key, one in zip(value.keys, value.values, strict=True)
                ]
            case ast.List() | ast.Tuple() | ast.Set():
                value.elts = [self.settle(one) for one in value.elts]
            case ast.Call(func=ast.Name(id="dict"), args=[], keywords=given):
                keys: list[ast.expr | None] = [
                    None if one.arg is None else ast.Constant(one.arg) for one in given
                ]
                table = ast.Dict(keys, [one.value for one in given])
                return self.settle(ast.copy_location(table, value))
        return value


def path_of(node: ast.expr) -> Path | None:
    """Return the path of ``mine["Small"]`` or ``c.X.user_profiles["memo"]``; None: it has none."""
    below: list[str] = []
    while isinstance(node, ast.Subscript):
        if not isinstance(node.slice, ast.Constant) or not isinstance(node.slice.value, str):
            return None
        below.insert(0, node.slice.value)
        node = node.value
    name = root_of(node)
    return None if name is None else (name, *below)


def root_of(node: ast.expr) -> str | None:
    """Return the variable, or the dictionary of ours, that an expression names or that holds it."""
    while isinstance(node, ast.Subscript):
        node = node.value
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(attr=name) if name in SECTIONS:
            return name
        case _:
            return None


def _index(node: ast.Dict, key: str) -> int | None:
    """Return where a key is; of two that are the same the last one counts, as in Python."""
    for index in range(len(node.keys) - 1, -1, -1):
        match node.keys[index]:
            case ast.Constant(value=found) if found == key:
                return index
    return None
