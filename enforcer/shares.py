"""Who gets how much CPU under contention: weights for the kernel, caps computed ahead.

Weights alone hold a guarantee only while no quota above runs out: a quota that does stops
everything below it, so that T threads on C CPUs under a quota Q get at most T·Q/C whatever their
weight. So while a lease wants its guarantee and does not get it, everybody who wants more than
is due to them is capped at that, and no quota above them runs out any more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from enforcer.demand import Demand, demands, idle, machine_full
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

PRESSING: Final = 2
"""Decisions. For as long as a login or a ``docker ps`` takes, nobody need mind."""
PRESSED: Final = 6
"""Counted down from here while the host need not wait: so it presses for five decisions more."""

_MAX_WEIGHT: Final = 10_000
_HURRY: Final = 8
_WHOLE_CORE: Final = CORE * 9 // 10
_HOST_FIRST: Final = 60
"""Between two wishes. Beside containers that use all they may, a login takes 1.5 times as long as
on an idle machine at 100, which every other slice has, 1.4 at this, and 1.05 at 50; a ``docker ps``
takes longer the less it is, for the engine is one of us."""
_ENGINE_FIRST: Final = 8
"""Times what the engine is due, while no cap is in force. Beside hogs on two CPUs a ``docker ps``
takes 1.29 times as long as idle if it weighs what it is due (20 against 130), 1.2 at 130."""
_WEIGHT_PER_CORE: Final = 100
_HOST_SIDE_WEIGHT: Final = 1.2
_HOST_WAITS: Final = 0.2
"""Share of the time in which a task of the host's has to wait."""
_IDLE_ENOUGH: Final = 0.25
"""Share of the machine. While containers keep to caps, more than a tenth of two CPUs was idle at
many readings though the host wanted both: the kernel is slow to move its threads where a capped one
has just left."""
_GRAIN: Final = 1_000
"""Caps are whole milliseconds a second."""
_ROOM_PER_MILLE: Final = 10
"""Below a limit that caps keep to, for the kernel counts by the tick: with 5, the limit still ran
out in 11 of 80 periods, under four capped leaves."""
_STEP_PER_CENT: Final = 2
_LEAST_STEP: Final = 10_000
"""Each change is a call to PID 1, and has the kernel fill the leaf's quota up once more."""
_SHORT_PER_CENT: Final = 98


@dataclass(frozen=True, slots=True, kw_only=True)
class Contention:
    """What is done about contention. Each is what the function of its name returned last."""

    caps: Mapping[UnitName, Cpus] = field(default_factory=dict)
    hurried: frozenset[UnitName] = frozenset()
    pressed_for: int = 0

    @property
    def host_presses(self) -> bool:
        """Whether the host has taken from what was promised for so long that it must give way."""
        return self.pressed_for >= PRESSING

    def settles_as(self, other: Contention) -> bool:
        """Tell whether quotas and weights come out the same."""
        return (self.caps, self.hurried, self.host_presses) == (
            other.caps,
            other.hurried,
            other.host_presses,
        )


CALM: Final = Contention()
"""Nothing is."""


def weights(
    config: Config,
    leases: Iterable[Lease],
    competing: Collection[UnitName],
    host_weights: Mapping[str, int],
    contention: Contention = CALM,
    *,
    only: Collection[UnitName] | None = None,
) -> Mapping[UnitName, int]:
    """Return cpu.weight, 1 to 10000, of the top slices and of every slice live leases need.

    competing: populated slices that were promised nothing (the adopted one, say); each counts as
    one leaf. host_weights: of the machine's other top-level cgroups. only: no other slice than
    these (and the top ones), for who needs few of them at once.

    A leaf's weight stands for its guarantee and an equal share of what nobody was promised; an
    inner slice's for the sum of its leaves. Engine and workload are in proportion to what they
    are due; while nobody's promise suffers the engine weighs more, as it has to answer whoever
    waits, but never more than the workload: with a huge weight it starves that.

    While caps are in force, they share the CPU out, and a weight says no more than who waits for
    whom on one CPU: there, who was promised nothing waits for everybody else, and everybody for
    who is hurried.
    """
    workload = workload_cpu(config)
    promised = {lease.unit: lease.grant.cpu_guarantee for lease in leases if lease.live}
    promised |= {unit: Cpus(0) for unit in competing if unit not in promised}
    left = max(0, workload - sum(promised.values()))
    share = left // max(1, len(promised))
    due: dict[UnitName, int] = {}
    for unit, guarantee in promised.items():
        amount = guarantee + share
        if contention.caps and not guarantee:
            amount = 0
        elif contention.caps and unit in contention.hurried:
            amount *= _HURRY
        for level in (unit, *ancestors(unit)):
            if only is None or level in only:
                due[level] = due.get(level, 0) + amount
    due[WORKLOAD] = workload
    due[ENGINE] = config.engine.cpu
    due.setdefault(ADOPTED, share)
    scale = min(_WEIGHT_PER_CORE / CORE, _MAX_WEIGHT / max(1, due[WORKLOAD], due[ENGINE]))
    found = {unit: _weight(amount * scale, 1) for unit, amount in due.items()}
    if not contention.caps:
        answering = min(found[WORKLOAD], _ENGINE_FIRST * found[ENGINE])
        found[ENGINE] = max(found[ENGINE], answering)
    found[ROOT] = _HOST_FIRST
    if contention.host_presses or (contention.caps and contention.hurried):
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


