"""Every slice with the limits of its own: what the configuration and the leases say of it alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, TypeVar

from enforcer.model import (
    Cgroup,
    Config,
    Container,
    DesiredSlice,
    Lease,
    Limits,
    Observed,
    ResourceProfile,
)
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
        others = without_lease(self.live, self.observed.containers, self.observed.scopes)
        engine, quota = self.config.engine, self.config.quota.memory
        count = others + len(self.live)
        floor = engine.memory + engine.memory_per_container * count
        to_next = engine.memory_per_container * (-count % _STEP_CONTAINERS)
        promised = sum(lease.grant.mem_guarantee for lease in self.live)
        return pages_of(min(floor + min(to_next, max(0, quota - floor - promised)), quota))


def without_lease(
    live: Collection[Lease], containers: Mapping[str, Container] | None, scopes: Iterable[str]
) -> int:
    """Return how many containers run that are no live lease's.

    While Docker does not answer, those count whose scope is in no lease's leaf.
    """
    if containers is None:
        leaves = {lease.unit for lease in live}
        above = (path.rpartition("/")[0].rpartition("/")[2] for path in scopes)
        return sum(unit not in leaves for unit in above)
    ours = {lease.id for lease in live}
    return sum(one.running and one.lease_id not in ours for one in containers.values())


def slice_tree(
    world: World, gone: frozenset[UnitName], path: frozenset[UnitName] | None = None
) -> dict[UnitName, DesiredSlice]:
    """Return every slice with the limits of its own, parents first.

    path: of the leases' slices make only these.
    """
    tree = _Tree()
    _add_fixed(tree, world)
    for name in sorted(_profiles(world)):
        if path is None or profile_slice(name) in path:
            tree.add(profile_slice(name), _profile_limits(world, name), f"profile {name}")
    workload = tree.slices[WORKLOAD].limits.memory_max
    leases = (one for one in (*world.live, *world.kept) if path is None or one.unit in path)
    for lease in sorted(leases, key=lambda lease: lease.unit):
        of_user = user_slice(lease.profile, lease.user)
        if of_user not in tree.slices:
            what = f"{lease.user} in profile {lease.profile}"
            tree.add(of_user, _user_limits(world, lease), what)
        server = lease.server or "the default server"
        tree.add(lease.unit, _lease_limits(world, lease, workload), f"{server} of {lease.user}")
    for cgroup in _strays(tree.slices, gone, world.observed.cgroups):
        limits = _adopted_limits(world.config) if cgroup.populated else cgroup.limits
        tree.add(cgroup.unit, replace(limits, memory_min=Bytes(0)), "nobody asked for it")
    return tree.slices


class _Tree:
    """The slices so far. Nobody below a slice is given more than it has."""

    def __init__(self) -> None:
        self.slices: dict[UnitName, DesiredSlice] = {}
        self._bounds: dict[UnitName, _Bound] = {}

    def add(self, unit: UnitName, limits: Limits, what: str, *, lasting: bool = False) -> None:
        """Add a slice below those that are there; it may use no more than they may."""
        cpu, memory = limits.cpu_quota, limits.memory_max
        above = next((one for one in ancestors(unit) if one in self._bounds), None)
        bound = _NO_BOUND if above is None else self._bounds[above]
        bound = _Bound(_least(cpu, bound.cpu), _least(memory, bound.memory))
        self._bounds[unit] = bound
        if (cpu is not None and cpu != bound.cpu) or (
            memory is not None and memory != bound.memory
        ):
            limits = replace(
                limits,
                cpu_quota=None if cpu is None else bound.cpu,
                memory_max=None if memory is None else bound.memory,
            )
        self.slices[unit] = DesiredSlice(
            unit=unit, limits=limits, description=f"Enforcer: {what}", lasting=lasting
        )

    def bound_memory(self, unit: UnitName, memory: Bytes) -> None:
        """Say what the slices below one may have instead of what it has itself."""
        self._bounds[unit] = self._bounds[unit]._replace(memory=memory)


class _Bound(NamedTuple):
    cpu: Cpus | None = None
    memory: Bytes | None = None


_NO_BOUND: Final = _Bound()


def _add_fixed(tree: _Tree, world: World) -> None:
    """Add the four slices that have a unit file on disk."""
    config = world.config
    quota = config.quota
    last = config.capacity.last_cpus(quota.cpu // CORE)
    limits = {
        ROOT: Limits(
            cpu_quota=None if quota.whole_cores else quota_of(quota.cpu),
            cpus=cpu_list(last) if quota.whole_cores else "",
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
    for unit, one in limits.items():
        tree.add(unit, one, what[unit], lasting=True)
    # What the workload has shrinks with every container. A total that followed it would have to be
    # set anew for every user; as it is the workload's limit that holds, a leaf alone keeps to it.
    tree.bound_memory(WORKLOAD, pages_of(quota.memory - config.engine.memory))


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
    """Return a lease's profile; of one that nothing tells of there is what was granted."""
    return config.profile(lease.profile) or ResourceProfile(
        name=lease.profile, cpu_limit=lease.grant.cpu_limit, mem_limit=lease.grant.mem_limit
    )


