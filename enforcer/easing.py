"""A lowered limit of memory or swap never kills at once: it waits for usage, or a grace's end.

Of swap, because what is swapped out stays there, but no more goes: whoever is at their memory limit
by then is killed at the next page they touch.
"""

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
    EasedLimit,
    Limits,
    Observed,
    ReportDrift,
    Usage,
)
from enforcer.names import UnitName, is_slice
from enforcer.quantities import MIB, Bytes, format_bytes

_ALLOWS_PER_CENT: Final = 95
"""The new limit is applied once what is used is no more than this much of it."""
_LINGERING: Final = 4 * MIB
"""Swap that was given back stays counted until a CPU has 64 pages of it (mm/swap_slots.c). So as
little as this is none, if memory could hold it."""
_NOTHING_GIVEN: Final = Limits()
_WORDS: Final[Mapping[EasedLimit, tuple[str, str]]] = {
    "memory_max": ("memory", "MemoryMax"),
    "swap_max": ("swap", "MemorySwapMax"),
}
"""Limit → what it is of, and systemd's property."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Eased:
    """What is to be in force now, what waits, and what need wait no longer.

    What is `ending` is in force as wanted, and remembered until the kernel has it: what cannot be
    set now must not wait anew.
    """

    desired: Desired
    waiting: tuple[Deferred, ...] = ()
    ending: tuple[Deferred, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """One limit of a slice or container. used: of what it limits.

    before: how it waited the last time. given: what we set last.
    """

    subject: str
    limit: EasedLimit
    wanted: Bytes | None
    kernel: Bytes | None
    before: Deferred | None
    given: Bytes | None
    used: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Waits:
    """What is noted on the way."""

    easing: Easing
    waiting: list[Deferred] = field(default_factory=list)
    ending: list[Deferred] = field(default_factory=list)

    def before(self, subject: str, limit: EasedLimit) -> Deferred | None:
        return next(
            (one for one in self.easing.deferred if (one.subject, one.limit) == (subject, limit)),
            None,
        )

    def note(self, one: Deferred) -> bool:
        """Tell whether it waits on, which its grace decides."""
        over = one.deadline is not None and self.easing.now >= one.deadline
        (self.ending if over else self.waiting).append(one)
        return not over


def ease(desired: Desired, observed: Observed, known: Known, easing: Easing) -> Eased:
    """Return `desired` with the limits of memory and swap that wait left as the kernel has them.

    A leaf's containers wait with it. A raise and a first limit never wait. A limit that somebody
    else raised or took away is put back once it fits, without a margin: what was near its limit
    before must not outgrow it by that. While it does not fit, a slice's is reported.

    memory.high never waits, for it kills nobody.
    """
    waits = _Waits(easing=easing)
    slices = {
        unit: _ease_slice(one, observed, known.slices.get(unit, _NOTHING_GIVEN), waits)
        for unit, one in desired.slices.items()
    }
    containers = {
        wish.id: _ease_container(wish, observed, known.containers.get(wish.id), waits)
        if wish.leaf is None
        else _follow_leaf(wish, observed, slices[wish.leaf].limits, waits.waiting)
        for wish in desired.containers.values()
    }
    if observed.containers is None:
        for unseen in easing.deferred:
            if not is_slice(unseen.subject):  # a container, which may be there all the same
                waits.note(unseen)
    eased = replace(
        desired,
        slices=slices,
        containers=containers,
        reports=(*desired.reports, *_still_raised(slices, waits.waiting, observed)),
    )
    return Eased(desired=eased, waiting=tuple(waits.waiting), ending=tuple(waits.ending))


def _ease_slice(
    one: DesiredSlice, observed: Observed, given: Limits, waits: _Waits
) -> DesiredSlice:
    cgroup = observed.cgroups.get(one.unit)
    if cgroup is None or _same(one.limits, cgroup.limits):
        return one

    def eased(limit: EasedLimit) -> Bytes | None:
        before = waits.before(one.unit, limit)
        case = _Case(
            subject=one.unit,
            limit=limit,
            wanted=getattr(one.limits, limit),
            kernel=getattr(cgroup.limits, limit),
            before=before,
            given=_given(before, getattr(given, limit)),
            used=_used(limit, cgroup.usage, one.limits.memory_max),
        )
        first = case.kernel is None and case.given is None and before is None
        return case.wanted if first else _in_force(case, waits)

    limits = replace(one.limits, memory_max=eased("memory_max"), swap_max=eased("swap_max"))
    return replace(one, limits=limits)


def _follow_leaf(
    wish: DesiredContainer, observed: Observed, leaf: Limits, waiting: Iterable[Deferred]
) -> DesiredContainer:
    """Of what waits in its leaf, have a container keep what it has, but no less than the leaf."""
    there = (observed.containers or {}).get(wish.id)
    waits = {one.limit for one in waiting if one.subject == wish.leaf}
    if not waits or there is None or there.kernel is None:
        return wish
    memory, swap = wish.limits.memory, wish.limits.swap
    if "memory_max" in waits:
        memory = _unlowered(leaf.memory_max, there.kernel.memory)
    if "swap_max" in waits:
        swap = _unlowered(leaf.swap_max, there.kernel.swap)
    return replace(wish, limits=replace(wish.limits, memory=memory, swap=swap))


def _ease_container(
    wish: DesiredContainer,
    observed: Observed,
    known: ContainerLimits | None,
    waits: _Waits,
) -> DesiredContainer:
    """Have one without a leaf keep its swap with its memory: how much it uses is not read."""
    there = (observed.containers or {}).get(wish.id)
    if there is None or there.kernel is None or there.usage is None:
        return wish
    wanted, kernel = wish.limits, there.kernel
    before = waits.before(wish.id, "memory_max")
    case = _Case(
        subject=wish.id,
        limit="memory_max",
        wanted=wanted.memory,
        kernel=kernel.memory,
        before=before,
        given=_given(before, None if known is None else known.memory),
        used=there.usage.working_set,
    )
    memory = _in_force(case, waits)
    if memory == wanted.memory:
        return wish
    swap = _unlowered(wanted.swap, kernel.swap)
    return replace(wish, limits=replace(wanted, memory=memory, swap=swap))


def _given(before: Deferred | None, known: Bytes | None) -> Bytes | None:
    """Return what we set last: while a limit waits nothing else is set, whoever started anew."""
    return known if before is None or before.given is None else before.given


def _in_force(case: _Case, waits: _Waits) -> Bytes | None:
    """Return the limit to be in force now: the one wanted, or if that has to wait what is held.

    A wait is noted, and so is its end.
    """
    wanted = case.wanted
    if wanted is None or not _lowers(wanted, case.kernel):
        return wanted
    held = _held(wanted, case)
    if _lowers(wanted, held) and not _allows(wanted, case.used):
        return held if waits.note(_deferral(case, wanted, waits.easing)) else wanted
    if case.before is not None:
        waits.ending.append(case.before)
    return wanted


def _held(wanted: Bytes, case: _Case) -> Bytes | None:
    """Return the limit to keep to while `wanted`, which is lower than the kernel's, waits.

    If the kernel has more than we gave, somebody else raised it, and that holds again as soon as it
    fits; a lower one that we want by now still waits for its margin.
    """
    if not _raised(case.kernel, case.given):
        return case.kernel
    back = wanted if case.given is None else max(wanted, case.given)
    return back if case.used <= back else case.kernel


def _raised(kernel: Bytes | None, given: Bytes | None) -> bool:
    return given is not None and _lowers(given, kernel)


def _used(limit: EasedLimit, usage: Usage, memory_max: Bytes | None) -> Bytes:
    if limit == "memory_max":
        return usage.working_set
    swap = usage.swap_current
    if swap > _LINGERING or memory_max is None:
        return swap
    return Bytes(0) if _allows(memory_max, Bytes(usage.working_set + swap)) else swap


def _same(wanted: Limits, kernel: Limits) -> bool:
    return wanted.memory_max == kernel.memory_max and wanted.swap_max == kernel.swap_max


def _unlowered(wanted: Bytes | None, kernel: Bytes | None) -> Bytes | None:
    """Return the wanted limit if the kernel's is lower, else the kernel's."""
    return kernel if wanted is None or _lowers(wanted, kernel) else wanted


def _still_raised(
    slices: Mapping[UnitName, DesiredSlice],
    waiting: Iterable[Deferred],
    observed: Observed,
) -> Iterable[ReportDrift]:
    """Yield which slices use too much for the limit that somebody else raised to be put back.

    A container without a leaf is reported as such anyway.
    """
    for one in waiting:
        unit = UnitName(one.subject)
        if unit not in slices:
            continue
        cgroup, limits = observed.cgroups[unit], slices[unit].limits
        kernel: Bytes | None = getattr(cgroup.limits, one.limit)
        kept = getattr(limits, one.limit) == kernel
        if kept and _raised(kernel, one.given):
            what, setting = _WORDS[one.limit]
            found = "taken away" if kernel is None else f"raised to {format_bytes(kernel)}"
            used = format_bytes(_used(one.limit, cgroup.usage, limits.memory_max))
            yield ReportDrift(
                what=f"{what}-raised",
                subject=unit,
                message=f"the {what} limit of {unit}, {format_bytes(one.wanted)}, was {found}, and"
                f" {used} are used: it is put back once it fits; at once, that kills",
                # quoted, for a shell takes the backslashes of an escaped name away
                command=f"systemctl set-property --runtime '{unit}' {setting}={one.wanted}",
            )


def _deferral(case: _Case, wanted: Bytes, easing: Easing) -> Deferred:
    """Return the deferral there was, or a new one, whose grace begins now.

    A limit that is meanwhile less low keeps its deadline; a lower one is news to the user. So is a
    grace that the admin sets while a limit waits; one that is taken away lets it wait for ever.
    """
    grace, before = easing.grace_seconds, case.before
    deadline = None if grace is None else easing.now + grace
    if before is not None and before.wanted <= wanted and None not in {grace, before.deadline}:
        deadline = before.deadline
    return Deferred(
        subject=case.subject, limit=case.limit, wanted=wanted, deadline=deadline, given=case.given
    )


def _lowers(wanted: Bytes, kernel: Bytes | None) -> bool:
    return kernel is None or wanted < kernel


def _allows(wanted: Bytes, used: Bytes) -> bool:
    return used * 100 <= wanted * _ALLOWS_PER_CENT
