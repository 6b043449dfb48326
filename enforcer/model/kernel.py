"""What the kernel and Docker show."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from enforcer.names import UnitName
from enforcer.quantities import Bytes, Cpus

PERIOD_USEC: Final = 100_000
"""How often a CPU quota begins anew: the kernel's, systemd's and Docker's own number."""

DEFAULT_IO_WEIGHT: Final = 100
"""What a cgroup has in the kernel while nobody says otherwise, where there are I/O weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the kernel enforces on one cgroup; None is the kernel's ``max`` (no limit).

    Memory in bytes, whole pages. `io_weight` None: the controller is not there or not used.
    `cpus` is the kernel's cpuset list, empty for all (AllowedCPUs, cpuset.cpus).
    """

    cpu_quota: Cpus | None = None
    cpu_period_usec: int = PERIOD_USEC
    """Without a quota it says nothing, whatever the kernel has."""
    cpu_weight: int = 100
    memory_min: Bytes = Bytes(0)
    memory_high: Bytes | None = None
    memory_max: Bytes | None = None
    swap_max: Bytes | None = None
    tasks_max: int | None = None
    io_weight: int | None = None
    cpus: str = ""

    def changed_from(self, other: Limits) -> tuple[str, ...]:
        """Return the names of the fields that differ."""
        if self is other:
            return ()
        return tuple(name for name in _LIMITS if getattr(self, name) != getattr(other, name))


_LIMITS: Final = tuple(one.name for one in dataclasses.fields(Limits))


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """One reading of a cgroup's counters. Times are microseconds since the cgroup was made."""

    cpu_usec: int = 0
    throttled_usec: int = 0
    """cpu.stat: how long this level's own quota held it back."""
    periods: int = 0
    periods_throttled: int = 0
    memory_current: Bytes = Bytes(0)
    memory_peak: Bytes = Bytes(0)
    memory_inactive_file: Bytes = Bytes(0)
    swap_current: Bytes = Bytes(0)
    tasks: int = 0
    forks_refused: int = 0
    """pids.events ``max``: tasks refused at the limit of this cgroup, or of one below it. Before
    Linux 6.11: those that were tried in this very cgroup, whoever's limit it was."""
    forks_refused_local: int = 0
    """pids.events.local ``max``: tasks refused at this very cgroup's limit. From Linux 6.11 on."""
    oom_kills: int = 0
    """memory.events ``oom_kill``: processes killed in it or below, whoever's limit was hit."""
    oom_events: int = 0
    """memory.events ``oom``: how often the limit of this cgroup, or of one below it, was hit."""
    oom_local: int = 0
    """memory.events.local ``oom``: how often this very cgroup's limit was hit."""
    memory_high_local: int = 0
    """memory.events.local ``high``: how often this very cgroup's throttle slowed a task down."""
    cpu_pressure_usec: int = 0
    """PSI ``some`` total: at least one task was runnable and had to wait."""
    memory_pressure_usec: int = 0
    memory_pressure_full_usec: int = 0
    io_pressure_usec: int = 0

    @property
    def working_set(self) -> Bytes:
        """Memory less the page cache that can go at once: what "full" is judged by."""
        return Bytes(max(0, self.memory_current - self.memory_inactive_file))


@dataclass(frozen=True, slots=True, kw_only=True)
class HostUsage(Usage):
    """One reading of the whole machine's counters.

    Its `cpu_usec` is counted by the timer, which says at each tick what runs. An emulated or very
    busy machine loses ticks: with two CPUs that never rested, readings were 1.79 to 1.97 cores.
    """

    idle_usec: int | None = None
    """How long CPUs had nothing to run, all of them together (proc_stat(5), idle and iowait): taken
    from clocks, so it is right to 10 ms. None: the kernel does not tell."""
    waiting_usec: int | None = None
    """How long tasks outside jupyter.slice had to wait for a CPU, or for their quota: PSI ``some``
    of the other top-level cgroups, added up. None: the kernel does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cgroup:
    """One slice as the kernel has it."""

    unit: UnitName
    limits: Limits
    usage: Usage
    populated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerLimits:
    """A container's own limits, Docker's numbers; None is no limit."""

    cpu: Cpus | None = None
    cpu_period_usec: int = PERIOD_USEC
    memory: Bytes | None = None
    swap: Bytes | None = None
    """Swap alone (Docker's memory-swap less its memory); None: no limit."""
    tasks: int | None = None
    memory_high: Bytes | None = None
    """Docker has no word for it."""
    cpus: str = ""
    """As in `Limits`; to whoever sets them, empty is to leave them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container as Docker and the kernel show it.

    `lease_id` is its label, worth something only when the ledger knows it. `scope` is the path of
    its cgroup below the mount point, None when it does not run. `kernel`: the limits of that scope.
    `starting`: Docker is at work on it, and its scope may be there already: what is written to that
    now gets in the way.
    `unread`: why Docker tells no more of it than its list does: then what else it told is old, and
    a stopped one without parent may have any; empty when it was inspected.
    """

    id: str
    name: str
    image: str
    running: bool
    cgroup_parent: str
    lease_id: str | None = None
    pid: int | None = None
    created_at: float = 0.0
    scope: str | None = None
    starting: bool = False
    docker: ContainerLimits = ContainerLimits()
    kernel: ContainerLimits | None = None
    oom_score_adj: int | None = None
    usage: Usage | None = None
    unread: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnginePlace:
    """Where a service of the engine really runs: the cgroup of ``docker.service``, say."""

    service: str
    cgroup: str | None
    """Below the mount point; None when it does not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One snapshot of the world.

    taken_at: monotonic seconds, for rates. at: Unix seconds, for people. cgroups: every slice
    found under jupyter.slice, itself included. containers: None while Docker does not answer;
    then nothing is concluded about them. host_weights: cpu.weight of the other top-level cgroups.
    """

    taken_at: float
    at: float
    cgroups: Mapping[UnitName, Cgroup]
    containers: Mapping[str, Container] | None
    engine: tuple[EnginePlace, ...] = ()
    host_weights: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    host: HostUsage = HostUsage()
    """The whole machine: CPU time used, memory in use, PSI; the rest is zero."""
    drift_seen_at: Mapping[UnitName, float] = field(default_factory=lambda: MappingProxyType({}))
    """Unit whose control files were written since the last snapshot → monotonic seconds of that."""
    stopped: frozenset[str] = frozenset()
    """Containers that somebody has stopped through Docker; others that are gone ended alone."""
    scopes: frozenset[str] = frozenset()
    """Cgroups, below the mount point, of the containers that run, as long as Docker tells of none:
    they run on."""
    unlasting: frozenset[UnitName] = frozenset()
    """Slices of unit files for which nothing is on disk: their limits would not outlive a boot."""
