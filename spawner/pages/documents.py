"""What the service tells the pages' scripts, as JSON.

As in the daemon's API, CPU is in cores and memory in bytes, times are Unix seconds, shares run from
0 to 1. Series are columns of equal length, the oldest first. In a sentence ``{at}`` stands for a
time, which the browser puts there in its own time zone.
"""

from __future__ import annotations

from enforcer.api.types import (
    Amount,
    BoundsReply,
    DriftReply,
    LeaseReply,
    MachineReply,
    RepairReply,
    Reply,
)


class Trouble(Reply):
    """Why something was not done, or is not known. `code` is for scripts."""

    code: str
    message: str
    hint: str = ""


class BarDocument(Reply):
    """One bar of the spawn form; widths in percent, as SVG takes them."""

    key: str
    sentence: str
    promised: str
    used: str


class FitDocument(Reply):
    """Whether a profile fits now; since when, at least, it does not."""

    name: str
    fits: bool
    sentence: str
    since: float | None


class CatalogueDocument(Reply):
    """What the spawn form shows that changes by itself."""

    at: float
    bars: list[BarDocument]
    profiles: list[FitDocument]


class Series(Reply):
    """A lease's samples in columns; pressures are PSI ``some``, limits those in force then."""

    at: list[float]
    cpu: list[float]
    memory: list[int]
    throttled: list[float]
    cpu_pressure: list[float]
    memory_pressure: list[float]
    io_pressure: list[float]
    cpu_limit: list[float | None]
    mem_limit: list[int | None]


class EventDocument(Reply):
    """Something that happened at `at`; bad: somebody lost work over it."""

    at: float
    sentence: str
    bad: bool


class ServerDocument(Reply):
    """One server: what was granted, what it uses, and what holds it back.

    slowed_by: which limit, empty if none; held_back: for what share of the last tick, by the worst
    of its limits. warning: that its memory will soon be full.
    """

    lease: LeaseReply
    summary: str
    slowed_by: str
    held_back: float
    warning: str
    notes: list[str]
    events: list[EventDocument]
    samples: Series


class ReceiptDocument(Reply):
    """A server that ended."""

    id: str
    user: str
    server: str
    profile: str
    started_at: float
    ended_at: float
    bad: bool
    sentence: str
    detail: str
    cpu_seconds: float
    memory_peak: int
    mem_limit: int
    oom_kills: int


class ChartsDocument(Reply):
    """One server by itself, of which its charts are drawn."""

    at: float
    tick_seconds: float
    server: ServerDocument


class MineDocument(Reply):
    """The user's servers, those that ended among them."""

    at: float
    tick_seconds: float
    servers: list[ServerDocument]
    receipts: list[ReceiptDocument]


class LeaseDocument(Reply):
    """One lease and the most its numbers may be."""

    lease: LeaseReply
    bounds: BoundsReply


class GroupDocument(Reply):
    """What the containers of one profile use together; None: no limit of its own.

    untold: why `used` and `throttled` are left out; empty if they are not.
    """

    title: str
    used: Amount | None
    cpu_limit: float | None
    mem_limit: int | None
    throttled: float | None
    untold: str


class MachineSeries(Reply):
    """The last minutes of the machine, of all the hub's servers, and of one user's.

    The machine's are None for the time before this service was started.
    """

    at: list[float]
    machine_cpu: list[float | None]
    machine_memory: list[int | None]
    hub_cpu: list[float]
    hub_memory: list[int]
    mine_cpu: list[float]
    mine_memory: list[int]


class MachineDocument(Reply):
    """The machine, for everyone: nobody but the reader has a name in it.

    trouble: why the rest is old, None if it is not. groups: the reader's own profiles; an admin's
    are all. others: the servers of other users, the ones that use most first.
    """

    at: float
    poll_seconds: float
    trouble: Trouble | None
    machine: MachineReply | None
    series: MachineSeries
    groups: list[GroupDocument]
    mine: list[Amount]
    others: list[Amount]
    waiting: int


class AdminDocument(Reply):
    """Everyone, by name."""

    at: float
    poll_seconds: float
    trouble: Trouble | None
    machine: MachineReply | None
    leases: list[LeaseReply]
    receipts: list[ReceiptDocument]
    drift: list[DriftReply]
    repairs: list[RepairReply]
