"""What the controller needs of the world, as protocols; adapters/ has the real ones and the fakes.

Every method that leaves the process ends within its adapter's timeout, with an
``UnavailableError`` where the other side did not answer. "Not there (any more)" is a value.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol

from enforcer.model import (
    Capacity,
    Cgroup,
    Claim,
    Container,
    ContainerLimits,
    Deferred,
    EndReason,
    HostUsage,
    Lease,
    LeaseHistory,
    LeaseState,
    Limits,
    Placement,
    PlannedChange,
    Published,
    Receipt,
    Resize,
    ResourceProfile,
    Rights,
    Usage,
)
from enforcer.names import UnitName


class Clock(Protocol):
    """Time, so that tests can make it pass."""

    def now(self) -> float:
        """Unix seconds."""
        ...

    def monotonic(self) -> float:
        """Seconds that never jump."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceSpec:
    """A slice to make."""

    unit: UnitName
    limits: Limits
    description: str
    lasting: bool = False


class Systemd(Protocol):
    """PID 1, through the actuator process."""

    async def create_slice(self, spec: SliceSpec) -> None:
        """Start a transient slice with its limits; one that exists gets them set instead."""
        ...

    async def set_limits(
        self, unit: UnitName, limits: Limits, fields: Sequence[str], *, lasting: bool
    ) -> bool:
        """Set the named fields; False if the unit is not loaded (it vanished meanwhile)."""
        ...

    async def set_scope_limits(self, scope: str, limits: ContainerLimits) -> bool:
        """Set a running container's own limits; False: it has ended.

        scope: its cgroup below the mount point. Docker, whose scope it is, has to be told too.
        """
        ...

    def is_lasting(self, unit: UnitName) -> bool:
        """Tell whether anything that was set on a unit for good is on disk; asks no one."""
        ...

    async def stop_slice(self, unit: UnitName) -> None:
        """Stop a slice. This kills what runs in it: callers make sure that nothing does."""
        ...

    async def service_cgroup(self, service: str) -> str | None:
        """Return the cgroup of a service below the mount point; None when it does not run."""
        ...


LIMIT_FILES: Final = frozenset(
    {
        "cpu.max",
        "cpu.weight",
        "cpuset.cpus",
        "io.weight",
        "memory.high",
        "memory.max",
        "memory.min",
        "memory.swap.max",
        "pids.max",
    }
)
"""The kernel's files that hold limits: a change of one of them may be drift."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something in the cgroup tree that the kernel told of.

    unit: the slice, or the slice that a scope lies in; jupyter.slice when events were lost, then
    anything may have changed. file: the file's name (one of `LIMIT_FILES`, ``memory.events``,
    ``cgroup.events``, …), empty when a cgroup came or went. at: monotonic seconds.
    """

    unit: UnitName
    file: str
    at: float

    @property
    def may_be_drift(self) -> bool:
        """A limit was written, by whomever, or a cgroup came or went."""
        return not self.file or self.file in LIMIT_FILES


class Kernel(Protocol):
    """The cgroup v2 file system and /proc. Fast and synchronous: these files never block."""

    def slices(self) -> Mapping[UnitName, Cgroup]:
        """Read every slice under jupyter.slice, itself included; one that vanishes is left out."""
        ...

    def slice(self, unit: UnitName, *, afresh: bool = True) -> Cgroup | None:
        """Read one slice; afresh: its events and whether it is populated too, whatever was told."""
        ...

    def limits(self, unit: UnitName, fields: Collection[str] | None = None) -> Limits | None:
        """Read a slice's limits from its files, and nothing else; None: it is not there.

        fields: the only ones to read, None for all; the others are as where nothing is set.
        """
        ...

    def scope(self, path: str) -> tuple[ContainerLimits, Usage, int | None] | None:
        """Read a scope's limits, counters, and its oom_score_adj.

        That is what was set last, where every process has what it means for it; another number
        where not; None without processes. The counters are as of the last `slices`, or newer.
        """
        ...

    def scopes(self) -> Mapping[str, str]:
        """Return container id → scope path, for every ``docker-<id>.scope`` there is."""
        ...

    def set_oom_score_adj(self, path: str, value: int) -> int:
        """Give it to a scope, its server spared more; return how many processes were written."""
        ...

    def host(self) -> tuple[HostUsage, Mapping[str, int]]:
        """Return the machine's counters, and cpu.weight of the top-level cgroups but ours."""
        ...

    def changes(self) -> AsyncIterator[Change]:
        """Yield what the kernel tells of (inotify), within milliseconds; one consumer at a time."""
        ...


class Docker(Protocol):
    """dockerd."""

    async def containers(self) -> Mapping[str, Container]:
        """Return every container by id, stopped ones too, without kernel fields."""
        ...

    async def update(self, container_id: str, limits: ContainerLimits) -> bool:
        """Set a container's own limits; False if there is no such running container."""
        ...

    def events(self) -> AsyncIterator[str]:
        """Yield the id of a container that changed; reconnects by itself, and yields "" then."""
        ...

    def stopped(self) -> frozenset[str]:
        """Return the containers that the events said somebody has stopped; the latest at least.

        Others ended by themselves, or while nobody followed the events.
        """
        ...


class Host(Protocol):
    """The machine, through psutil and the user database."""

    def capacity(self) -> Capacity:
        """Return what the host has."""
        ...

    def groups(self, user: str) -> tuple[str, ...]:
        """Return the host's groups of a user; none for a user the host does not know."""
        ...

    def user_name(self, uid: int) -> str | None:
        """Return the name of a uid; None if the host does not know it."""
        ...

    def user_id(self, user: str) -> int | None:
        """Return the uid of a host's user; None if the host does not know them."""
        ...


