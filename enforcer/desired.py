"""The tree as it ought to be: from the configuration, the leases and the CPU caps, no I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from enforcer.containers import container_reports, desired_containers, engine_reports
from enforcer.excess import excess_reports
from enforcer.model import (
    DEFAULT_IO_WEIGHT,
    Cgroup,
    Config,
    Desired,
    DesiredSlice,
    Lease,
    Limits,
    Observed,
)
from enforcer.names import ENGINE, ROOT, WORKLOAD, UnitName, ancestors
from enforcer.quantities import Bytes, Cpus
from enforcer.shares import CALM, Contention, weights
from enforcer.slices import World, pages_of, quota_of, slice_tree
from enforcer.tree import Totals

_MAX_WEIGHT: Final = 10_000


def desired(
    config: Config,
    leases: Iterable[Lease],
    observed: Observed,
    *,
    totals: Totals,
    contention: Contention = CALM,
    kept: Iterable[Lease] = (),
    removable: Collection[UnitName] = (),
) -> Desired:
    """Return every slice as it ought to be, parents first, and the containers in them.

    leases: all; only the live ones count. totals: user → total of CPU
    and memory; a user who is missing is bounded by the profile alone. kept: released leases whose
    leaf must stay, because a container still names it; their limits hold, their guarantee is over.
    removable: leaves that may go once they are empty.

    Slices below ours that nobody asked for, once something runs in them, get the adopted quota's
    limits, and so do containers outside, or in a slice that is for many: nothing runs unlimited.
    """
    live = tuple(lease for lease in leases if lease.live)
    units = {lease.unit for lease in live}
    world = World(
        config=config,
        live=live,
        kept=tuple(lease for lease in kept if lease.unit not in units),
        observed=observed,
        totals=totals,
    )
    gone = frozenset(removable) - units - {lease.unit for lease in world.kept}
    slices = slice_tree(world, gone)
    placed = (*world.live, *world.kept)
    return Desired(
        slices=_complete(slices, world, contention),
        containers=desired_containers(config, placed, observed, slices),
        removable=gone,
        reports=(
            *engine_reports(observed),
            *container_reports(config, placed, observed),
            *excess_reports(live, totals),
        ),
    )


def desired_path(
    config: Config,
    leases: Iterable[Lease],
    observed: Observed,
    lease: Lease,
    *,
    totals: Totals,
    contention: Contention = CALM,
) -> Mapping[UnitName, DesiredSlice]:
    """Return a live lease's slice and those above it, parents first, as `desired` has them.

    At the price of one lease, for somebody waits for it. But an I/O weight is the lease's own, and
    a floor that a smaller total has cut counts in full.
    """
    live = tuple(one for one in leases if one.live)
    world = World(config=config, live=live, kept=(), observed=observed, totals=totals)
    path = frozenset({lease.unit, *ancestors(lease.unit)})
    slices = slice_tree(world, frozenset(), path)
    full = _complete(slices, world, contention, only=path)
    return {unit: one for unit, one in full.items() if unit in path}


def _complete(
    slices: Mapping[UnitName, DesiredSlice],
    world: World,
    contention: Contention,
    only: Collection[UnitName] | None = None,
) -> dict[UnitName, DesiredSlice]:
    """Return slices with what they have for the sake of others: weights, floors, caps.

    only: those whose weight is wanted, None for all.
    """
    floors = _floors(slices, world)
    competing = _competing(slices, world)
    weight = weights(
        world.config, world.live, competing, world.observed.host_weights, contention, only=only
    )
    ios = _io_weights(slices)
    return {
        unit: _with_limits(
            one,
            cpu_quota=_capped(one.limits.cpu_quota, contention.caps.get(unit)),
            cpu_weight=weight.get(unit, 1),
            memory_min=floors[unit],
            io_weight=ios.get(unit, _left_over(world.observed.cgroups.get(unit))),
        )
        for unit, one in slices.items()
    }


def _left_over(there: Cgroup | None) -> int | None:
    """Return the I/O weight of a slice that ought to have none: what the kernel gives everybody.

    None where it has that: nothing need be set, and many kernels have no such weight.
    """
    other = there is not None and there.limits.io_weight not in {None, DEFAULT_IO_WEIGHT}
    return DEFAULT_IO_WEIGHT if other else None


def _with_limits(
    one: DesiredSlice,
    *,
    cpu_quota: Cpus | None,
    cpu_weight: int,
    memory_min: Bytes,
    io_weight: int | None,
) -> DesiredSlice:
    """Return a slice with these limits too; field by field, for `replace` takes thrice as long."""
    own = one.limits
    limits = Limits(
        cpu_quota=cpu_quota,
        cpu_period_usec=own.cpu_period_usec,
        cpu_weight=cpu_weight,
        memory_min=memory_min,
        memory_high=own.memory_high,
        memory_max=own.memory_max,
        swap_max=own.swap_max,
        tasks_max=own.tasks_max,
        io_weight=io_weight,
        cpus=own.cpus,
    )
    return DesiredSlice(
        unit=one.unit,
        limits=limits,
        description=one.description,
        lasting=one.lasting,
        capped=cpu_quota != own.cpu_quota,
    )


def _floors(slices: Mapping[UnitName, DesiredSlice], world: World) -> Mapping[UnitName, Bytes]:
    """Return memory.min of every slice: the sum of what is below, or it is worth nothing there."""
    floors = dict.fromkeys(slices, 0)
    # a leaf that a smaller total has cut cannot keep more than it may have
    own = {
        unit: _at_most(one.limits.memory_min, one.limits.memory_max)
        for unit, one in slices.items()
        if one.limits.memory_min
    }
    own[ENGINE] = world.engine_memory
    for lease in world.live:
        if lease.unit not in slices and lease.grant.mem_guarantee:
            own[lease.unit] = pages_of(lease.grant.mem_guarantee)
    for unit, floor in own.items():
        for level in (unit, *ancestors(unit)):
            if level in floors:
                floors[level] += floor
    return {unit: _at_most(floor, slices[unit].limits.memory_max) for unit, floor in floors.items()}


def _io_weights(slices: Mapping[UnitName, DesiredSlice]) -> Mapping[UnitName, int]:
    """Return io.weight where a profile has one: a user's and a profile's is the sum below."""
    found: dict[UnitName, int] = {}
    for unit, one in slices.items():
        if one.limits.io_weight is not None:
            for level in (unit, *ancestors(unit)):
                if level not in {ROOT, WORKLOAD}:
                    found[level] = min(_MAX_WEIGHT, found.get(level, 0) + one.limits.io_weight)
    return found


def _competing(slices: Mapping[UnitName, DesiredSlice], world: World) -> Collection[UnitName]:
    """Return the populated slices without a promise that compete as one leaf each."""
    others = {above for unit in slices for above in ancestors(unit)}
    others |= {lease.unit for lease in world.live}
    others.add(ENGINE)
    return [
        unit
        for unit, cgroup in world.observed.cgroups.items()
        if cgroup.populated
        and unit in slices
        and unit not in others
        and WORKLOAD in ancestors(unit)
    ]


def _at_most(amount: int, limit: Bytes | None) -> Bytes:
    return Bytes(amount if limit is None else min(amount, limit))


def _capped(quota: Cpus | None, cap: Cpus | None) -> Cpus | None:
    if cap is None:
        return quota
    return quota_of(cap) if quota is None else min(quota, quota_of(cap))
