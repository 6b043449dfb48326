"""What is free to be promised: sums over the leases, at every level that a guarantee must fit in.

Three levels hold guarantees: the workload (the global quota less the engine's floor), the
profile and the user. A queued lease holds room as well, so that nobody who came later takes what
it waits for: at the highest level where it does not fit and below it. So it does not stand in the
way of profiles that have room, and once a level has room for it nobody takes that room again.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from enforcer.model import LARGEST_PROFILE, Config, Grant, Lease, LeaseState, Rights
from enforcer.quantities import PAGE, Bytes, Cpus


class Level(enum.StrEnum):
    """Where a guarantee has to fit."""

    WORKLOAD = "workload"
    PROFILE = "profile"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Amount:
    """CPU (µs per second) and memory (bytes) together; a difference may be negative."""

    cpu: int = 0
    memory: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.cpu + other.cpu, self.memory + other.memory)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.cpu - other.cpu, self.memory - other.memory)

    def least(self, other: Amount) -> Amount:
        """Return the smaller of each."""
        return Amount(min(self.cpu, other.cpu), min(self.memory, other.memory))

    def most(self, other: Amount) -> Amount:
        """Return the larger of each."""
        return Amount(max(self.cpu, other.cpu), max(self.memory, other.memory))

    def whole(self) -> Amount:
        """Return what can be granted of it: nothing negative, memory in whole pages."""
        return Amount(max(0, self.cpu), max(0, self.memory) // PAGE * PAGE)

    def fits(self, room: Amount) -> bool:
        """Tell whether it fits; nothing always does, even where less than nothing is free."""
        return (self.cpu == 0 or self.cpu <= room.cpu) and (
            self.memory == 0 or self.memory <= room.memory
        )


NOTHING = Amount()


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """One level: what may be promised there, what is, and what earlier claims wait for."""

    level: Level
    total: Amount
    held: Amount
    """Guarantees of the others' leases and of the user's own."""
    own: Amount = NOTHING
    """The user's part of `held`."""
    waiting: Amount = NOTHING

    @property
    def free(self) -> Amount:
        """What may still be promised."""
        return (self.total - self.held - self.waiting).whole()


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What one user may still get in one profile."""

    workload: Space
    profile: Space
    user: Space
    """Its total is ``max_preallocate``, over all of the user's leases."""
    limits: Amount
    """The largest limits for one more lease: the profile's, or what is left of the user's total."""
    limits_used: Amount
    """Σ limits of the user's other leases, queued ones too."""
    servers: int
    """How many other leases the user has, queued ones too."""
    starting: int
    """How many of these have no container yet."""
    crowded: bool
    """Not even a container without a guarantee has its share of the engine's floor."""

    @property
    def spaces(self) -> tuple[Space, Space, Space]:
        """The levels, the highest first."""
        return self.workload, self.profile, self.user

    @property
    def promisable(self) -> Amount:
        """The largest guarantees that fit at every level, whatever the limits."""
        return self.workload.free.least(self.profile.free).least(self.user.free)

    @property
    def guarantees(self) -> Amount:
        """The largest guarantees for one more lease."""
        return self.promisable.least(self.limits.whole())

    @property
    def cpu_binds(self) -> Level:
        """The level with the least CPU to promise, the highest of equals."""
        return min(self.spaces, key=lambda space: space.free.cpu).level

    @property
    def memory_binds(self) -> Level:
        """The level with the least memory to promise, the highest of equals."""
        return min(self.spaces, key=lambda space: space.free.memory).level


def workload(config: Config, containers: int) -> Amount:
    """Return what all leases and adopted containers may use while so many containers run."""
    floor = config.engine.memory + config.engine.memory_per_container * containers
    return Amount(config.quota.cpu - config.engine.cpu, config.quota.memory - floor)


def profile_total(config: Config, profile: str, above: Amount) -> Amount:
    """Return what a profile's leases may use together; `above` is what the workload may."""
    found = config.profile(profile)
    if found is None:
        return above
    return above.least(
        Amount(
            above.cpu if found.cpu_total is None else found.cpu_total,
            above.memory if found.mem_total is None else found.mem_total,
        )
    )


def guarantees(grant: Grant) -> Amount:
    """Return the guarantees of a grant."""
    return Amount(grant.cpu_guarantee, grant.mem_guarantee)


def limits(grant: Grant) -> Amount:
    """Return the limits of a grant."""
    return Amount(grant.cpu_limit, grant.mem_limit)


def to_grant(limits: Amount, guarantees: Amount) -> Grant:
    """Put both together."""
    return Grant(
        cpu_limit=Cpus(limits.cpu),
        mem_limit=Bytes(limits.memory),
        cpu_guarantee=Cpus(guarantees.cpu),
        mem_guarantee=Bytes(guarantees.memory),
    )