IDLE_RECEIPTS_KEPT: Final = 50
"""How many receipts a ledger keeps of one user's leases that never ran: anybody makes any number of
these, and they must not drive out everybody's others."""


NO_ACCOUNTS: Final[Mapping[str, Sequence[int]]] = MappingProxyType({})


class Ledger(Protocol):
    """The crash-safe file of leases and receipts. A returned write is on disk."""

    receipts_kept: int
    """How many, the newest; may be set anew at any time. Of leases that never ran, far fewer."""

    async def load(self) -> tuple[Lease, ...]:
        """Return every lease that is not finished, the oldest first."""
        ...

    async def store(
        self,
        leases: Sequence[Lease],
        receipts: Sequence[Receipt] = (),
        accounts: Mapping[str, Sequence[int]] = NO_ACCOUNTS,
        profiles: Sequence[ResourceProfile] = (),
    ) -> None:
        """Write all of these or none. A released lease is removed, its receipt takes its place.

        accounts: what some of these leases begin with, as for `store_accounts`.
        profiles: in place of those of the same names; with them those go that neither a lease nor a
        receipt names.

        Raises:
            UnavailableError: ``state.unwritable``: the disk is full or broken; nothing changed.
        """
        ...

    async def receipts(self, user: str | None, limit: int) -> tuple[Receipt, ...]:
        """Return the newest receipts first; of one user, or of all."""
        ...

    async def store_accounts(self, accounts: Mapping[str, Sequence[int]]) -> None:
        """Write what leases used so far (lease id → integers); all or none.

        An account goes with its lease: one of a lease that is not kept (any more) is dropped.

        Raises:
            UnavailableError: ``state.unwritable``; nothing changed.
        """
        ...

    async def load_accounts(self) -> Mapping[str, tuple[int, ...]]:
        """Return the accounts that were written last, by lease id."""
        ...

    async def load_profiles(self) -> Mapping[str, ResourceProfile]:
        """Return the profiles as `store` wrote them last, by name."""
        ...

    async def store_waits(self, deferred: Sequence[Deferred]) -> None:
        """Write which lowered limits wait, and until when, in place of all before.

        Their deadlines are Unix seconds here: the monotonic clock begins anew at a boot.

        Raises:
            UnavailableError: ``state.unwritable``; nothing changed.
        """
        ...

    async def load_waits(self) -> tuple[Deferred, ...]:
        """Return what `store_waits` wrote last."""
        ...


class Operations(Protocol):
    """What the API may ask of the controller. It checks no peer: that is the API's."""

    def published(self) -> Published:
        """Return the last tick's picture, of leases and configuration as of now; never waits."""
        ...

    async def rights(self, user: str, hub_groups: Sequence[str] = ()) -> Rights:
        """Return what a user may have; the host's groups are looked up and added."""
        ...

    async def claim(self, claim: Claim) -> tuple[Lease, bool]:
        """Admit a claim and make its slices; the lease (queued or pending), and whether it is new.

        A repeated claim gets the same lease. Raises ForbiddenError, RefusedError, ConflictError,
        InvalidError, UnavailableError; then nothing is left behind.
        """
        ...

    def lease(self, lease_id: str) -> Lease:
        """Return one lease that is not finished.

        Raises:
            NotFoundError: ``lease.not-found``.
        """
        ...

    def placement(self, lease: Lease) -> Placement:
        """Return where its container goes; for a pending or bound lease."""
        ...

    def queue_place(self, lease: Lease) -> tuple[int, str]:
        """Return a queued lease's place in line (1 is next), and what it waits for."""
        ...

    async def wait(self, lease_id: str, state: LeaseState, timeout_seconds: float) -> Lease:
        """Return the lease as soon as it is no longer in `state`, or at the timeout as it is."""
        ...

    async def resize(self, lease_id: str, change: Resize) -> Lease:
        """Give a live lease other numbers within its profile and the user's rights."""
        ...

    async def release(
        self, lease_id: str, reason: EndReason, *, unless_running: bool = False
    ) -> None:
        """End a lease: withdraws a queued one; a released one's slice goes once it is empty.

        Raises:
            ConflictError: ``lease.running``, if `unless_running`: its container runs.
        """
        ...

    def history(self, lease_id: str) -> LeaseHistory:
        """Return the last samples of a lease, for a while after its end too.

        Raises:
            NotFoundError: ``lease.not-found``: it ended longer ago, or never was.
        """
        ...

    async def receipts(self, user: str | None, limit: int) -> Sequence[Receipt]:
        """Return the newest receipts first."""
        ...

    async def reload(self) -> Sequence[str]:
        """Read the configuration file again; return what changed, in sentences.

        Raises:
            InvalidError: ``config.invalid`` with every mistake in the message; nothing changed.
        """
        ...

    def plan(self, text: str) -> Sequence[PlannedChange]:
        """Say what a configuration would change for the slices and leases there are."""
        ...


__all__ = [
    "IDLE_RECEIPTS_KEPT",
    "LIMIT_FILES",
    "NO_ACCOUNTS",
    "Change",
    "Clock",
    "Docker",
    "Host",
    "Kernel",
    "Ledger",
    "Operations",
    "SliceSpec",
    "Systemd",
]
