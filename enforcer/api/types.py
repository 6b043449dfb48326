"""What travels through the API, as JSON.

CPU is in cores and memory in bytes; times are Unix seconds, shares run from 0 to 1. What people
send may also be written the way people write it: ``"150%"``, ``"10 GiB"``. Requests are strict: an
unknown key is a mistake. Replies may grow: a client leaves out the keys it does not know.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from enforcer.api.fields import (
    CpuGuarantee,
    CpuLimit,
    GroupName,
    ImageName,
    MemoryGuarantee,
    MemoryLimit,
    ProfileName,
    ServerName,
    UserName,
)
from enforcer.model import AdmissionMode, Claim, EndReason, Hold, LeaseState, Resize

MOST_GROUPS: Final = 500
MOST_RESIZE_SECONDS: Final = 30 * 24 * 3600.0


Cores = Annotated[float, Field(description="Cores.")]
Memory = Annotated[int, Field(description="Bytes.")]
UnixSeconds = Annotated[float, Field(description="Unix seconds.")]
Share = Annotated[float, Field(description="0 to 1.")]


class Request(BaseModel):
    """What a client sends."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Reply(BaseModel):
    """What the daemon answers; a client that is older than the daemon leaves out what is new."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


# --- requests ------------------------------------------------------------------------------


class ClaimRequest(Request):
    """A place for one server of one user; what is left out is for the policy to choose."""

    user: UserName
    server: ServerName = ""
    profile: ProfileName | None = None
    image: ImageName | None = None
    cpu_limit: CpuLimit | None = None
    mem_limit: MemoryLimit | None = None
    cpu_guarantee: CpuGuarantee | None = None
    mem_guarantee: MemoryGuarantee | None = None
    groups: Annotated[list[GroupName], Field(max_length=MOST_GROUPS)] = []
    """The hub's groups of the user; believed only when root or the hub sends them."""

    def claim(self) -> Claim:
        """Return it as the daemon knows it."""
        return Claim(**{**dict(self), "groups": tuple(self.groups)})


class ResizeRequest(Request):
    """Other numbers for a live lease; what is left out stays. `seconds`: then it goes back."""

    cpu_limit: CpuLimit | None = None
    mem_limit: MemoryLimit | None = None
    cpu_guarantee: CpuGuarantee | None = None
    mem_guarantee: MemoryGuarantee | None = None
    seconds: Annotated[float | None, Field(gt=0, le=MOST_RESIZE_SECONDS, allow_inf_nan=False)] = (
        None
    )

    def resize(self) -> Resize:
        """Return it as the daemon knows it."""
        return Resize(**dict(self))


# --- replies -------------------------------------------------------------------------------


