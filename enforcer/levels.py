"""Each level from a lease upwards in the last tick, and which of them holds the lease back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from enforcer.history import throttled_share
from enforcer.model import Hold, Lease, Limits, Published, Usage
from enforcer.names import ROOT, UnitName, ancestors
from enforcer.places import Kind, Place, places, promised_below, say_cores
from enforcer.quantities import Bytes, Cpus, format_bytes, format_cpus
from enforcer.room import NOTHING

THROTTLED: Final = 0.02
"""Less than this share of the periods, or of the tick, is no finding."""
_FULL: Final = 0.95
"""What uses more than this share of an amount has reached it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelState:
    """One level in the last tick. throttled: share of the periods in which its own quota ran out.

    cpu_cap: a cap in force below the limit. mem_throttle: its MemoryHigh. oom_own: how often its
    own memory limit was hit since it was made. oom_now, throttle_hits, forks_refused: what its own
    limits did in the last tick. hold: why it is the one that binds; None: it is not.
    """

    unit: UnitName
    title: str
    cpu_limit: Cpus | None
    cpu_cap: Cpus | None
    cpu_used: Cpus
    cpu_guarantee: Cpus
    mem_limit: Bytes | None
    mem_throttle: Bytes | None
    mem_used: Bytes
    mem_guarantee: Bytes
    swap_limit: Bytes | None
    swap_used: Bytes
    tasks_limit: int | None
    tasks: int
    throttled: float
    cpu_pressure: float
    memory_pressure: float
    oom_own: int
    oom_now: int
    throttle_hits: int
    forks_refused: int
    hold: Hold | None = None
    sentence: str = ""

    @property
    def binds(self) -> bool:
        """It is what holds the lease back."""
        return self.hold is not None

    @property
    def full(self) -> bool:
        """Its memory is nearly all in use, page cache apart."""
        return _reached(self.mem_used, self.mem_limit)

    @property
    def swap_full(self) -> bool:
        """It has swap, and that is nearly all in use."""
        return bool(self.swap_limit) and _reached(self.swap_used, self.swap_limit)

    @property
    def slows_growth(self) -> bool:
        """Its throttle was hit, or whoever hit it sits out a pause that is longer than a tick."""
        return self.mem_throttle is not None and (
            self.throttle_hits > 0 or _reached(self.mem_used, self.mem_throttle)
        )

    @property
    def all_tasks(self) -> bool:
        """It has all the tasks it may have, so that no further one can start."""
        return self.tasks_limit is not None and self.tasks >= self.tasks_limit


def _reached(used: int, limit: int | None) -> bool:
    return limit is not None and used >= limit * _FULL


def level_states(published: Published, lease: Lease) -> tuple[LevelState, ...]:
    """Return the level of a placed lease and all above it, from the leaf upwards, judged."""
    known = places(published.config, published.leases)
    promised = promised_below(published.leases)
    levels = []
    for unit in (lease.unit, *ancestors(lease.unit)):
        place = known.get(unit, Place(kind=Kind.UNKNOWN, title=unit))
        guarantee = promised.get(unit, NOTHING)
        cap = published.caps.get(unit)
        rate = published.rates.get(unit)
        then, now = _usages(published, unit)
        cpu = lease.grant.cpu_limit if unit == lease.unit else _cpu_limit(published, unit)
        limits = _limits(published, unit)
        levels.append(
            LevelState(
                unit=unit,
                title=place.title,
                cpu_limit=cpu,
                cpu_cap=cap if cap is not None and (cpu is None or cap < cpu) else None,
                cpu_used=rate.cpu if rate else Cpus(0),
                cpu_guarantee=Cpus(guarantee.cpu),
                mem_limit=limits.memory_max,
                mem_throttle=limits.memory_high,
                mem_used=now.working_set,
                mem_guarantee=Bytes(guarantee.memory),
                swap_limit=limits.swap_max,
                swap_used=now.swap_current,
                tasks_limit=limits.tasks_max,
                tasks=now.tasks,
                throttled=throttled_share(then, now),
                cpu_pressure=rate.cpu_pressure if rate else 0.0,
                memory_pressure=rate.memory_pressure if rate else 0.0,
                oom_own=now.oom_local,
                oom_now=max(0, now.oom_local - then.oom_local),
                throttle_hits=max(0, now.memory_high_local - then.memory_high_local),
                # a container's own limit is its leaf's, and is hit first
                forks_refused=(
                    _refused(then, now, below=unit == lease.unit) if limits.tasks_max else 0
                ),
            )
        )
    return _judged(_with_tried(levels, _tried(published, lease)))


def binding(levels: Sequence[LevelState]) -> LevelState | None:
    """Return the one that holds the lease back."""
    return next((level for level in levels if level.binds), None)


def say_times(count: int) -> str:
    """Say how often."""
    return "once" if count == 1 else f"{count} times"


def percent(share: float) -> str:
    """Say a share of 1."""
    return f"{share * 100:.0f} %"


def _judged(levels: Sequence[LevelState]) -> tuple[LevelState, ...]:
    """Add which level binds, and why, and what is said of each."""
    held, why = _hold(levels) or (None, None)
    return tuple(
        replace(
            level,
            hold=why if level is held else None,
            sentence=_sentence(level, above=level is not levels[0]),
        )
        for level in levels
    )


