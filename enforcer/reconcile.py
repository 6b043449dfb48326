"""The difference between what ought to be and what the kernel shows, as actions. Pure.

Order: what grows goes first and from the root down, then what is new is made there; what shrinks
goes last and from the leaves up; a container's own limits change in between. So a leaf grows before
its scope and shrinks after it, and no slice is ever promised more than the one above it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Final, NamedTuple

from enforcer.easing import Eased, Easing, Known, ease
from enforcer.model import (
    DEFAULT_IO_WEIGHT,
    Action,
    Cause,
    Cgroup,
    Container,
    ContainerLimits,
    CreateSlice,
    Deferred,
    Desired,
    DesiredContainer,
    DesiredSlice,
    Limits,
    Observed,
    RemoveSlice,
    ReportDrift,
    SetLimits,
    SetOomScoreAdj,
    UpdateContainer,
)
from enforcer.names import UnitName

RUNC_GRAIN: Final = 10_000
"""runc rounds a container's quota up to 10 ms a second (runc#4622)."""

_CEILINGS: Final = ("cpu_quota", "memory_high", "memory_max", "swap_max", "tasks_max")
"""Fields in which None, no limit, is the most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciled:
    """What to do, in order, what is to be reported at the end; and what waits meanwhile."""

    actions: tuple[Action, ...]
    eased: Eased


def reconcile(desired: Desired, observed: Observed, *, known: Known, easing: Easing) -> Reconciled:
    """Return what makes the world as it ought to be; nothing where it is.

    A field differs if the kernel's number does. It is drift if the kernel's number is not what we
    set last either; for a unit that `known` does not have, it is a change.
    A lasting slice with nothing on disk is set as a whole, whatever the kernel holds. But a CPU cap
    is not for good, on no slice: after a boot nobody might be there to lift it.
    """
    result = ease(desired, observed, known, easing)
    eased, there = result.desired, observed.cgroups
    creates: list[Action] = [
        CreateSlice(
            unit=one.unit, limits=one.limits, description=one.description, lasting=one.lasting
        )
        for one in eased.slices.values()
        if one.unit not in there
    ]
    lowered_floors: list[Action] = []
    growing: list[Action] = []
    shrinking: list[Action] = []
    for unit, one in eased.slices.items():
        if unit in there:
            lowers, grows, shrinks = _set_limits(one, there[unit].limits, known)
            lowered_floors += lowers
            growing += grows
            shrinking += shrinks
    removals = [RemoveSlice(unit=unit) for unit in sorted(_removable(desired, there))]
    # floors first from below, then to below: at no time do a slice's children have more than it
    actions: list[Action] = [
        *removals,
        *reversed(lowered_floors),
        *growing,
        *creates,
        *_containers(eased, observed, known),
        *reversed(shrinking),
        *_set_for_good(eased, observed, known, result.waiting),
    ]
    # each is a call to PID 1: what somebody else has changed does not wait for our own changes
    actions.sort(key=_is_own)
    return Reconciled(actions=(*actions, *eased.reports), eased=result)


def _is_own(action: Action) -> bool:
    return isinstance(action, ReportDrift) or action.cause is not Cause.DRIFT


def _set_for_good(
    desired: Desired, observed: Observed, known: Known, waiting: Iterable[Deferred]
) -> Iterable[SetLimits]:
    """Return what sets all of a slice's limits: they are not on disk, whatever the kernel holds.

    But one that waits, and a cap: what the kernel has instead is not for good.
    """
    for unit, one in desired.slices.items():
        if not one.lasting or unit not in observed.unlasting or unit not in observed.cgroups:
            continue
        kernel = observed.cgroups[unit].limits
        unused: set[str] = {late.limit for late in waiting if late.subject == unit}
        if None in {kernel.io_weight, one.limits.io_weight}:
            unused.add("io_weight")
        if not kernel.cpus and not one.limits.cpus:
            unused.add("cpus")
        if one.capped:
            unused.add("cpu_quota")
        yield SetLimits(
            unit=unit,
            limits=one.limits,
            fields=tuple(each.name for each in fields(Limits) if each.name not in unused),
            cause=Cause.DRIFT if unit in known.slices else Cause.CHANGED,
            lasting=True,
        )


def _set_limits(
    one: DesiredSlice, kernel: Limits, known: Known
) -> tuple[Iterable[SetLimits], Iterable[SetLimits], Iterable[SetLimits]]:
    """Return a floor that is lowered, what grows and what shrinks, each apart by manner."""
    lowered: dict[_Manner, list[str]] = {}
    growing: dict[_Manner, list[str]] = {}
    shrinking: dict[_Manner, list[str]] = {}
    for name in differing_limits(one.limits, kernel):
        phase = growing
        if _shrinks(name, one.limits, kernel):
            phase = lowered if name == "memory_min" else shrinking
        manner = _Manner(_cause(one.unit, name, kernel, known), _lasts(one, name))
        phase.setdefault(manner, []).append(name)
    return _actions(one, lowered), _actions(one, growing), _actions(one, shrinking)


def differing_limits(wanted: Limits, kernel: Limits) -> tuple[str, ...]:
    """Return the names of a slice's limits that the kernel has otherwise.

    An I/O weight counts where one is wanted, and there is a controller for it.
    """
    unused = "io_weight" if None in {kernel.io_weight, wanted.io_weight} else None
    return tuple(name for name in wanted.changed_from(kernel) if name != unused)


class _Manner(NamedTuple):
    """Fields that are set for the same cause, and for as long, are set at once."""

    cause: Cause
    lasting: bool


def _lasts(one: DesiredSlice, name: str) -> bool:
    """Tell whether a field is set for good.

    The release of a cap is, so that no cap of the past comes back, whoever kept it.
    """
    return one.lasting and not (one.capped and name == "cpu_quota")


def _actions(one: DesiredSlice, fields: Mapping[_Manner, list[str]]) -> Iterable[SetLimits]:
    return [
        SetLimits(
            unit=one.unit,
            limits=one.limits,
            fields=tuple(names),
            cause=manner.cause,
            lasting=manner.lasting,
        )
        for manner, names in fields.items()
    ]


def _shrinks(name: str, wanted: Limits, kernel: Limits) -> bool:
    if name == "memory_min":
        return wanted.memory_min < kernel.memory_min
    if name not in _CEILINGS:
        return False  # weights and the CPU list stand in no order with other levels
    new, old = getattr(wanted, name), getattr(kernel, name)
    return old is None or (new is not None and new < old)


def _cause(unit: UnitName, name: str, kernel: Limits, known: Known) -> Cause:
    last = known.slices.get(unit)
    if last is not None and _shown(name, last) != _shown(name, kernel):
        return Cause.DRIFT
    if name == "cpu_quota" and unit in known.capped:
        return Cause.SHARE
    return Cause.CHANGED


def _shown(name: str, limits: Limits) -> object:
    """Return a limit as the kernel shows it: an I/O weight too where none was given."""
    value: object = getattr(limits, name)
    return DEFAULT_IO_WEIGHT if name == "io_weight" and value is None else value


def _removable(desired: Desired, there: Mapping[UnitName, Cgroup]) -> Iterable[UnitName]:
    # stopping a slice kills what runs in it; the adapter checks this once more
    return (unit for unit in desired.removable if unit in there and not there[unit].populated)


def _containers(desired: Desired, observed: Observed, known: Known) -> Iterable[Action]:
    there = observed.containers or {}
    for wanted in desired.containers.values():
        container = there.get(wanted.id)
        if container is None:
            continue  # gone since; the next snapshot has no wish for it either
        if container.kernel is not None and differing(wanted.limits, container.kernel):
            yield UpdateContainer(
                container_id=wanted.id,
                limits=wanted.limits,
                cause=_container_cause(wanted, container.kernel, known),
            )
        yield from _oom_score(wanted, container)


def _container_cause(wanted: DesiredContainer, kernel: ContainerLimits, known: Known) -> Cause:
    last = known.containers.get(wanted.id)
    return Cause.CHANGED if last is None or not differing(last, kernel) else Cause.DRIFT


def differing(wanted: ContainerLimits, kernel: ContainerLimits) -> tuple[str, ...]:
    """Return the names of a container's limits that the kernel has otherwise.

    More swap is no difference: a `docker update` without it takes its limit away, and the leaf's is
    in force. Nor is the list of all CPUs, which Docker is told for want of a word for none.
    """
    return tuple(
        name
        for name, same in (
            ("cpu", _same_cpu(wanted.cpu, kernel.cpu)),
            ("cpu_period_usec", wanted.cpu_period_usec == kernel.cpu_period_usec),
            ("memory", wanted.memory == kernel.memory),
            ("swap", not _less(kernel.swap, wanted.swap)),
            ("tasks", wanted.tasks == kernel.tasks),
            ("memory_high", wanted.memory_high == kernel.memory_high),
            ("cpus", kernel.cpus in {"", wanted.cpus}),
        )
        if not same
    )


def _same_cpu(wanted: int | None, kernel: int | None) -> bool:
    if wanted is None or kernel is None:
        return wanted is kernel
    return abs(kernel - wanted) < RUNC_GRAIN


def _less(one: int | None, other: int | None) -> bool:
    return one is not None and (other is None or one < other)


def _oom_score(wanted: DesiredContainer, container: Container) -> Iterable[SetOomScoreAdj]:
    score = wanted.oom_score_adj
    if score is None or container.scope is None or container.oom_score_adj in {None, score}:
        return ()
    return (
        SetOomScoreAdj(
            container_id=wanted.id, scope=container.scope, value=score, cause=Cause.CHANGED
        ),
    )
