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
    single, tables = "", []
    for name, value in sections.items():
        if not isinstance(value, dict):
            single += f"{_key(name)} = {format_value(value)}\n"
        elif name not in _NAMED:
            tables.append(_table(_key(name), value))
        elif value and all(isinstance(one, dict) for one in value.values()):
            tables += [_table(f"{name}.{_key(key)}", one) for key, one in value.items()]
        else:
            # Of the wrong kind, which the reader of the document will say.
            single += f"{name} = {format_value(value)}\n"
    return "\n".join([single, *tables] if single else tables)


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
        case _:
            pairs = ", ".join(f"{_key(name)} = {format_value(one)}" for name, one in value.items())
            return f"{{ {pairs} }}" if pairs else "{}"


def quote(text: str) -> str:
    """Write a text so that nothing in it ends the text, or is anything but itself."""
    written = (
        one if one.isprintable() and one not in '"\\' else f"\\U{ord(one):08x}" for one in text
    )
    return f'"{"".join(written)}"'


def _table(head: str, values: Value) -> str:
    assert isinstance(values, dict)  # noqa: S101 - the caller has looked
    lines = [f"{_key(name)} = {format_value(one)}\n" for name, one in values.items()]
    return f"[{head}]\n{''.join(lines)}"


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else quote(name)
