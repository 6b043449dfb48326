"""A lowered memory limit never kills at once: it waits until usage allows, or a grace is over."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from enforcer.model import (
    ContainerLimits,
    Deferred,
    Desired,
    DesiredContainer,
    DesiredSlice,
    Limits,
    Observed,
    ReportDrift,
    Usage,
)
from enforcer.names import UnitName
from enforcer.quantities import Bytes, format_bytes

_ALLOWS_PER_CENT: Final = 95
"""The new limit is applied once the working set is no more than this much of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What we set last, so that somebody else's doing can be told from our own change of mind."""

    slices: Mapping[UnitName, Limits] = field(default_factory=lambda: MappingProxyType({}))
    containers: Mapping[str, ContainerLimits] = field(default_factory=lambda: MappingProxyType({}))
    capped: Collection[UnitName] = frozenset()
    """Units with a CPU cap before or now: a quota that moves there is a share, not a change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Easing:
    """When it is (monotonic seconds), how long may be waited, and what waited the last time."""

    now: float
    grace_seconds: float | None = None
    """None: until usage allows, however long that is."""
    deferred: tuple[Deferred, ...] = ()


def ease(
    desired: Desired, observed: Observed, known: Known, easing: Easing
) -> tuple[Desired, tuple[Deferred, ...]]:
    """Return `desired` with the memory limits that have to wait left as the kernel has them.

    A leaf's containers wait with it. A raise and a first limit never wait. A limit that somebody
    else raised or took away is put back once it fits, without a margin: what was near its limit
    before must not outgrow it by that. While it does not fit, a slice's is reported.

    memory.high never waits, for it kills nobody.
    """
    waiting: list[Deferred] = []
    slices = {
        unit: _ease_slice(one, observed, known.slices.get(unit), easing, waiting)
        for unit, one in desired.slices.items()
    }
    containers = {
        wish.id: _ease_container(wish, observed, known.containers.get(wish.id), easing, waiting)
        for wish in desired.containers.values()
    }
    eased = replace(
        desired,
        slices=slices,
        containers=containers,
        reports=(*desired.reports, *_still_raised(slices, waiting, observed, known)),
    )
    return eased, tuple(waiting)


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
    given = None if known is None else known.memory_max
    first = kernel is None and given is None
    if first or not _lowers(wanted, kernel):
        return one
    held = _held(wanted, kernel, given, cgroup.usage)
    if not _waits(one.unit, wanted, held, cgroup.usage, easing, waiting):
        return one
    return replace(one, limits=replace(one.limits, memory_max=held))


def _ease_container(
    wish: DesiredContainer,
    observed: Observed,
    known: ContainerLimits | None,
    easing: Easing,
    waiting: list[Deferred],
) -> DesiredContainer:
    there = (observed.containers or {}).get(wish.id)
    wanted = wish.limits.memory
    if there is None or there.kernel is None or wanted is None:
        return wish
    held = there.kernel.memory
    if not _lowers(wanted, held):
        return wish
    if wish.leaf is not None:
        waits = any(one.subject == wish.leaf for one in waiting)
    elif there.usage is None:
        waits = False
    else:
        held = _held(wanted, held, None if known is None else known.memory, there.usage)
        waits = _waits(wish.id, wanted, held, there.usage, easing, waiting)
    return replace(wish, limits=replace(wish.limits, memory=held)) if waits else wish


def _held(wanted: Bytes, kernel: Bytes | None, given: Bytes | None, usage: Usage) -> Bytes | None:
    """Return the limit to keep to while `wanted`, which is lower than the kernel's, waits.

    given: what we set last. If the kernel has more, somebody else raised it, and it holds again as
    soon as it fits; a lower one that we want by now still waits for its margin.
    """
    if not _raised(kernel, given):
        return kernel
    back = wanted if given is None else max(wanted, given)
    return back if usage.working_set <= back else kernel


def _raised(kernel: Bytes | None, given: Bytes | None) -> bool:
    return given is not None and _lowers(given, kernel)


def _waits(
    subject: str,
    wanted: Bytes,
    held: Bytes | None,
    usage: Usage,
    easing: Easing,
    waiting: list[Deferred],
) -> bool:
    """Tell whether a limit has to wait while another is held, and note it if so."""
    if not _lowers(wanted, held) or _allows(wanted, usage):
        return False
    deferral = _deferral(subject, wanted, easing)
    if _over(deferral, easing.now):
        return False
    waiting.append(deferral)
    return True


def _still_raised(
    slices: Mapping[UnitName, DesiredSlice],
    waiting: Iterable[Deferred],
    observed: Observed,
    known: Known,
) -> Iterable[ReportDrift]:
    """Yield which slices use too much for the limit that somebody else raised to be put back.

    A container without a leaf is reported as such anyway.
    """
    for one in waiting:
        unit = UnitName(one.subject)
        if unit not in slices or unit not in known.slices:
            continue
        cgroup, limit = observed.cgroups[unit], slices[unit].limits.memory_max
        kernel = cgroup.limits.memory_max
        if limit == kernel and _raised(kernel, known.slices[unit].memory_max):
            found = "taken away" if kernel is None else f"raised to {format_bytes(kernel)}"
            used, wanted = format_bytes(cgroup.usage.working_set), format_bytes(one.wanted)
            yield ReportDrift(
                what="memory-raised",
                subject=unit,
                message=f"the memory limit of {unit}, {wanted}, was {found}, and {used} are used:"
                " it is put back once it fits; at once, that kills",
                # quoted, for a shell takes the backslashes of an escaped name away
                command=f"systemctl set-property --runtime '{unit}' MemoryMax={one.wanted}",
            )


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
