"""Amounts of memory and CPU: what people write, what the kernel counts.

Memory is counted in bytes. CPU is counted in microseconds of CPU time per second, systemd's
own unit (``CPUQuotaPerSecUSec``), so that sums of guarantees are exact: one core is 1_000_000.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final, NewType

from enforcer.errors import InvalidError

Bytes = NewType("Bytes", int)
"""An amount of memory, in bytes."""

Cpus = NewType("Cpus", int)
"""An amount of CPU, in microseconds of CPU time per second: 1_000_000 is one core."""

CORE: Final = Cpus(1_000_000)
KIB: Final = 1024
MIB: Final = KIB * 1024
GIB: Final = MIB * 1024
PAGE: Final = 4096
"""The kernel rounds memory limits down to whole pages (page_counter.c)."""
LEAST_CPU: Final = Cpus(10_000)
"""Docker takes no smaller CPU limit."""
LEAST_MEMORY: Final = Bytes(6 * MIB)
"""Docker takes no smaller memory limit."""

_MAX_BYTES: Final = 1 << 60
_MAX_CORES: Final = 100_000

# As in Docker, JupyterHub and systemd a bare letter is a power of 1024; with a B it is SI's.
_BYTE_UNITS: Final = {
    "": 1,
    "b": 1,
    **{unit: 1024**power for power, unit in enumerate("kmgt", start=1)},
    **{f"{unit}ib": 1024**power for power, unit in enumerate("kmgt", start=1)},
    **{f"{unit}b": 1000**power for power, unit in enumerate("kmgt", start=1)},
}
_QUANTITY: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*|%)\s*", re.ASCII)


def default_reserve(everything: Cpus) -> Cpus:
    """Return what stays with the host where nobody says otherwise: a tenth.

    But no more than one core, and no less than a quarter.
    """
    return Cpus(max(min(CORE, everything // 10), CORE // 4))


def parse_bytes(value: object, *, whole: Bytes | None = None) -> Bytes:
    """Parse an amount of memory: ``10`` (GiB), ``"10G"``, ``"40 GiB"``, ``"500 MB"``, ``"25%"``.

    A bare number is in GiB, as in the ancestor's profiles. A percentage is of `whole`, and is
    refused where there is no whole. The result is rounded down to whole pages.

    Raises:
        InvalidError: ``quantity.invalid`` for anything else: negative, NaN, huge, a boolean.
    """
    number, unit = _parse(value, "an amount of memory", 'such as 10 (GiB), "512 MiB" or "1.5G"')
    if unit == "%":
        if whole is None:
            raise _invalid(value, "an amount of memory", "a percentage has no meaning here")
        amount = number * whole / 100
    elif unit is None:
        amount = number * GIB
    elif unit.lower() in _BYTE_UNITS:
        amount = number * _BYTE_UNITS[unit.lower()]
    else:
        raise _invalid(
            value, "an amount of memory", f'"{unit}" is no unit: use KiB, MiB, GiB or TiB'
        )
    if amount > _MAX_BYTES:
        raise _invalid(value, "an amount of memory", "that is more than any machine has")
    return Bytes(int(amount) // PAGE * PAGE)


def parse_cpus(value: object, *, whole: Cpus | None = None) -> Cpus:
    """Parse an amount of CPU: ``2`` or ``"2"`` (cores), ``0.5``, ``"150%"`` (of one core).

    With `whole`, a percentage is of that; without, of one core, as in systemd's ``CPUQuota=``.

    Raises:
        InvalidError: ``quantity.invalid`` for anything else: negative, NaN, huge, a boolean.
    """
    number, unit = _parse(value, "an amount of CPU", 'in cores, such as 2, 0.5 or "150%"')
    if unit == "%":
        amount = number * (CORE if whole is None else whole) / 100
    elif unit in {None, ""}:
        amount = number * CORE
    else:
        raise _invalid(
            value, "an amount of CPU", f'"{unit}" is no unit: write cores or a percentage'
        )
    if amount > _MAX_CORES * CORE:
        raise _invalid(value, "an amount of CPU", "that is more than any machine has")
    return Cpus(int(amount))


def format_bytes(amount: int) -> str:
    """Format for people: ``"1.5 GiB"``, three significant digits at most."""
    size = float(amount)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1000:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB" if abs(size) < 1000 else f"{size:.0f} TiB"


def format_cpus(amount: int) -> str:
    """Format for people, in cores: ``"1.5"``, two decimals at most."""
    return f"{amount / CORE:.2f}".rstrip("0").rstrip(".")


def _parse(value: object, what: str, right: str) -> tuple[Decimal, str | None]:
    """Split into number and unit; the unit is None where a bare number was given."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _invalid(value, what, f"write {what} {right}")
    match = _QUANTITY.fullmatch(value if isinstance(value, str) else format(value))
    # repr of a very small or large float ("1e-07", "inf", "nan") does not match either
    if match is None or len(match[1]) > 30:
        raise _invalid(value, what, f"write {what} {right}")
    bare = not isinstance(value, str) or match[2] == ""
    return Decimal(match[1]), None if bare else match[2]


def _invalid(value: object, what: str, hint: str) -> InvalidError:
    shown = repr(value)
    if len(shown) > 60:
        shown = shown[:57] + "..."
    return InvalidError("quantity.invalid", f"{shown} is not {what}", hint)
