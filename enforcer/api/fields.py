"""How requests write amounts and names: checked where they come in, every mistake told at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from enforcer.errors import InvalidError
from enforcer.names import MAX_NAME_CHARACTERS, check_name
from enforcer.quantities import PAGE, Bytes, Cpus, parse_bytes, parse_cpus

MISTAKE: Final = "enforcer"
"""The type of pydantic's error that carries one of ours: code, message and hint in its context."""


def _checked(check: Callable[[object], object]) -> BeforeValidator:
    """Let pydantic collect our errors, so that one reply tells of every mistake."""

    def validate(value: object) -> object:
        if value is None:
            return None
        try:
            return check(value)
        except InvalidError as error:
            told = {"code": error.code, "message": error.message, "hint": error.hint}
            raise PydanticCustomError(MISTAKE, "{message}", told) from None

    return BeforeValidator(validate)


def _cpus(value: object) -> Cpus:
    return parse_cpus(value)


def _bytes(value: object) -> Bytes:
    """Unlike in the configuration a number is in bytes here, and a text needs its unit."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = f"{value}B"
    elif not isinstance(value, str) or value.strip()[-1:].isdecimal():
        raise InvalidError(
            "quantity.invalid",
            f"{_shown(value)} is not an amount of memory",
            'write whole bytes as a number, or a text with a unit such as "10 GiB"',
        )
    return parse_bytes(value)


def _positive(parse: Callable[[object], int], least: str) -> Callable[[object], int]:
    def check(value: object) -> int:
        amount = parse(value)
        if amount <= 0:
            raise InvalidError(
                "limit.not-positive",
                f"a limit of {_shown(value)} would stop everything",
                f"write at least {least}, or leave the key out",
            )
        return amount

    return check


def _name(what: str) -> BeforeValidator:
    def check(value: object) -> object:
        return check_name(value, what) if isinstance(value, str) else value

    return _checked(check)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _amount(what: str, *kinds: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [*kinds], "description": what})


_CPU_SCHEMA: Final = _amount(
    'Cores, or a percentage of one core as text: 1.5 or "150%".',
    {"type": "number", "minimum": 0},
    {"type": "string", "examples": ["150%", "1.5"]},
)
_MEMORY_SCHEMA: Final = _amount(
    'Bytes, or a text with a unit: 1073741824 or "1 GiB". Rounded down to whole pages.',
    {"type": "integer", "minimum": 0},
    {"type": "string", "examples": ["10 GiB", "512 MiB"]},
)


def _name_schema(least: int) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "minLength": least, "maxLength": MAX_NAME_CHARACTERS})


CpuLimit = Annotated[Cpus, _checked(_positive(_cpus, "0.01")), _CPU_SCHEMA]
CpuGuarantee = Annotated[Cpus, _checked(_cpus), _CPU_SCHEMA]
MemoryLimit = Annotated[Bytes, _checked(_positive(_bytes, f"{PAGE} bytes")), _MEMORY_SCHEMA]
MemoryGuarantee = Annotated[Bytes, _checked(_bytes), _MEMORY_SCHEMA]
UserName = Annotated[str, _name("user"), _name_schema(1)]
ServerName = Annotated[str, _name("server"), _name_schema(0)]
ProfileName = Annotated[str, _name("profile"), _name_schema(1)]
ImageName = Annotated[str, _name("image"), _name_schema(1)]
GroupName = Annotated[str, _name("group"), _name_schema(1)]
