"""Every slice with the limits of its own: what the configuration and the leases say of it alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from enforcer.model import Cgroup, Config, DesiredSlice, Lease, Limits, Observed, ResourceProfile
from enforcer.names import (
    ADOPTED,
    ENGINE,
    ROOT,
    WORKLOAD,
    UnitName,
    ancestors,
    profile_slice,
    user_slice,
)
from enforcer.quantities import CORE, MIB, PAGE, Bytes, Cpus
from enforcer.shares import MIN_QUOTA
from enforcer.tree import Totals, profile_cpu, user_cpu, workload_cpu

_QUOTA_GRAIN: Final = 10
"""One microsecond in the kernel's period of 100 ms: a finer quota would read as drift for ever."""

_STEP_CONTAINERS: Final = 8
"""The engine's floor grows by as many containers at once."""

KERNELS_OWN: Final = MIB
"""Room on a user's level beyond the total. Every slice holds some pages of the kernel's: without
room for them the user's level is full just before the only lease in it, and whoever is killed at
their own limit passes for another's victim."""

T = TypeVar("T", bound=int)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What everything below is computed from."""

    config: Config
    live: tuple[Lease, ...]
    kept: tuple[Lease, ...]
    observed: Observed
    totals: Totals

    @property
    def engine_memory(self) -> Bytes:
        """The engine's floor: it grows with the containers, by their shims.

        By steps, as far as nobody was promised what is between: the levels that share the memory
        with the engine would have to change with every container.
        """
        ours = {lease.id for lease in self.live}
        there = (self.observed.containers or {}).values()
        others = sum(one.running and one.lease_id not in ours for one in there)
        engine, quota = self.config.engine, self.config.quota.memory
        count = others + len(self.live)
        floor = engine.memory + engine.memory_per_container * count
        to_next = engine.memory_per_container * (-count % _STEP_CONTAINERS)
        promised = sum(lease.grant.mem_guarantee for lease in self.live)
        return pages_of(min(floor + min(to_next, max(0, quota - floor - promised)), quota))


def slice_tree(world: World, gone: frozenset[UnitName]) -> dict[UnitName, DesiredSlice]:
    """Return every slice with the limits of its own, parents first."""
    slices = _fixed(world)
    for name in sorted(_profiles(world)):
        _add(slices, profile_slice(name), _profile_limits(world, name), f"profile {name}")
    for lease in sorted((*world.live, *world.kept), key=lambda lease: lease.unit):
        of_user = user_slice(lease.profile, lease.user)
        if of_user not in slices:
            what = f"{lease.user} in profile {lease.profile}"
            _add(slices, of_user, _user_limits(world, lease), what)
        server = lease.server or "the default server"
        _add(slices, lease.unit, _lease_limits(world, lease), f"{server} of {lease.user}")
    for lease in (*world.live, *world.kept):
        _add(slices, *_with_room(world, lease))  # now that no leaf can take it
    for cgroup in _strays(slices, gone, world.observed.cgroups):
        limits = _adopted_limits(world.config) if cgroup.populated else cgroup.limits
        _add(slices, cgroup.unit, replace(limits, memory_min=Bytes(0)), "nobody asked for it")
    return slices


def _fixed(world: World) -> dict[UnitName, DesiredSlice]:
    """Return the four slices that have a unit file on disk."""
    config = world.config
    quota = config.quota
    cores = config.capacity.cores
    first = cores - quota.cpu // CORE
    limits = {
        ROOT: Limits(
            cpu_quota=None if quota.whole_cores else quota_of(quota.cpu),
            cpus=_cpu_list(first, cores - 1) if quota.whole_cores else "",
            memory_max=pages_of(quota.memory),
            swap_max=pages_of(quota.swap),
            tasks_max=quota.tasks,
        ),
        ENGINE: Limits(),
        WORKLOAD: Limits(
            cpu_quota=quota_of(workload_cpu(config)),
            memory_max=Bytes(config.quota.memory - world.engine_memory),
        ),
        ADOPTED: _adopted_limits(config),
    }
    what = {
        ROOT: "everything of Docker",
        ENGINE: "dockerd and containerd",
        WORKLOAD: "every container",
        ADOPTED: "containers started without the enforcer",
    }
    slices: dict[UnitName, DesiredSlice] = {}
    for unit, one in limits.items():
        _add(slices, unit, one, what[unit], lasting=True)
    return slices


def _adopted_limits(config: Config) -> Limits:
    adopted = config.adopted
    return Limits(
        cpu_quota=quota_of(adopted.cpu),
        memory_max=pages_of(adopted.memory),
        swap_max=pages_of(adopted.swap),
        tasks_max=adopted.tasks,
    )


def _profiles(world: World) -> set[str]:
    """Return the profiles that need their slice, or have it."""
    needed = {lease.profile for lease in (*world.live, *world.kept)}
    there = world.observed.cgroups
    return needed | {name for name in world.config.profiles if profile_slice(name) in there}


def _profile(config: Config, lease: Lease) -> ResourceProfile:
    """Return a lease's profile; one that a reload took away lives on in what was granted."""
    return config.profiles.get(lease.profile) or ResourceProfile(
        name=lease.profile, cpu_limit=lease.grant.cpu_limit, mem_limit=lease.grant.mem_limit
    )


