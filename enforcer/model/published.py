"""What a tick leaves for metrics, status, explain and the pages."""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from enforcer.model.config import Config
from enforcer.model.desired import Deferred, Desired, ReportDrift
from enforcer.model.kernel import Observed
from enforcer.model.leases import Lease
from enforcer.names import UnitName
from enforcer.quantities import Bytes, Cpus


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What a slice used over one tick, as rates. When that was is kept beside it.

    For who does nothing has the same sample again and again, and then it is one value.
    """

    cpu: Cpus
    """Used."""
    memory: Bytes
    """Working set."""
    throttled: float
    """Share of the tick, 0 to 1, in which a quota (its own or one above) held it back."""
    cpu_pressure: float
    memory_pressure: float
    io_pressure: float
    """PSI ``some``: share of the tick, 0 to 1, in which a task had to wait."""
    oom_kills: int
    oom_own: int = 0
    """How many of them at the lease's own limit, as its receipt will count them."""
    cpu_limit: Cpus | None = None
    """What was granted, a cap in force left aside; None: it is no lease's slice."""
    mem_limit: Bytes | None = None
    """In force when these kills were counted; None: there is none, or it is no lease's slice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseHistory:
    """The last samples of a lease, each with its Unix seconds, the oldest first."""

    user: str
    ended: bool
    samples: tuple[tuple[float, Sample], ...]


class Hold(enum.StrEnum):
    """Which limit of a level holds back a server in it."""

    CPU = "cpu"
    MEMORY = "memory"
    KILL = "memory-kill"
    """Its memory limit too: it was hit in the last tick, and somebody died of it."""
    MEMORY_THROTTLE = "memory-throttle"
    TASKS = "tasks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """One drift that was found, and undone unless only an operator can."""

    at: float
    subject: str
    """Unit, or ``container`` and its name."""
    what: str
    """The field of Limits or ContainerLimits (``memory_max``), or ``on disk``."""
    found: str
    """As people read it: ``1 GiB``, ``0.5 cores``, ``no limit``."""
    wanted: str
    seconds: float | None
    """From the event that showed it to the kernel holding the right value; None: not repaired."""
    command: str = ""


REPAIR_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds, each the most that a repair of its bucket took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairTimes:
    """How long all repairs since the start took, though of the repairs only the last are kept."""

    counts: tuple[int, ...] = (0,) * (len(REPAIR_BUCKETS) + 1)
    """Of each bucket; the last one has those that took longer."""
    total_seconds: float = 0.0

    def with_one(self, seconds: float) -> RepairTimes:
        """Return these and one more."""
        bucket = bisect_left(REPAIR_BUCKETS, seconds)
        counts = (*self.counts[:bucket], self.counts[bucket] + 1, *self.counts[bucket + 1 :])
        return RepairTimes(counts=counts, total_seconds=self.total_seconds + seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The reply to an admitted claim: where to put the container, and with which arguments.

    The arguments are Docker's (HostConfig): what it is told equals what the leaf enforces, so that
    tools inside the container see it. Bytes and counts; nano_cpus as Docker counts them.
    """

    slice: UnitName
    image: str
    labels: Mapping[str, str]
    nano_cpus: int
    memory: Bytes
    memory_swap: int
    """Docker's: memory plus swap."""
    pids_limit: int | None
    shm_size: Bytes | None
    oom_score_adj: int
    volumes_ro: tuple[str, ...]
    home: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TickStats:
    """What the ticks cost. Durations in seconds."""

    ticks: int = 0
    failed: int = 0
    observe_seconds: float = 0.0
    decide_seconds: float = 0.0
    act_seconds: float = 0.0
    """The last tick's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What metrics, status and history are made of: the last tick's whole picture.

    rates: unit → its last Sample, for every slice, over the tick that ended at rates_at (Unix
    seconds). previous: the snapshot that this tick began with, None at first. Of one that an event
    brings about a moment later it is the same: over a moment no share of time can be told.
    """

    config: Config
    observed: Observed
    previous: Observed | None
    desired: Desired
    leases: tuple[Lease, ...]
    rates: Mapping[UnitName, Sample]
    rates_at: float = 0.0
    caps: Mapping[UnitName, Cpus]
    """CPU caps in force below a leaf's own limit."""
    repairs: tuple[Repair, ...]
    """The newest last, bounded."""
    repair_times: RepairTimes = RepairTimes()
    open_drift: tuple[ReportDrift, ...]
    """What only an operator can mend, or mend at once, as of this tick."""
    deferred: tuple[Deferred, ...] = ()
    """Lowered memory limits that wait until usage allows."""
    counters: Mapping[tuple[str, ...], int]
    """Totals since start: ("admission", outcome), ("drift", field), ("action", cause) → n."""
    tick: TickStats
    systemd_ok: bool = True
    docker_ok: bool = True
    config_error: str = ""
    """Why the last reload was refused; empty when it was not."""
