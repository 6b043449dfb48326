"""Which slice is whose: what the names stand for, read off the configuration and the leases."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from enforcer.model import Config, Lease, LeaseState, Published
from enforcer.names import (
    ADOPTED,
    ENGINE,
    ROOT,
    WORKLOAD,
    UnitName,
    lease_slice,
    profile_slice,
    user_slice,
)
from enforcer.quantities import CORE, format_cpus
from enforcer.room import NOTHING, Amount, guarantees
from enforcer.slices import without_lease


class Kind(enum.StrEnum):
    """What a slice is for."""

    ROOT = "root"
    ENGINE = "engine"
    WORKLOAD = "workload"
    ADOPTED = "adopted"
    PROFILE = "profile"
    USER = "user"
    LEASE = "lease"
    UNKNOWN = "unknown"
    """Of an ended lease, or of nobody we know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One slice; `profile`, `user` and `lease` as far as it has them, `title` for people."""

    kind: Kind
    title: str
    profile: str | None = None
    user: str | None = None
    lease: Lease | None = None


_FIXED: Mapping[UnitName, Place] = {
    ROOT: Place(kind=Kind.ROOT, title="everything"),
    ENGINE: Place(kind=Kind.ENGINE, title="Docker itself"),
    WORKLOAD: Place(kind=Kind.WORKLOAD, title="all containers"),
    ADOPTED: Place(kind=Kind.ADOPTED, title="containers nobody asked us about"),
}


def places(config: Config, leases: Sequence[Lease]) -> dict[UnitName, Place]:
    """Return what is known by name; slices that are not in it are of unknown kind."""
    found = dict(_FIXED)
    for profile in {*config.profiles, *(lease.profile for lease in leases)}:
        found[profile_slice(profile)] = Place(
            kind=Kind.PROFILE, title=f"profile {profile}", profile=profile
        )
    for lease in leases:
        if lease.state is LeaseState.QUEUED:
            continue
        found[user_slice(lease.profile, lease.user)] = Place(
            kind=Kind.USER,
            title=f"{lease.user} in profile {lease.profile}",
            profile=lease.profile,
            user=lease.user,
        )
        found[lease.unit] = Place(
            kind=Kind.LEASE,
            title=server_title(lease.user, lease.server),
            profile=lease.profile,
            user=lease.user,
            lease=lease,
        )
    return found


def server_title(user: str, server: str) -> str:
    """Name a server for people."""
    return f"server {server} of {user}" if server else f"{user}'s server"


def say_cores(cpus: int) -> str:
    """Say an amount of CPU, with its unit."""
    return f"{format_cpus(cpus)} core{'' if cpus == CORE else 's'}"


def find(leases: Sequence[Lease], user: str, server: str) -> Lease | None:
    """Return the lease of a server that is not finished; there is one at most."""
    for lease in leases:
        if (lease.user, lease.server) == (user, server) and (
            lease.state is not LeaseState.RELEASED
        ):
            return lease
    return None


def promised_below(leases: Sequence[Lease]) -> dict[UnitName, Amount]:
    """Return, for every slice from the workload down, the guarantees of the live leases in it."""
    sums: dict[UnitName, Amount] = {WORKLOAD: NOTHING}
    for lease in leases:
        if not lease.live:
            continue
        amount = guarantees(lease.grant)
        for unit in (
            WORKLOAD,
            profile_slice(lease.profile),
            user_slice(lease.profile, lease.user),
            lease_slice(lease.profile, lease.user, lease.server),
        ):
            sums[unit] = sums.get(unit, NOTHING) + amount
    return sums


def other_containers(published: Published) -> int:
    """Return how many containers run that are no lease's."""
    live = [lease for lease in published.leases if lease.live]
    return without_lease(live, published.observed.containers, published.observed.scopes)
