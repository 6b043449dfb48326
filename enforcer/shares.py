"""Who gets how much CPU under contention: weights for the kernel, caps computed ahead.

Weights alone hold a guarantee only while no quota above runs out: a quota that does stops
everything below it, so that T threads on C CPUs under a quota Q get at most T·Q/C whatever their
weight. So while a lease wants its guarantee and does not get it, everybody who wants more than
is due to them is capped at that, and no quota above them runs out any more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from enforcer.demand import Demand, demands
from enforcer.model import Cgroup, Config, Lease, Observed
from enforcer.names import ADOPTED, ENGINE, ROOT, WORKLOAD, UnitName, ancestors
from enforcer.quantities import CORE, Cpus
from enforcer.tree import (
    NO_TOTALS,
    Level,
    Totals,
    Tree,
    cpu_tree,
    dues,
    members,
    with_room,
    workload_cpu,
)

MIN_QUOTA: Final = Cpus(10_000)
"""The kernel takes no quota below 1 ms a period, which is 10 ms a second."""

MIN_INTERVAL_SECONDS: Final = 0.9
"""Shorter than this, two snapshots are too close to judge rates by."""

_MAX_WEIGHT: Final = 10_000
_WEIGHT_PER_CORE: Final = 100
_HOST_SIDE_WEIGHT: Final = 1.2
_GRAIN: Final = 1_000
"""Caps are whole milliseconds a second."""
_ROOM_PER_MILLE: Final = 5
_STEP_PER_CENT: Final = 2
_SHORT_PER_CENT: Final = 98


def weights(
    config: Config,
    leases: Iterable[Lease],
    competing: Collection[UnitName],
    host_weights: Mapping[str, int],
) -> Mapping[UnitName, int]:
    """Return cpu.weight, 1 to 10000, of the top slices and of every slice live leases need.

    competing: populated slices that were promised nothing (the adopted one, say); each counts as
    one leaf. host_weights: of the machine's other top-level cgroups.

    A leaf's weight stands for its guarantee and an equal share of what nobody was promised; an
    inner slice's for the sum of its leaves. Engine and workload are in proportion to what they
    are due, never at an extreme: an engine with a huge weight starves the workload.
    """
    workload = workload_cpu(config)
    promised = {lease.unit: lease.grant.cpu_guarantee for lease in leases if lease.live}
    promised |= {unit: Cpus(0) for unit in competing if unit not in promised}
    left = max(0, workload - sum(promised.values()))
    share = left // max(1, len(promised))
    due: dict[UnitName, int] = {}
    for unit, guarantee in promised.items():
        for level in (unit, *ancestors(unit)):
            due[level] = due.get(level, 0) + guarantee + share
    due[WORKLOAD] = max(due.get(WORKLOAD, 0), workload)
    due[ENGINE] = config.engine.cpu
    due.setdefault(ADOPTED, share)
    scale = min(_WEIGHT_PER_CORE / CORE, _MAX_WEIGHT / max(1, due[WORKLOAD], due[ENGINE]))
    found = {unit: _weight(amount * scale, 1) for unit, amount in due.items()}
    found[ROOT] = _root_weight(config, host_weights)
    return found


def caps(
    config: Config,
    leases: Collection[Lease],
    previous: Observed | None,
    now: Observed,
    caps_before: Mapping[UnitName, Cpus],
    *,
    totals: Totals = NO_TOTALS,
) -> Mapping[UnitName, Cpus]:
    """Return leaf (or engine, or adopted) → the CPU quota below its own limit it has to keep to.

    previous: a snapshot at least 0.9 s older than `now`, best that of the last decision; with a
    younger one, or none, the caps in force stay. totals: as for `desired`.

    Caps begin when a lease gets less than 98 % of what it wants of its guarantee, and end by
    themselves when everybody's demand fits, or nobody in reach has a guarantee. What a promised
    lease leaves unused is lent to the others, so that the quota is used up. What a capped one
    leaves of its cap is not, when it works in bursts shorter than a tick: lending that out made
    the caps swing, for little gain.
    """
    if previous is not None and now.taken_at - previous.taken_at < MIN_INTERVAL_SECONDS:
        previous = None
    if not caps_before and (previous is None or not _may_be_wronged(leases, previous, now)):
        return {}
    tree = cpu_tree(config, leases, totals, now.cgroups)
    if previous is None:
        return {unit: cap for unit, cap in caps_before.items() if unit in tree}
    demand = demands(tree, config.capacity.cpus, previous, now)
    if not caps_before and not any(_wronged(tree[unit], demand[unit]) for unit in demand):
        return {}
    fresh = _fresh(tree, demand)
    steady = {unit: _steady(cap, caps_before.get(unit)) for unit, cap in fresh.items()}
    return steady if _fits(tree, demand, steady, fresh) else fresh


def _may_be_wronged(leases: Iterable[Lease], previous: Observed, now: Observed) -> bool:
    """Tell, at little cost, whether anybody can have got less than they want of their guarantee.

    Nobody who neither ran nor waited has; at most ticks that is everybody.
    """
    return any(
        lease.live
        and lease.grant.cpu_guarantee > 0
        and _moved(previous.cgroups.get(lease.unit), now.cgroups.get(lease.unit))
        for lease in leases
    )


def _moved(before: Cgroup | None, after: Cgroup | None) -> bool:
    return before is not after and before is not None and after is not None


def _fresh(tree: Tree, demand: Mapping[UnitName, Demand]) -> dict[UnitName, Cpus]:
    tight = with_room(tree, _ROOM_PER_MILLE)
    wanted = {unit: one.expected for unit, one in demand.items()}
    due = dues(tight, wanted)
    contended = _contended(tight, due)
    return {
        unit: Cpus(max(due[unit] // _GRAIN * _GRAIN, tree[unit].guarantee, MIN_QUOTA))
        for unit in wanted
        if wanted[unit] > due[unit] and not contended.isdisjoint(ancestors(unit))
    }


def _contended(tree: Tree, due: Mapping[UnitName, Cpus]) -> frozenset[UnitName]:
    """Return the slices whose limit is shared out to the last, with a promised lease below."""
    return frozenset(
        unit
        for unit, leaves in members(tree).items()
        if any(tree[leaf].guarantee for leaf in leaves if leaf != ENGINE)
        and tree[unit].limit - sum(due[leaf] for leaf in leaves) < len(leaves)
    )


def _wronged(leaf: Level, demand: Demand) -> bool:
    """Tell whether a lease wants more of its guarantee than it gets; the engine has its room."""
    wanted = min(demand.wanted, leaf.guarantee)
    return leaf.unit != ENGINE and demand.used * 100 < wanted * _SHORT_PER_CENT


def _steady(cap: Cpus, before: Cpus | None) -> Cpus:
    """Keep a cap in force that differs by little: each change is a call to PID 1."""
    if before is None or abs(cap - before) * 100 > before * _STEP_PER_CENT:
        return cap
    return before


def _fits(
    tree: Tree,
    demand: Mapping[UnitName, Demand],
    steady: Mapping[UnitName, Cpus],
    fresh: Mapping[UnitName, Cpus],
) -> bool:
    """Tell whether the caps in force keep within every limit, or no farther from it than new ones.

    New ones exceed a limit where those who are due nothing get the least quota there is.
    """
    expected = {unit: one.expected for unit, one in demand.items()}
    in_force, anew = expected | dict(steady), expected | dict(fresh)
    return all(
        sum(in_force.get(leaf, 0) for leaf in leaves)
        <= max(tree[unit].limit, sum(anew.get(leaf, 0) for leaf in leaves))
        for unit, leaves in members(tree).items()
    )


def _root_weight(config: Config, host_weights: Mapping[str, int]) -> int:
    """Weigh our part of the machine against the host's, a little to our side.

    Quotas keep us from more than our part; nothing but the weight keeps the host from it.
    """
    quota = config.quota.cpu
    reserved = config.capacity.cpus - quota
    if reserved <= 0:
        return _MAX_WEIGHT
    return _weight(sum(host_weights.values()) * quota / reserved * _HOST_SIDE_WEIGHT, 100)


def _weight(value: float, least: int) -> int:
    return min(_MAX_WEIGHT, max(least, round(value)))