def hurried(
    config: Config,
    leases: Collection[Lease],
    previous: Observed | None,
    now: Observed,
    before: frozenset[UnitName],
    *,
    totals: Totals = NO_TOTALS,
) -> frozenset[UnitName]:
    """Return the leases of one thread each that never sleeps and was promised a whole core.

    It has no time to spare: each moment that another runs on its CPU is lost to it, though the
    other could as well have run elsewhere or later. previous, totals: as for `caps`; before: what
    this returned for the last decision.
    """
    promised = [lease for lease in leases if lease.grant.cpu_guarantee >= _WHOLE_CORE]
    if not promised:
        return frozenset()
    if previous is None or now.taken_at - previous.taken_at < MIN_INTERVAL_SECONDS:
        return before
    tree = cpu_tree(config, promised, totals)
    demand = demands(tree, config.capacity.cpus, previous, now)
    return frozenset(unit for unit, one in demand.items() if one.never_sleeps and unit != ENGINE)


def pressed_for(
    config: Config,
    leases: Collection[Lease],
    previous: Observed | None,
    now: Observed,
    before: int,
    *,
    totals: Totals = NO_TOTALS,
) -> int:
    """Return for how many decisions the host has taken from what was promised, `PRESSED` at most.

    From `PRESSING` on, jupyter.slice is weighed against the host's slices in proportion; until
    then it counts no more than any of them. For with the larger weight an admin who logs in, or
    asks dockerd for something, waits behind containers that were promised nothing (2.3 times as
    long for a ``docker ps`` on two CPUs, 1.1 with equal weights), and a promise bears some seconds'
    delay. Only a machine without idle CPU can be to blame; and it ends when the host has hardly had
    to wait for a while, though it came last. previous, totals: as for `caps`; before: what this
    returned for the last decision.
    """
    if previous is None or now.taken_at - previous.taken_at < MIN_INTERVAL_SECONDS:
        return before
    if not any(lease.live and lease.grant.cpu_guarantee for lease in leases):
        return 0
    cpus = config.capacity.cpus
    if before >= PRESSING:
        return PRESSED if _host_waits(cpus, previous, now) else before - 1
    if machine_full(cpus, previous, now) < 0.5:
        return max(0, before - 1)
    if not _may_be_wronged(leases, previous, now):
        return before
    tree = cpu_tree(config, leases, totals, now.cgroups)
    demand = demands(tree, cpus, previous, now)
    if not any(_wronged(tree[unit], demand[unit]) for unit in demand):
        return before
    return PRESSED if before + 1 == PRESSING else before + 1


def _host_waits(cpus: Cpus, previous: Observed, now: Observed) -> bool:
    """Tell whether the host wants more CPU than it gets.

    Not by its waiting alone: who waits for a quota of the host's own would do so for ever.
    """
    was, is_now = previous.host.waiting_usec, now.host.waiting_usec
    if was is None or is_now is None:
        return machine_full(cpus, previous, now) >= 0.5
    waited = (is_now - was) / CORE / (now.taken_at - previous.taken_at)
    return waited > _HOST_WAITS and idle(cpus, previous, now) < _IDLE_ENOUGH * cpus / CORE


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
    """Keep a cap in force that differs by little."""
    if before is None or abs(cap - before) > max(_LEAST_STEP, before * _STEP_PER_CENT // 100):
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
