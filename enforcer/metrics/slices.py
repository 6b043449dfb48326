"""The metrics of slices: of each lease, each profile, and the fixed parts of the tree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from enforcer.model import Cgroup, Published
from enforcer.names import ADOPTED, ENGINE, ROOT, WORKLOAD, UnitName
from enforcer.places import Kind, places, promised_below
from enforcer.quantities import CORE
from enforcer.room import NOTHING, Amount

_PARTS: Final = {ROOT: "all", ENGINE: "engine", WORKLOAD: "workload", ADOPTED: "adopted"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slice:
    """One slice with all that its metrics are made of."""

    cgroup: Cgroup
    labels: tuple[str, ...]
    guarantee: Amount
    cpu_limit: int | None
    cpu_cap: int | None


@dataclass(frozen=True, slots=True)
class _Number:
    """One metric of a slice; `read` gives None where there is nothing to tell."""

    name: str
    help: str
    read: Callable[[_Slice], float | None]
    counter: bool = False


def _usec(read: Callable[[Cgroup], int]) -> Callable[[_Slice], float]:
    return lambda one: read(one.cgroup) / 1e6


def _cores(amount: int | None) -> float | None:
    return None if amount is None else amount / CORE


_NUMBERS: Final = (
    _Number("cpu_limit_cores", "CPU limit.", lambda one: _cores(one.cpu_limit)),
    _Number("cpu_cap_cores", "CPU cap in force below the limit.", lambda one: _cores(one.cpu_cap)),
    _Number("cpu_guarantee_cores", "Guaranteed CPU.", lambda one: one.guarantee.cpu / CORE),
    _Number("cpu_weight", "Share of CPU under contention.", lambda o: o.cgroup.limits.cpu_weight),
    _Number("memory_limit_bytes", "Memory limit.", lambda one: one.cgroup.limits.memory_max),
    _Number(
        "memory_throttle_bytes",
        "Memory beyond which who takes more is slowed down (MemoryHigh).",
        lambda one: one.cgroup.limits.memory_high,
    ),
    _Number("memory_guarantee_bytes", "Guaranteed memory.", lambda one: one.guarantee.memory),
    _Number("swap_limit_bytes", "Swap limit.", lambda one: one.cgroup.limits.swap_max),
    _Number("tasks_limit", "Limit of tasks.", lambda one: one.cgroup.limits.tasks_max),
    _Number("memory_bytes", "Memory in use.", lambda one: one.cgroup.usage.memory_current),
    _Number(
        "memory_working_set_bytes",
        "Memory in use, less the page cache that can go at once.",
        lambda one: one.cgroup.usage.working_set,
    ),
    _Number("memory_peak_bytes", "Most memory ever in use.", lambda o: o.cgroup.usage.memory_peak),
    _Number("swap_bytes", "Swap in use.", lambda one: one.cgroup.usage.swap_current),
    _Number("tasks", "Tasks.", lambda one: one.cgroup.usage.tasks),
    _Number("cpu_seconds", "CPU time used.", _usec(lambda one: one.usage.cpu_usec), counter=True),
    _Number(
        "cpu_throttled_seconds",
        "Time that its own CPU quota held tasks back, summed over CPUs.",
        _usec(lambda one: one.usage.throttled_usec),
        counter=True,
    ),
    _Number(
        "cpu_periods",
        "Periods of its own CPU quota.",
        lambda one: one.cgroup.usage.periods,
        counter=True,
    ),
    _Number(
        "cpu_throttled_periods",
        "Periods in which its own CPU quota ran out.",
        lambda one: one.cgroup.usage.periods_throttled,
        counter=True,
    ),
    _Number(
        "cpu_pressure_seconds",
        "Time in which a task waited for CPU (PSI some).",
        _usec(lambda one: one.usage.cpu_pressure_usec),
        counter=True,
    ),
    _Number(
        "memory_pressure_seconds",
        "Time in which a task waited for memory (PSI some).",
        _usec(lambda one: one.usage.memory_pressure_usec),
        counter=True,
    ),
    _Number(
        "memory_stalled_seconds",
        "Time in which all tasks waited for memory (PSI full).",
        _usec(lambda one: one.usage.memory_pressure_full_usec),
        counter=True,
    ),
    _Number(
        "io_pressure_seconds",
        "Time in which a task waited for input or output (PSI some).",
        _usec(lambda one: one.usage.io_pressure_usec),
        counter=True,
    ),
    _Number(
        "memory_throttle_hits",
        "How often a task was slowed down at its own memory throttle.",
        lambda one: one.cgroup.usage.memory_high_local,
        counter=True,
    ),
    _Number(
        "tasks_refused",
        "Tasks refused at its limit of tasks or at one below (counted from Linux 6.11 on).",
        lambda one: one.cgroup.usage.forks_refused,
        counter=True,
    ),
    _Number(
        "oom_kills",
        "Processes killed in it for want of memory, whoever's limit was hit.",
        lambda one: one.cgroup.usage.oom_kills,
        counter=True,
    ),
    _Number(
        "oom_limit_hits",
        "How often its own memory limit was hit and nothing could be reclaimed.",
        lambda one: one.cgroup.usage.oom_local,
        counter=True,
    ),
)


def slice_metrics(published: Published) -> Iterable[Metric]:
    """Yield them all; of leases and profiles those whose slice is there."""
    by_kind = _slices(published)
    yield from _families("enforcer_lease", ("profile", "user", "server"), by_kind[Kind.LEASE])
    yield from _families("enforcer_profile", ("profile",), by_kind[Kind.PROFILE])
    yield from _families("enforcer_tree", ("part",), by_kind[Kind.ROOT])


def _slices(published: Published) -> Mapping[Kind, list[_Slice]]:
    """Return the slices that have metrics: leases, profiles, and under ROOT the fixed parts."""
    found: dict[Kind, list[_Slice]] = {Kind.LEASE: [], Kind.PROFILE: [], Kind.ROOT: []}
    promised = promised_below(published.leases)
    for unit, place in places(published.config, published.leases).items():
        cgroup = published.observed.cgroups.get(unit)
        if cgroup is None:
            continue
        if place.lease is not None:
            kind = Kind.LEASE
            labels: tuple[str, ...] = (place.lease.profile, place.lease.user, place.lease.server)
        elif place.kind is Kind.PROFILE:
            kind, labels = Kind.PROFILE, (place.profile or "",)
        elif unit in _PARTS:
            kind, labels = Kind.ROOT, (_PARTS[unit],)
        else:
            continue
        limit = place.lease.grant.cpu_limit if place.lease else _cpu_limit(published, unit)
        found[kind].append(
            _Slice(
                cgroup=cgroup,
                labels=tuple(printable(label) for label in labels),
                guarantee=promised.get(unit, NOTHING),
                cpu_limit=limit,
                cpu_cap=published.caps.get(unit),
            )
        )
    return found


def _cpu_limit(published: Published, unit: UnitName) -> int | None:
    desired = published.desired.slices.get(unit)
    limits = desired.limits if desired else published.observed.cgroups[unit].limits
    return limits.cpu_quota


def _families(prefix: str, labels: Sequence[str], slices: Sequence[_Slice]) -> Iterable[Metric]:
    for number in _NUMBERS:
        make = CounterMetricFamily if number.counter else GaugeMetricFamily
        family = make(f"{prefix}_{number.name}", number.help, labels=labels)
        for one in slices:
            value = number.read(one)
            if value is not None:
                family.add_metric(one.labels, value)
        yield family


def printable(label: str) -> str:
    """A name from the ledger may hold what has no UTF-8 form; one such must not end all scrapes."""
    return label.encode(errors="backslashreplace").decode()
