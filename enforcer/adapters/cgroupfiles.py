"""The kernel's cgroup v2 files: their names, and what their bytes mean.

Formats: Documentation/admin-guide/cgroup-v2.rst and accounting/psi.rst. Pure; a parser raises
ValueError for anything else than what those describe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from enforcer.model import PERIOD_USEC, Limits, Usage
from enforcer.quantities import CORE, Bytes, Cpus

MEMORY_STAT: Final = "memory.stat"
CGROUP_EVENTS: Final = "cgroup.events"

COUNTERS: Final = (
    "cpu.stat",
    "cpu.pressure",
    "memory.current",
    "memory.peak",
    "memory.swap.current",
    "memory.pressure",
    "io.pressure",
    "pids.current",
)
"""What changes all the time and tells nobody."""

FOLLOWERS: Final = frozenset({"memory.peak", "memory.swap.current"})
"""Those that stay as they are while the others do: nothing is swapped out, or was ever more,
without memory.current's having moved."""

SCOPE_COUNTERS: Final = ("cpu.stat", "memory.current", "pids.current")
"""Of a container only what the leaf above it does not tell."""

EVENT_COUNTS: Final = (
    "memory.events",
    "memory.events.local",
    "pids.events",
    "pids.events.local",
)
"""A cgroup at its limit moves these a hundred times a second, on every level above it too."""

NOTIFIED: Final = (CGROUP_EVENTS, *EVENT_COUNTS)
"""The kernel notifies whoever watches these, so they need reading after an event only."""


def parse_amount(raw: bytes) -> int:
    """``123``."""
    return int(raw)


def parse_limit(raw: bytes) -> int | None:
    """``123`` or ``max``."""
    return None if raw.strip() == b"max" else int(raw)