def _profile_limits(world: World, name: str) -> Limits:
    """Without a total there is no limit of its own: the workload's is in force anyway."""
    profile = world.config.profiles.get(name)
    if profile is None:
        return Limits()
    bounded = profile.cpu_total is not None
    return Limits(
        cpu_quota=quota_of(profile_cpu(world.config, name)) if bounded else None,
        memory_max=None if profile.mem_total is None else pages_of(profile.mem_total),
        tasks_max=profile.tasks_total,
    )


def _user_limits(world: World, lease: Lease) -> Limits:
    profile = _profile(world.config, lease)
    memory = profile.mem_total
    if lease.user in world.totals:
        total = world.totals[lease.user][1]
        memory = total if memory is None else min(total, memory)
    return Limits(
        cpu_quota=quota_of(user_cpu(world.config, lease.profile, lease.user, world.totals)),
        memory_max=None if memory is None else pages_of(memory),
    )


def _with_room(world: World, lease: Lease) -> tuple[UnitName, Limits, str]:
    """Return a user's slice with its limits and what it is, with room for the kernel's own."""
    limits = _user_limits(world, lease)
    if limits.memory_max is not None:
        limits = replace(limits, memory_max=Bytes(limits.memory_max + KERNELS_OWN))
    of_user = user_slice(lease.profile, lease.user)
    return of_user, limits, f"{lease.user} in profile {lease.profile}"


def _lease_limits(world: World, lease: Lease) -> Limits:
    profile = _profile(world.config, lease)
    high = profile.mem_throttle
    return Limits(
        cpu_quota=quota_of(lease.grant.cpu_limit),
        memory_min=pages_of(lease.grant.mem_guarantee) if lease.live else Bytes(0),
        memory_high=pages_of(high) if high is not None and high < lease.grant.mem_limit else None,
        memory_max=pages_of(lease.grant.mem_limit),
        swap_max=pages_of(profile.swap_limit),
        tasks_max=profile.tasks_limit,
        io_weight=profile.io_weight,
    )


def _strays(
    slices: Mapping[UnitName, DesiredSlice],
    gone: frozenset[UnitName],
    cgroups: Mapping[UnitName, Cgroup],
) -> Iterable[Cgroup]:
    """Return the slices nobody asked for in which something runs, parents first.

    And the empty ones that still protect memory, a user's whose last lease ended: the levels above
    protect it no longer.
    """
    found = [
        cgroup
        for unit, cgroup in cgroups.items()
        if unit not in slices
        and unit not in gone
        and (cgroup.populated or cgroup.limits.memory_min)
    ]
    return sorted(found, key=lambda cgroup: (cgroup.unit.count("-"), cgroup.unit))


def _add(
    slices: dict[UnitName, DesiredSlice],
    unit: UnitName,
    limits: Limits,
    what: str,
    *,
    lasting: bool = False,
) -> None:
    """Add a slice below those that are there; it may use no more than they may."""
    above = [slices[one].limits for one in ancestors(unit) if one in slices]
    cpu = _within(limits.cpu_quota, (one.cpu_quota for one in above))
    memory = _within(limits.memory_max, (one.memory_max for one in above))
    if (cpu, memory) != (limits.cpu_quota, limits.memory_max):
        limits = replace(limits, cpu_quota=cpu, memory_max=memory)
    slices[unit] = DesiredSlice(
        unit=unit,
        limits=limits,
        description=f"Enforcer: {what}",
        lasting=lasting,
    )


def _within(own: T | None, above: Iterable[T | None]) -> T | None:
    """Return a limit that exceeds none above it; where there is none, those above are enough."""
    return None if own is None else min((own, *(one for one in above if one is not None)))


def quota_of(amount: Cpus) -> Cpus:
    """Return the quota as the kernel will show it again."""
    return Cpus(max(amount, MIN_QUOTA) // _QUOTA_GRAIN * _QUOTA_GRAIN)


def pages_of(amount: int) -> Bytes:
    """Return the amount in whole pages, as the kernel will show it again."""
    return Bytes(amount // PAGE * PAGE)


def _cpu_list(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"
