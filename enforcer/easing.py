"""A lowered memory limit never kills at once: it waits until usage allows, or a grace is over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from enforcer.model import (
    Container,
    Deferred,
    Desired,
    DesiredContainer,
    DesiredSlice,
    Limits,
    Observed,
    Usage,
)
from enforcer.names import UnitName
from enforcer.quantities import Bytes

_ALLOWS_PER_CENT: Final = 95
"""The new limit is applied once the working set is no more than this much of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Easing:
    """When it is (monotonic seconds), how long may be waited, and what waited the last time."""

    now: float
    grace_seconds: float | None = None
    """None: until usage allows, however long that is."""
    deferred: tuple[Deferred, ...] = ()


def ease(
    desired: Desired, observed: Observed, known: Mapping[UnitName, Limits], easing: Easing
) -> tuple[Desired, tuple[Deferred, ...]]:
    """Return `desired` with the memory limits that have to wait left as the kernel has them.

    A leaf's containers wait with it. A raise and a first limit never wait; a limit that somebody
    raised or took away is a lowered one again when it is put back.
    """
    waiting: list[Deferred] = []
    slices = {
        unit: _ease_slice(one, observed, known.get(unit), easing, waiting)
        for unit, one in desired.slices.items()
    }
    containers = {
        wish.id: _ease_container(wish, observed, easing, waiting)
        for wish in desired.containers.values()
    }
    return replace(desired, slices=slices, containers=containers), tuple(waiting)


def _ease_slice(
    one: DesiredSlice,
    observed: Observed,
    known: Limits | None,
    easing: Easing,
    waiting: list[Deferred],
) -> DesiredSlice:
    cgroup = observed.cgroups.get(one.unit)
    wanted = one.limits.memory_max
    if cgroup is None or wanted is None:
        return one
    kernel = cgroup.limits.memory_max
    first = kernel is None and (known is None or known.memory_max is None)
    if first or not _lowers(wanted, kernel) or _allows(wanted, cgroup.usage):
        return one
    deferral = _deferral(one.unit, wanted, easing)
    if _over(deferral, easing.now):
        return one
    waiting.append(deferral)
    return replace(one, limits=replace(one.limits, memory_max=kernel))


def _ease_container(
    wish: DesiredContainer, observed: Observed, easing: Easing, waiting: list[Deferred]
) -> DesiredContainer:
    there = (observed.containers or {}).get(wish.id)
    wanted = wish.limits.memory
    if there is None or there.kernel is None or wanted is None:
        return wish
    kernel = there.kernel.memory
    if not _lowers(wanted, kernel) or not _container_waits(wish, wanted, there, easing, waiting):
        return wish
    return replace(wish, limits=replace(wish.limits, memory=kernel))


def _container_waits(
    wish: DesiredContainer,
    wanted: Bytes,
    there: Container,
    easing: Easing,
    waiting: list[Deferred],
) -> bool:
    """Tell whether a lowered limit waits: with its leaf, or without one by its own usage."""
    if wish.leaf is not None:
        return any(one.subject == wish.leaf for one in waiting)
    if there.usage is None or _allows(wanted, there.usage):
        return False
    deferral = _deferral(wish.id, wanted, easing)
    if _over(deferral, easing.now):
        return False
    waiting.append(deferral)
    return True


def _deferral(subject: str, wanted: Bytes, easing: Easing) -> Deferred:
    """Return the deferral there was, or a new one, whose grace begins now.

    A limit that is meanwhile less low keeps its deadline; a lower one is news to the user. So is a
    grace that the admin sets while a limit waits; one that is taken away lets it wait for ever.
    """
    grace = easing.grace_seconds
    deadline = None if grace is None else easing.now + grace
    for one in easing.deferred:
        if one.subject == subject and one.wanted <= wanted:
            kept = one.deadline if one.deadline is not None and grace is not None else deadline
            return replace(one, wanted=wanted, deadline=kept)
    return Deferred(subject=subject, wanted=wanted, deadline=deadline)


def _over(deferral: Deferred, now: float) -> bool:
    return deferral.deadline is not None and now >= deferral.deadline


def _lowers(wanted: Bytes, kernel: Bytes | None) -> bool:
    return kernel is None or wanted < kernel


def _allows(wanted: Bytes, usage: Usage) -> bool:
    return usage.working_set * 100 <= wanted * _ALLOWS_PER_CENT
