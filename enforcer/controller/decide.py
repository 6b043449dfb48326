"""What a tick, or a placement, comes to: the pure parts put together, with what they remember."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from enforcer.controller.outline import same_outline
from enforcer.desired import desired, desired_path
from enforcer.easing import Eased, Easing, Known
from enforcer.model import (
    Action,
    Config,
    Container,
    ContainerLimits,
    Deferred,
    Desired,
    DesiredSlice,
    Lease,
    Limits,
    Observed,
)
from enforcer.names import UnitName
from enforcer.quantities import Bytes, Cpus
from enforcer.reconcile import reconcile
from enforcer.shares import (
    CALM,
    MIN_INTERVAL_SECONDS,
    Contention,
    caps,
    hurried,
    pressed_for,
)
from enforcer.tree import Totals

_LEAF_DASHES = 4
"""jupyter-workload-<profile>-<user>-<server>.slice; escaping leaves no other dash."""
_WEIGHT_TOLERANCE_PER_CENT = 10
"""A new lease shifts everybody's weight a little: a call to PID 1 each is not worth that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What is decided upon, beside the snapshot. known: what we set last, slices and containers."""

    config: Config
    leases: tuple[Lease, ...]
    kept: tuple[Lease, ...]
    removable: frozenset[UnitName]
    totals: Totals
    known: Mapping[UnitName, Limits]
    known_containers: Mapping[str, ContainerLimits]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What one tick came to. base: the snapshot that rates are counted from, None at first."""

    desired: Desired
    actions: tuple[Action, ...]
    eased: Eased
    """What of it is to be in force now, for what waits."""
    caps: Mapping[UnitName, Cpus]
    base: Observed | None
    rated: bool
    """The base is old enough for rates, and the next ones count from here."""
    settled: bool = False
    """Nothing has changed since a decision that found nothing to do."""

    @property
    def deferred(self) -> tuple[Deferred, ...]:
        """What waits, as people are told."""
        return self.eased.waiting

    @property
    def unfinished(self) -> tuple[Deferred, ...]:
        """What waits, and what has waited and is not on the kernel yet."""
        return (*self.eased.waiting, *self.eased.ending)


class Decider:
    """Decides; remembers what is done about contention, what was deferred, and the rates' base."""

    def __init__(self) -> None:
        self._base: Observed | None = None
        self._contention = CALM
        self._deferred: tuple[Deferred, ...] = ()
        self._settled: tuple[Observed, Given, Decision] | None = None
        """The last decision, and upon what, if it found nothing to do but to report."""

    def recall(self, deferred: tuple[Deferred, ...]) -> None:
        """Take up what waits: its time runs on, after a start too."""
        self._deferred = deferred

    def tick(self, observed: Observed, given: Given, *, lift_caps: bool = False) -> Decision:
        """Decide a tick; lift_caps: as if nobody had to be capped."""
        base = self._base
        age = None if base is None else observed.taken_at - base.taken_at
        rated = age is None or age >= rates_after(given.config)
        before = self._contention
        self._contention = CALM if lift_caps else self._contend(observed, given, rated=rated)
        if rated:
            self._base = observed
        known_decision = self._still(observed, given, before)
        if known_decision is not None:
            return replace(known_decision, base=base, rated=rated, settled=True)
        wanted = _steady(self._desired(observed, given), given.known)
        known = Known(
            slices=given.known,
            containers=given.known_containers,
            capped=before.caps.keys() | self._contention.caps.keys(),
        )
        easing = Easing(
            now=observed.taken_at,
            grace_seconds=given.config.daemon.resize_grace_seconds,
            deferred=self._deferred,
        )
        result = reconcile(wanted, observed, known=known, easing=easing)
        decision = Decision(
            desired=wanted,
            actions=result.actions,
            eased=result.eased,
            caps=self._contention.caps,
            base=base,
            rated=rated,
        )
        self._deferred = decision.unfinished
        idle = not decision.unfinished and result.actions == wanted.reports
        self._settled = (observed, given, decision) if idle else None
        return decision

    def _still(
        self, observed: Observed, given: Given, contention_before: Contention
    ) -> Decision | None:
        """Return the last decision if it found nothing to do, and nothing has changed since.

        What the kernel holds is part of that, so drift is never overlooked.
        """
        if self._settled is None:
            return None
        before, given_before, decision = self._settled
        same = given is given_before and self._contention.settles_as(contention_before)
        if not same or not same_outline(before, observed):
            return None
        self._settled = (observed, given, decision)  # the nearer, the more is the very same value
        return decision

    def placement(self, lease: Lease, observed: Observed, given: Given) -> Decision:
        """Decide what a new lease needs at once: its slices, and floors above them.

        `observed` needs no more than the slices on the lease's path. Weights of slices that are
        there already move at the next tick, and so does a floor above that is lowered.
        """
        path = desired_path(
            given.config,
            given.leases,
            observed,
            lease,
            totals=given.totals,
            contention=self._contention,
        )
        there = {unit: one.limits for unit, one in observed.cgroups.items()}
        # somebody else's floor is no basis for another
        ours = {unit: given.known.get(unit, limits).memory_min for unit, limits in there.items()}
        grown = max(0, path[lease.unit].limits.memory_min - ours.get(lease.unit, 0))
        floors = {unit: ours[unit] + grown for unit in ours if unit != lease.unit}
        wanted = Desired(
            slices={
                unit: _beside_others(one, there[unit], floors.get(unit, 0))
                if unit in there
                else one
                for unit, one in path.items()
            }
        )
        easing = Easing(now=observed.taken_at, deferred=self._deferred)
        known = Known(slices=given.known)
        result = reconcile(wanted, observed, known=known, easing=easing)
        return Decision(
            desired=wanted,
            actions=result.actions,
            eased=result.eased,
            caps=self._contention.caps,
            base=None,
            rated=False,
        )

    def _contend(self, observed: Observed, given: Given, *, rated: bool) -> Contention:
        base = self._base if rated else None
        before = self._contention
        config, leases, totals = given.config, given.leases, given.totals
        capped = caps(config, leases, base, observed, before.caps, totals=totals)
        return Contention(
            caps=capped,
            hurried=hurried(config, leases, base, observed, before.hurried, totals=totals)
            if capped
            else frozenset(),
            pressed_for=pressed_for(
                config, leases, base, observed, before.pressed_for, totals=totals
            ),
        )

    def _desired(self, observed: Observed, given: Given) -> Desired:
        return desired(
            given.config,
            given.leases,
            observed,
            totals=given.totals,
            contention=self._contention,
            kept=given.kept,
            removable=given.removable,
        )