def _profile_limits(world: World, name: str) -> Limits:
    """Without a total there is no limit of its own: the workload's is in force anyway."""
    profile = world.config.profile(name)
    if profile is None:
        return Limits()
    bounded = profile.cpu_total is not None
    return Limits(
        cpu_quota=quota_of(profile_cpu(world.config, name)) if bounded else None,
        memory_max=None if profile.mem_total is None else pages_of(profile.mem_total),
        tasks_max=profile.tasks_total,
    )


def _user_limits(world: World, lease: Lease) -> Limits:
    memory = _user_memory(world, lease)
    return Limits(
        cpu_quota=quota_of(user_cpu(world.config, lease.profile, lease.user, world.totals)),
        memory_max=None if memory is None else Bytes(memory + KERNELS_OWN),
    )


def totals_in_force(leases: Iterable[Lease], cgroups: Mapping[UnitName, Cgroup]) -> Totals:
    """Return the totals of these leases' users as the kernel has them, on the users' slices."""
    totals: dict[str, tuple[Cpus, Bytes]] = {}
    for lease in leases:
        cgroup = cgroups.get(user_slice(lease.profile, lease.user))
        if cgroup is not None:
            cpu, memory = cgroup.limits.cpu_quota, cgroup.limits.memory_max
            if cpu is not None and memory is not None:
                above = (cgroups.get(level) for level in ancestors(cgroup.unit))
                if memory not in {level.limits.memory_max for level in above if level}:
                    memory = Bytes(max(0, memory - KERNELS_OWN))
                known = totals.get(lease.user, (cpu, memory))
                totals[lease.user] = (max(cpu, known[0]), max(memory, known[1]))
    return totals


def _user_memory(world: World, lease: Lease) -> Bytes | None:
    """Return what all of a user's leases in a profile may use together."""
    own = world.totals[lease.user][1] if lease.user in world.totals else None
    memory = _least(own, _profile(world.config, lease).mem_total)
    return None if memory is None else pages_of(memory)


def _lease_limits(world: World, lease: Lease, workload: Bytes | None) -> Limits:
    profile = _profile(world.config, lease)
    high = profile.mem_throttle
    most = _least(_user_memory(world, lease), workload)
    return Limits(
        cpu_quota=quota_of(lease.grant.cpu_limit),
        memory_min=pages_of(lease.grant.mem_guarantee) if lease.live else Bytes(0),
        memory_high=pages_of(high) if high is not None and high < lease.grant.mem_limit else None,
        memory_max=_least(pages_of(lease.grant.mem_limit), most),
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


def _least(one: T | None, other: T | None) -> T | None:
    """Return the smaller of two limits, of which either may be none."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def quota_of(amount: Cpus) -> Cpus:
    """Return the quota as the kernel will show it again."""
    return Cpus(max(amount, MIN_QUOTA) // _QUOTA_GRAIN * _QUOTA_GRAIN)


def pages_of(amount: int) -> Bytes:
    """Return the amount in whole pages, as the kernel will show it again."""
    return Bytes(amount // PAGE * PAGE)


def cpu_list(numbers: Sequence[int]) -> str:
    """Return ascending numbers as the kernel will show them again: ``2-3,6``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
