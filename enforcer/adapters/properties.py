"""Limits as systemd's properties (systemd.resource-control(5), org.freedesktop.systemd1(5))."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Final

from enforcer.model import Limits
from enforcer.quantities import PAGE

INFINITY: Final = 2**64 - 1
"""``infinity`` of every property of type t; CPUQuotaPerSecUSec's too."""

ACCOUNTING: Final[Mapping[str, bool]] = {
    "CPUAccounting": True,
    "MemoryAccounting": True,
    "TasksAccounting": True,
    "IOAccounting": True,
}
FIELDS: Final = tuple(field.name for field in dataclasses.fields(Limits))

_PROPERTIES: Final = {
    "cpu_quota": "CPUQuotaPerSecUSec",
    "cpu_period_usec": "CPUQuotaPeriodUSec",
    "cpu_weight": "CPUWeight",
    "memory_min": "MemoryMin",
    "memory_high": "MemoryHigh",
    "memory_max": "MemoryMax",
    "swap_max": "MemorySwapMax",
    "tasks_max": "TasksMax",
}
_QUOTA_GRAIN: Final = 10
"""systemd writes quotas per 100 ms, so a µs per second is lost below this."""
_DEFAULTS: Final = Limits()


def properties(limits: Limits, fields: Iterable[str]) -> dict[str, object]:
    """Return the properties that say the named fields, as JSON can carry them.

    An `io_weight` of None is left out: there is nothing to say about it.
    """
    found: dict[str, object] = {}
    for field in fields:
        value = getattr(limits, field)
        if field == "cpus":
            found["AllowedCPUs"] = list(cpu_mask(value))
        elif field == "io_weight":
            if value is not None:
                found["IOWeight"] = value
        else:
            found[_PROPERTIES[field]] = INFINITY if value is None else value
    return found


def disagreeing(
    limits: Limits, fields: Iterable[str], found: Mapping[str, object]
) -> tuple[str, ...]:
    """Return those of the fields for which the kernel has something else than `limits`.

    found: what the kernel's files say (`read_limits`). A field that is missing there agrees with
    the kernel's default only; but I/O weights are nice to have, and many kernels have none.
    """
    return tuple(
        field
        for field in fields
        if not _agrees(field, getattr(limits, field), found.get(field, _missing(field)))
    )


def parse_cpu_list(text: str) -> frozenset[int]:
    """``0-3,7`` as the set of its numbers (cpuset(7), list format); empty for an empty list.

    Raises:
        ValueError: for anything else.
    """
    numbers: set[int] = set()
    for part in text.split(",") if text.strip() else ():
        first, dash, last = part.partition("-")
        numbers.update(range(int(first), int(last if dash else first) + 1))
    return frozenset(numbers)


def cpu_mask(text: str) -> bytes:
    """Return a CPU list as AllowedCPUs has it: bit n of byte m is CPU 8·m + n."""
    return sum(1 << number for number in parse_cpu_list(text)).to_bytes(
        max(parse_cpu_list(text), default=-1) // 8 + 1, "little"
    )


def _agrees(field: str, wanted: object, found: object) -> bool:
    match field, wanted, found:
        case "io_weight", _, _:
            return wanted is None or found in {None, wanted}
        case "cpus", str(), str():
            return parse_cpu_list(wanted) == parse_cpu_list(found)
        case "cpu_quota", int(), int():
            # under 10 ms per second the kernel's smallest quota makes systemd stretch the period
            return abs(wanted - found) <= max(_QUOTA_GRAIN, wanted // 1000)
        case (("memory_min" | "memory_high" | "memory_max" | "swap_max"), int(), int()):
            return wanted // PAGE == found // PAGE
        case _:
            return wanted == found


def _missing(field: str) -> object:
    return getattr(_DEFAULTS, field)
