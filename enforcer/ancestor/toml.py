"""Plain values as an enforcer.toml, in their order; what is of the wrong kind stays so."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

Value = bool | int | float | str | list["Value"] | dict[str, "Value"]
"""What both languages have."""

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_NAMED: Final = ("resource_profiles", "user_profiles")
"""Each of their entries is a [section] of its own."""


def format_document(sections: Mapping[str, Value]) -> str:
    """Write a document: single values first, as TOML wants it, then a section for each table."""
    single = [
        f"{_key(name)} = {format_value(value)}\n"
        for name, value in sections.items()
        if not isinstance(value, dict)
    ]
    tables = [
        _sections(name, value) if name in _NAMED else _table(_key(name), value)
        for name, value in sections.items()
        if isinstance(value, dict)
    ]
    return "\n".join(["".join(single), *tables] if single else tables)


def format_value(value: Value) -> str:
    """Write one value on one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            return quote(value)
        case list():
            return f"[{', '.join(map(format_value, value))}]"
        case dict():
            pairs = ", ".join(f"{_key(name)} = {format_value(one)}" for name, one in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"


def quote(text: str) -> str:
    """Write a text so that nothing in it ends the text, or is anything but itself."""
    written = (
        one if one.isprintable() and one not in '"\\' else f"\\U{ord(one):08x}" for one in text
    )
    return f'"{"".join(written)}"'


def _sections(name: str, entries: dict[str, Value]) -> str:
    parts = []
    for key, value in entries.items():
        head = f"{_key(name)}.{_key(key)}"
        if not isinstance(value, dict):
            # Of the wrong kind, which the reader of the document will say.
            return f"{_key(name)} = {format_value(entries)}\n"
        parts.append(_table(head, value))
    return "\n".join(parts) or f"[{_key(name)}]\n"


def _table(head: str, values: dict[str, Value]) -> str:
    lines = [f"{_key(name)} = {format_value(one)}\n" for name, one in values.items()]
    return f"[{head}]\n{''.join(lines)}"


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else quote(name)