def promised(lease: Lease) -> Amount:
    """Return the guarantees a lease holds: those it can go back to by itself count as well."""
    return _over_time(lease, guarantees)


def limited(lease: Lease) -> Amount:
    """Return the limits a lease holds, those it can go back to included."""
    return _over_time(lease, limits)


def spared(lease: Lease, rights: Rights) -> Amount:
    """Return what of a lease's limits its user's total does not cut.

    A total that nobody wrote down follows from the profiles that the user may have. So it is
    smaller without one of them, but that takes nothing from what runs in this one.
    """
    if lease.profile in rights.profiles:
        return NOTHING
    held = limited(lease)
    return Amount(
        held.cpu if rights.sources.get("cpu_total") == LARGEST_PROFILE else 0,
        held.memory if rights.sources.get("mem_total") == LARGEST_PROFILE else 0,
    )


def total(amounts: Iterable[Amount]) -> Amount:
    """Add up."""
    cpu = memory = 0  # not by Amount's own +: every claim adds up all leases, at several levels
    for one in amounts:
        cpu += one.cpu
        memory += one.memory
    return Amount(cpu, memory)


def free(
    config: Config,
    leases: Sequence[Lease],
    containers: int,
    profile: str,
    rights: Rights,
    without: str | None = None,
) -> Room:
    """Return what is free for one more lease of a user in a profile.

    leases: all that are not finished; only the order of the queued ones matters. containers: those
    that run and are no lease's. without: this lease is left out, because its own numbers are being
    decided; if it is queued, only those queued before it hold room.
    """
    others = [lease for lease in leases if lease.id != without]
    live = [lease for lease in others if lease.live]
    mine = [lease for lease in others if lease.user == rights.user]
    may_use = workload(config, containers + len(live) + 1)
    promises = [(lease, promised(lease)) for lease in live]
    in_profile = [one for one in promises if one[0].profile == profile]
    held = total(amount for _, amount in promises)
    own = total(map(promised, mine))
    waiting, waiting_in = _queue_holds(config, live, _ahead(leases, without), may_use)
    used = total(map(limited, mine))
    bounds = config.profiles[profile]
    return Room(
        workload=Space(
            level=Level.WORKLOAD,
            total=may_use,
            held=held,
            own=_own(promises, rights.user),
            waiting=waiting,
        ),
        profile=Space(
            level=Level.PROFILE,
            total=profile_total(config, profile, may_use),
            held=total(amount for _, amount in in_profile),
            own=_own(in_profile, rights.user),
            waiting=waiting_in.get(profile, NOTHING),
        ),
        user=Space(
            level=Level.USER,
            total=Amount(rights.max_cpu_guarantee, rights.max_mem_guarantee),
            held=own,
            own=own,
        ),
        limits=(Amount(rights.cpu_total, rights.mem_total) - used).least(
            Amount(bounds.cpu_limit, bounds.mem_limit)
        ),
        limits_used=used,
        servers=len(mine),
        starting=sum(lease.state is not LeaseState.BOUND for lease in mine),
        crowded=held.memory > may_use.memory,
    )


def _over_time(lease: Lease, part: Callable[[Grant], Amount]) -> Amount:
    now = part(lease.grant)
    return now if lease.grant_before is None else now.most(part(lease.grant_before))


def _own(promises: Iterable[tuple[Lease, Amount]], user: str) -> Amount:
    return total(amount for lease, amount in promises if lease.user == user)


def _ahead(leases: Sequence[Lease], lease_id: str | None) -> list[Lease]:
    """Return the queued leases before a queued one; all of them for any other."""
    ahead: list[Lease] = []
    for lease in leases:
        if lease.state is LeaseState.QUEUED:
            if lease.id == lease_id:
                break
            ahead.append(lease)
    return ahead


def _queue_holds(
    config: Config, live: Sequence[Lease], queue: Sequence[Lease], may_use: Amount
) -> tuple[Amount, Mapping[str, Amount]]:
    """Return what the queue holds of the workload, and of each profile."""
    if not queue:
        return NOTHING, {}
    left, left_in = may_use, dict[str, Amount]()
    for name in {lease.profile for lease in queue}:
        left_in[name] = profile_total(config, name, may_use)
    for lease in live:
        left -= promised(lease)
        if lease.profile in left_in:
            left_in[lease.profile] -= promised(lease)
    held, held_in = NOTHING, defaultdict[str, Amount](Amount)
    container = Amount(0, config.engine.memory_per_container)
    for lease in queue:
        asked = promised(lease)
        fits_in_profile = asked.fits(left_in[lease.profile] - held_in[lease.profile])
        # Either it waits for the workload, or it fits everywhere and is the next to be placed.
        if fits_in_profile or not asked.fits(left - held):
            held += asked + container
        held_in[lease.profile] += asked
    return held, held_in