class Problem(Reply):
    """An error, as RFC 9457 has it. `code` is for programs, `detail` and `hint` for people."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    hint: str = ""


class Amount(Reply):
    """An amount of both."""

    cpu: Cores
    memory: Memory


class PlacementReply(Reply):
    """Where the container goes and the arguments it is to be made with (Docker's HostConfig)."""

    cgroup_parent: str
    image: str
    labels: dict[str, str]
    nano_cpus: int
    memory: Memory
    memory_swap: int
    pids_limit: int | None
    shm_size: int | None
    oom_score_adj: int
    volumes_ro: list[str]
    home: str | None


class QueueReply(Reply):
    """A queued lease's place in line, 1 is next, and what it waits for."""

    place: int
    sentence: str


class SampleReply(Reply):
    """What was used over the tick that ended at `at`; pressures are PSI ``some``.

    oom_own: how many of the kills were at its own limit. cpu_limit, mem_limit: those in force then.
    """

    at: UnixSeconds
    cpu: Cores
    memory: Memory
    throttled: Share
    cpu_pressure: Share
    memory_pressure: Share
    io_pressure: Share
    oom_kills: int
    oom_own: int = 0
    cpu_limit: Cores | None = None
    mem_limit: Memory | None = None


class LeaseReply(Reply):
    """A lease; with its placement once it has one, and what it uses once it runs."""

    id: str
    user: str
    server: str
    profile: str
    image: str
    state: LeaseState
    unit: str
    cpu_limit: Cores
    mem_limit: Memory
    cpu_guarantee: Cores
    mem_guarantee: Memory
    created_at: UnixSeconds
    bound_at: UnixSeconds | None
    deadline: UnixSeconds | None
    resized_until: UnixSeconds | None
    container_id: str | None
    sentence: str
    notes: list[str]
    queue: QueueReply | None = None
    placement: PlacementReply | None = None
    usage: SampleReply | None = None


class LeasesReply(Reply):
    """Leases, the oldest first."""

    leases: list[LeaseReply]


class DriftReply(Reply):
    """What is not as it ought to be, and what an operator types to mend it; empty if time will."""

    what: str
    subject: str
    message: str
    command: str


class RepairReply(Reply):
    """A drift that was found, and undone if `seconds` is there."""

    at: UnixSeconds
    subject: str
    what: str
    found: str
    wanted: str
    seconds: float | None
    command: str


class PressureReply(Reply):
    """The whole machine's PSI ``some`` over the last tick."""

    cpu: Share
    memory: Share
    io: Share


class MachineReply(Reply):
    """The machine: reserved + allocatable = capacity; the workload is allocatable − the engine's.

    used is the whole machine's, promised the guarantees of all live leases, free what is left to
    promise.
    """

    capacity: Amount
    reserved: Amount
    allocatable: Amount
    workload: Amount
    promised: Amount
    free: Amount
    used: Amount
    pressure: PressureReply
    sentence: str


class StatusReply(Reply):
    """How the machine and the daemon are. The last two are told to root and the hub only."""

    version: str
    api: str
    user: str
    privileged: bool
    at: UnixSeconds
    ticks: int
    systemd_ok: bool
    docker_ok: bool
    config_error: str
    machine: MachineReply
    leases: dict[LeaseState, int]
    mine: list[LeaseReply]
    drift: list[DriftReply] | None = None
    repairs: list[RepairReply] | None = None


class SliceReply(Reply):
    """One slice, its limits as the kernel has them; None: no limit. depth: 0 is jupyter.slice.

    guarantee: the sum of the live leases below. cap: a CPU cap in force below the limit.
    """

    unit: str
    depth: int
    kind: str
    title: str
    cpu_limit: Cores | None
    cpu_cap: Cores | None
    mem_limit: Memory | None
    guarantee: Amount
    weight: int
    used: Amount
    memory_peak: Memory
    swap: Memory
    tasks_limit: int | None
    tasks: int
    throttled: Share
    cpu_pressure: Share
    memory_pressure: Share
    oom_kills: int
    oom_own: int
    populated: bool


class SlicesReply(Reply):
    """The slice tree, parents before children; a user sees what is their own."""

    at: UnixSeconds
    slices: list[SliceReply]


class ProfileReply(Reply):
    """One profile, and whether a lease of it would get all it may have now."""

    name: str
    cpu_limit: Cores
    mem_limit: Memory
    cpu_guarantee: Cores
    mem_guarantee: Memory
    """The most that may be guaranteed: the profile's limit, the user's allowance, the smaller."""
    fits: bool
    sentence: str


class ImageReply(Reply):
    """One image: the name to claim it by, and what Docker calls it."""

    name: str
    reference: str


class BoundsReply(Reply):
    """The most that one lease may ask for."""

    cpu_limit: Cores
    mem_limit: Memory
    cpu_guarantee: Cores
    mem_guarantee: Memory


class CatalogueReply(Reply):
    """What a user may choose from, the preferred first."""

    user: str
    profiles: list[ProfileReply]
    images: list[ImageReply]
    home: str | None
    volumes_ro: list[str]
    bounds: BoundsReply
    admission: AdmissionMode | None


class HistoryReply(Reply):
    """The last samples of a lease, the oldest first. ended: there will be no more."""

    lease_id: str
    ended: bool
    tick_seconds: float
    samples: list[SampleReply]


class ReceiptReply(Reply):
    """What a finished lease left; `oom_kills_as_victim`: another one's fault.

    limit_at_kill: the memory limit at the last of its `oom_kills`; `mem_limit` is its last.
    """

    lease_id: str
    user: str
    server: str
    profile: str
    image: str
    cpu_limit: Cores
    mem_limit: Memory
    cpu_guarantee: Cores
    mem_guarantee: Memory
    started_at: UnixSeconds
    ended_at: UnixSeconds
    reason: EndReason
    cpu_seconds: float
    throttled_seconds: float
    memory_peak: Memory
    oom_kills: int
    oom_kills_as_victim: int
    limit_at_kill: Memory | None = None
    sentence: str


class ReceiptsReply(Reply):
    """Receipts, the newest first."""

    receipts: list[ReceiptReply]


class LevelReply(Reply):
    """One level above (or of) a lease: what it allows, what is used, what it did to the lease.

    oom_own: since it was made; throttle_hits (of mem_throttle) and forks_refused (at tasks_limit):
    in the last tick. hold: which of its limits binds.
    """

    unit: str
    title: str
    cpu_limit: Cores | None
    cpu_cap: Cores | None
    cpu_used: Cores
    cpu_guarantee: Cores
    mem_limit: Memory | None
    mem_throttle: Memory | None
    mem_used: Memory
    mem_guarantee: Memory
    swap_limit: Memory | None
    swap_used: Memory
    tasks_limit: int | None
    tasks: int
    throttled: Share
    cpu_pressure: Share
    memory_pressure: Share
    oom_own: int
    throttle_hits: int
    forks_refused: int
    binds: bool
    hold: Hold | None
    sentence: str


class RightReply(Reply):
    """One right and where it came from."""

    key: str
    value: str
    source: str


class ExplainReply(Reply):
    """Why a lease has what it has, and what binds it now; levels from the leaf upwards."""

    user: str
    server: str
    lease: LeaseReply | None
    summary: str
    sentences: list[str]
    levels: list[LevelReply]
    rights: list[RightReply]


class ReloadReply(Reply):
    """What a new configuration changed."""

    changes: list[str]


class PlannedReply(Reply):
    """One thing a new configuration would do; `risk` is empty where nobody is at risk."""

    subject: str
    what: str
    before: str
    after: str
    risk: str


class PlanReply(Reply):
    """Everything a new configuration would do."""

    changes: list[PlannedReply]
