"""Claims, what is granted, and a lease's life from claim to receipt."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Final

from enforcer.names import UnitName, lease_slice
from enforcer.quantities import Bytes, Cpus

LEASE_LABEL: Final = "io.jupyter.enforcer.lease"
"""The container's label that carries the lease's id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What was asked for. None: what the policy prefers (profile, image) or allows (numbers)."""

    user: str
    server: str = ""
    profile: str | None = None
    image: str | None = None
    cpu_limit: Cpus | None = None
    mem_limit: Bytes | None = None
    cpu_guarantee: Cpus | None = None
    mem_guarantee: Bytes | None = None
    groups: tuple[str, ...] = ()
    """The hub's groups of the user, as the hub told; the host's are looked up by the daemon."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What was granted; 0 ≤ guarantee ≤ limit for both."""

    cpu_limit: Cpus
    mem_limit: Bytes
    cpu_guarantee: Cpus = Cpus(0)
    mem_guarantee: Bytes = Bytes(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize:
    """Other numbers for a live lease; None keeps what it has. `seconds`: then it goes back."""

    cpu_limit: Cpus | None = None
    mem_limit: Bytes | None = None
    cpu_guarantee: Cpus | None = None
    mem_guarantee: Bytes | None = None
    seconds: float | None = None


class LeaseState(enum.StrEnum):
    """queued → pending (placed, no container yet) → bound → released."""

    QUEUED = "queued"
    PENDING = "pending"
    BOUND = "bound"
    RELEASED = "released"


class EndReason(enum.StrEnum):
    """Why a lease ended."""

    STOPPED = "stopped"  # the hub released it
    EXITED = "exited"  # the container ended by itself
    OOM_LIMIT = "oom-limit"  # killed at its own memory limit
    OOM_VICTIM = "oom-victim"  # killed because a level above it, or the host, was full
    EXPIRED = "expired"  # never got its container
    CANCELLED = "cancelled"  # withdrawn before it got its container
    REPLACED = "replaced"  # another claim for the same server took its place
    REFUSED = "refused"  # its right was gone before its turn in the queue came
    LOST = "lost"  # gone while the daemon was not looking, a reboot for instance


NEVER_RAN: Final = frozenset(
    {EndReason.EXPIRED, EndReason.CANCELLED, EndReason.REPLACED, EndReason.REFUSED}
)
"""How leases end that had no container."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """An admitted (or waiting) claim, as the ledger keeps it. Times are Unix seconds."""

    id: str
    """32 hexadecimal digits, random: the container's label carries it."""
    claim: Claim
    profile: str
    image: str
    grant: Grant
    state: LeaseState
    created_at: float
    notes: tuple[str, ...] = ()
    """What admission changed, in sentences for the user."""
    deadline: float | None = None
    """When a queued or pending lease expires, or a bound one without its container is released."""
    container_id: str | None = None
    bound_at: float | None = None
    ended_at: float | None = None
    """When its container was seen to have gone, or else when it was released."""
    end_reason: EndReason | None = None
    resized_until: float | None = None
    """When the numbers go back to `grant_before`; None: they stay."""
    grant_before: Grant | None = None
    unit: UnitName = field(init=False, repr=False, compare=False)
    """The leaf slice; every tick asks for it, several times."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "unit", lease_slice(self.profile, self.user, self.server))

    @property
    def user(self) -> str:
        """The user it belongs to."""
        return self.claim.user

    @property
    def server(self) -> str:
        """The named server, empty for the default one."""
        return self.claim.server

    @property
    def live(self) -> bool:
        """It counts against the quotas: pending or bound."""
        return self.state is LeaseState.PENDING or self.state is LeaseState.BOUND

    @property
    def running(self) -> bool:
        """It has a container, which has not gone: no deadline runs."""
        return self.state is LeaseState.BOUND and self.deadline is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a finished lease leaves. Times are Unix seconds, durations seconds, memory bytes."""

    lease_id: str
    user: str
    server: str
    profile: str
    image: str
    grant: Grant
    started_at: float
    ended_at: float
    reason: EndReason
    cpu_seconds: float
    throttled_seconds: float
    memory_peak: Bytes
    oom_kills: int
    """Processes killed in it at its own limit."""
    oom_kills_as_victim: int
    """Processes killed in it because something above it was full."""
    limit_at_kill: Bytes | None = None
    """The memory limit in force at the last kill at its own limit; None: not known, or no kill."""