def rates_after(config: Config) -> float:
    """Return the age in seconds at which a base is old enough: a tick's, or what shares need."""
    return max(0.9 * config.daemon.tick_seconds, MIN_INTERVAL_SECONDS)


def find_removable(
    leaves: Iterable[UnitName],
    live: Collection[UnitName],
    containers: Mapping[str, Container] | None,
) -> frozenset[UnitName]:
    """Return the leaves that may go: no live lease's, and no container names them.

    Without an answer of Docker none may: a stopped container may name any of them. So may one that
    cannot be inspected.
    """
    if containers is None or any(
        one.unread and not one.cgroup_parent for one in containers.values()
    ):
        return frozenset()
    named = {container.cgroup_parent for container in containers.values()}
    return frozenset(unit for unit in leaves if unit not in live and unit not in named)


def is_leaf(unit: UnitName) -> bool:
    """Tell a lease's leaf from the slices above it."""
    return unit.count("-") == _LEAF_DASHES


def _steady(wanted: Desired, known: Mapping[UnitName, Limits]) -> Desired:
    """Leave weights that are about right as they were set."""
    return replace(
        wanted,
        slices={
            unit: _with_weight(one, known[unit].cpu_weight) if unit in known else one
            for unit, one in wanted.slices.items()
        },
    )


def _with_weight(one: DesiredSlice, weight: int) -> DesiredSlice:
    new = one.limits.cpu_weight
    if new == weight or abs(new - weight) * 100 > weight * _WEIGHT_TOLERANCE_PER_CENT:
        return one
    return replace(one, limits=replace(one.limits, cpu_weight=weight))


def _beside_others(one: DesiredSlice, there: Limits, floor: int) -> DesiredSlice:
    """Leave to the next tick what a new lease does not need.

    floor: no lower than this. Above the lease, the floor of one that has just ended still counts:
    its leaf has it until the next tick.
    """
    limits = replace(
        one.limits,
        cpu_weight=there.cpu_weight,
        io_weight=there.io_weight,
        memory_min=Bytes(max(one.limits.memory_min, floor)),
    )
    return replace(one, limits=limits)