def parse_cpu_max(raw: bytes) -> Cpus | None:
    """``quota period`` or ``max period``, in microseconds."""
    quota, period = raw.split()
    return None if quota == b"max" else Cpus(int(quota) * CORE // int(period))


def parse_cpu_period(raw: bytes) -> int:
    """The period of `parse_cpu_max`, which without a quota means nothing."""
    quota, period = raw.split()
    return PERIOD_USEC if quota == b"max" else int(period)


def parse_io_weight(raw: bytes) -> int | None:
    """``default 100``, then a line for each device that differs."""
    word, weight, *_ = raw.split()
    if word != b"default":
        raise ValueError(word)
    return int(weight)


def parse_cpus(raw: bytes) -> str:
    """``0-3,7``; empty: as the parent has it."""
    return raw.strip().decode("ascii")


def parse_keyed(raw: bytes) -> dict[bytes, int]:
    """Lines of ``key value``."""
    words = raw.split()
    return dict(zip(words[::2], map(int, words[1::2]), strict=True))


def parse_pressure(raw: bytes) -> tuple[int, int]:
    """``some …total=N`` and perhaps ``full …total=N``: both totals, in microseconds.

    Kernels before 5.13 have no ``full`` line for the CPU.
    """
    some, _, full = raw.partition(b"\n")
    return int(some.rpartition(b"total=")[2]), int(full.rpartition(b"total=")[2] or 0)


def parse_inactive_file(raw: bytes) -> Bytes:
    """Find the one line of memory.stat that the working set needs."""
    start = raw.index(b"\ninactive_file ") + 15
    return Bytes(int(raw[start : raw.index(b"\n", start)]))


def _cpu_stat(raw: bytes) -> Mapping[str, int]:
    stat = parse_keyed(raw)
    # without the cpu controller only the first three lines are there
    return {
        "cpu_usec": stat[b"usage_usec"],
        "periods": stat.get(b"nr_periods", 0),
        "periods_throttled": stat.get(b"nr_throttled", 0),
        "throttled_usec": stat.get(b"throttled_usec", 0),
    }


def _memory_events(raw: bytes) -> Mapping[str, int]:
    events = parse_keyed(raw)
    return {
        "oom_kills": events[b"oom_kill"],
        "oom_events": events[b"oom"],
    }


def _memory_events_local(raw: bytes) -> Mapping[str, int]:
    events = parse_keyed(raw)
    return {"oom_local": events[b"oom"], "memory_high_local": events[b"high"]}


def _memory_pressure(raw: bytes) -> Mapping[str, int]:
    some, full = parse_pressure(raw)
    return {"memory_pressure_usec": some, "memory_pressure_full_usec": full}


USAGE_PARSERS: Final[Mapping[str, Callable[[bytes], Mapping[str, int]]]] = {
    "cpu.stat": _cpu_stat,
    "cpu.pressure": lambda raw: {"cpu_pressure_usec": parse_pressure(raw)[0]},
    "memory.current": lambda raw: {"memory_current": int(raw)},
    "memory.peak": lambda raw: {"memory_peak": int(raw)},
    "memory.swap.current": lambda raw: {"swap_current": int(raw)},
    "memory.stat": lambda raw: {"memory_inactive_file": parse_inactive_file(raw)},
    "memory.events": _memory_events,
    "memory.events.local": _memory_events_local,
    "memory.pressure": _memory_pressure,
    "io.pressure": lambda raw: {"io_pressure_usec": parse_pressure(raw)[0]},
    "pids.current": lambda raw: {"tasks": int(raw)},
    "pids.events": lambda raw: {"forks_refused": parse_keyed(raw)[b"max"]},
    "pids.events.local": lambda raw: {"forks_refused_local": parse_keyed(raw)[b"max"]},
    "cgroup.events": lambda raw: {"populated": parse_keyed(raw)[b"populated"]},
}
"""File → what it says, by the names of Usage's fields; and ``populated``, which is Cgroup's."""

PRESSURES: Final = frozenset(name for name in USAGE_PARSERS if name.endswith(".pressure"))

LIMIT_FIELDS: Final[Mapping[str, Mapping[str, Callable[[bytes], object]]]] = {
    "cpu.max": {"cpu_quota": parse_cpu_max, "cpu_period_usec": parse_cpu_period},
    "cpu.weight": {"cpu_weight": parse_amount},
    "memory.min": {"memory_min": parse_amount},
    "memory.high": {"memory_high": parse_limit},
    "memory.max": {"memory_max": parse_limit},
    "memory.swap.max": {"swap_max": parse_limit},
    "pids.max": {"tasks_max": parse_limit},
    "io.weight": {"io_weight": parse_io_weight},
    "cpuset.cpus": {"cpus": parse_cpus},
}
"""File → the fields of Limits it holds, each with its parser."""

FIELDS_OF: Final[Mapping[str, tuple[str, ...]]] = {
    "cpu.stat": ("cpu_usec", "periods", "periods_throttled", "throttled_usec"),
    "cpu.pressure": ("cpu_pressure_usec",),
    "memory.current": ("memory_current",),
    "memory.peak": ("memory_peak",),
    "memory.swap.current": ("swap_current",),
    "memory.stat": ("memory_inactive_file",),
    "memory.events": ("oom_kills", "oom_events"),
    "memory.events.local": ("oom_local", "memory_high_local"),
    "memory.pressure": ("memory_pressure_usec", "memory_pressure_full_usec"),
    "io.pressure": ("io_pressure_usec",),
    "pids.current": ("tasks",),
    "pids.events": ("forks_refused",),
    "pids.events.local": ("forks_refused_local",),
    "cgroup.events": ("populated",),
    **{name: tuple(fields) for name, fields in LIMIT_FIELDS.items()},
}
"""File → the fields that have no value when it is absent."""


def parse_file(name: str, raw: bytes) -> Mapping[str, object]:
    """Return what a file says, by the names of fields. Raises ValueError, KeyError, IndexError."""
    if name in LIMIT_FIELDS:
        return {field: parse(raw) for field, parse in LIMIT_FIELDS[name].items()}
    return USAGE_PARSERS[name](raw)


SCOPE_LIMITS: Final = (
    "cpu.max",
    "cpuset.cpus",
    "memory.high",
    "memory.max",
    "memory.swap.max",
    "pids.max",
)
"""What can keep a container from what its leaf has. A scope has no sibling there, so its weights
say nothing; and of protection it has what the leaf has, whatever its own floors
(cgroup-v2.rst, ``memory_recursiveprot``)."""

NO_LIMITS: Final = Limits()
NO_USAGE: Final = Usage()