def _hold(levels: Sequence[LevelState]) -> tuple[LevelState, Hold] | None:
    """Choose what hurts most: what failed, then what took longest, then what is full."""
    return (
        _first(levels, Hold.KILL, lambda level: level.oom_now > 0)
        or _first(levels, Hold.TASKS, lambda level: level.forks_refused > 0)
        or _slowest(levels)
        or _first(levels, Hold.MEMORY, lambda level: level.full)
        or _first(levels, Hold.TASKS, lambda level: level.all_tasks)
    )


def _first(
    levels: Sequence[LevelState], why: Hold, holds: Callable[[LevelState], bool]
) -> tuple[LevelState, Hold] | None:
    return next(((level, why) for level in levels if holds(level)), None)


def _slowest(levels: Sequence[LevelState]) -> tuple[LevelState, Hold] | None:
    """Choose between a quota that ran out and a throttle: what took more of the last tick.

    Either, above, holds back only those who had something to run, or wanted memory.
    """
    leaf = levels[0]
    throttled = max(levels, key=lambda level: level.throttled)
    share = throttled.throttled
    if share < THROTTLED or (throttled is not leaf and leaf.cpu_pressure < THROTTLED):
        share = 0.0
    if leaf.memory_pressure >= max(THROTTLED, share):
        throttle = _first(levels, Hold.MEMORY_THROTTLE, lambda level: level.slows_growth)
        if throttle is not None:
            return throttle
    return (throttled, Hold.CPU) if share else None


def _sentence(level: LevelState, *, above: bool) -> str:
    cpu = say_cores(level.cpu_used)
    if level.cpu_limit is not None:
        cpu = f"{format_cpus(level.cpu_used)} of {say_cores(level.cpu_limit)}"
    memory = format_bytes(level.mem_used)
    if level.mem_limit is not None:
        memory += f" of {format_bytes(level.mem_limit)}"
    parts = [f"{level.title}: {cpu} and {memory} in use"]
    if level.throttled >= THROTTLED:
        whom = "all below" if above else "it"
        parts.append(f"its quota held {whom} back {percent(level.throttled)} of the last tick")
    if level.slows_growth:
        hits = level.throttle_hits
        often = f"was hit {say_times(hits)} in the last tick" if hits else "is reached"
        parts.append(f"its memory throttle of {format_bytes(level.mem_throttle or 0)} {often}")
    if level.swap_full:
        limit = format_bytes(level.swap_limit or 0)
        parts.append(f"its swap is full: {format_bytes(level.swap_used)} of {limit}")
    if level.all_tasks or level.forks_refused:
        more = level.forks_refused
        refused = f", {more} more refused in the last tick" if more else ""
        parts.append(f"{level.tasks} of {level.tasks_limit} tasks{refused}")
    if level.oom_own:
        parts.append(f"its memory limit was hit {say_times(level.oom_own)}")
    return "; ".join(parts)


def _usages(published: Published, unit: UnitName) -> tuple[Usage, Usage]:
    """Return the counters before and after the last tick; at first they are the same."""
    cgroup = published.observed.cgroups.get(unit)
    if cgroup is None:
        return Usage(), Usage()
    before = published.previous.cgroups.get(unit) if published.previous else None
    return before.usage if before else cgroup.usage, cgroup.usage


def _limits(published: Published, unit: UnitName) -> Limits:
    """Return what the kernel holds, which a lowered limit may not have reached yet."""
    cgroup = published.observed.cgroups.get(unit)
    if cgroup is not None:
        return cgroup.limits
    desired = published.desired.slices.get(unit)
    return desired.limits if desired else Limits()


def _cpu_limit(published: Published, unit: UnitName) -> Cpus | None:
    """Return what is desired, not a cap in force; whole cores are a limit too."""
    desired = published.desired.slices.get(unit)
    quota = (desired.limits if desired else _limits(published, unit)).cpu_quota
    return published.config.quota.cpu if quota is None and unit == ROOT else quota


def _refused(then: Usage, now: Usage, *, below: bool) -> int:
    """Return how many forks were refused in the last tick; below: also at limits further down."""
    if below:
        return max(0, now.forks_refused - then.forks_refused)
    return max(0, now.forks_refused_local - then.forks_refused_local)


def _tried(published: Published, lease: Lease) -> int:
    """Return how many forks the kernel counts in the lease's container as refused."""
    now = (published.observed.containers or {}).get(lease.container_id or "")
    before = published.previous
    then = ((before and before.containers) or {}).get(lease.container_id or "")
    if now is None or now.usage is None or then is None or then.usage is None:
        return 0
    return _refused(then.usage, now.usage, below=True)


def _with_tried(levels: Sequence[LevelState], tried: int) -> tuple[LevelState, ...]:
    """Lay what was refused at the fullest level's door, where the kernel does not say whose it is.

    Before Linux 6.11 it counts a refused fork where it was tried, not where the limit is.
    """
    limited = [level for level in levels if level.tasks_limit]
    if not tried or not limited or any(level.forks_refused for level in levels):
        return tuple(levels)
    fullest = max(limited, key=lambda level: level.tasks / (level.tasks_limit or 1))
    return tuple(
        replace(level, forks_refused=tried) if level is fullest else level for level in levels
    )
