"""How much CPU each leaf wants, judged from two snapshots.

What a leaf used says what it wants only if nothing held it back. It was held back as far as a
quota on its path ran out, or the machine had no idle CPU left; then PSI says how much more it
wanted: ``some`` counts the time in which at least one task was runnable and had to wait, the
time throttled by any level's quota included (Documentation/accounting/psi.rst).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from enforcer.model import Observed, Usage
from enforcer.names import ROOT, UnitName, ancestors
from enforcer.quantities import CORE, Cpus
from enforcer.tree import Level, Tree

_ONE_THREAD: Final = 1.05
"""Cores. Running and waiting together make no more than this: one thread, PSI is exact for it."""
_TOO_LITTLE: Final = 0.2
"""Cores. Who got less and waited for the rest of the time may have any number of threads."""
_NEVER_IDLE: Final = 0.95
"""Running and waiting together, in cores. Who has idle time is not held back by a busy machine."""
_ALWAYS: Final = 0.95
"""Share of the time. Who waits longer may want any amount."""
_ASLEEP: Final = 0.01
"""Cores. Without PSI, a leaf below this is taken to sleep."""
_HEADROOM: Final = 1.01
_PROMISED_HEADROOM: Final = 1.03
"""Used by one who waits below their guarantee: they shall be able to come up by themselves."""
_ERROR: Final = 0.01
_LEAST_ERROR: Final = 0.1
"""Cores. Between two tasks a CPU is idle for a moment, and on a full machine too."""
_PERIODS_PER_SECOND: Final = 10
"""systemd's CPUQuotaPeriodSec= is 100 ms unless told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a leaf wants: what it used, what it wanted to use, and what to reckon with."""

    used: Cpus
    wanted: Cpus
    expected: Cpus
    """`wanted` with a little room to grow in, and what is waited for of a guarantee."""
    never_sleeps: bool = False
    """It is one thread, which always runs or waits."""


def demands(tree: Tree, cpus: Cpus, previous: Observed, now: Observed) -> Mapping[UnitName, Demand]:
    """Judge every leaf of `tree` that both snapshots have; `cpus` is what the machine has.

    Raises:
        ZeroDivisionError: the snapshots were taken at the same moment.
    """
    seconds = now.taken_at - previous.taken_at
    spans = {
        unit: _since(previous.cgroups[unit].usage, now.cgroups[unit].usage)
        for unit in (*tree, ROOT)
        if unit in previous.cgroups and unit in now.cgroups
    }
    has_psi = any(cgroup.usage.cpu_pressure_usec for cgroup in now.cgroups.values())
    ran_out = {
        unit: _ramp(span.periods_throttled / seconds / _PERIODS_PER_SECOND, 0.05, 0.25)
        for unit, span in spans.items()
    }
    full = machine_full(cpus, previous, now)
    found = {}
    for unit, level in tree.items():
        if level.leaf and unit in spans:
            used = spans[unit].cpu_usec / CORE / seconds
            waited = spans[unit].cpu_pressure_usec / CORE / seconds if has_psi else None
            path = (unit, *ancestors(unit))
            held = max(ran_out.get(one, 0.0) for one in path)
            if waited is not None and used + waited > _NEVER_IDLE:
                held = max(held, full)
            found[unit] = _judge(level, used, waited, held)
    return found


def machine_full(cpus: Cpus, previous: Observed, now: Observed) -> float:
    """Tell whether all CPUs were in use between two snapshots: 0 no, 1 yes, or somewhat."""
    error = max(_LEAST_ERROR, _ERROR * cpus / CORE)
    return _ramp(-idle(cpus, previous, now), -2 * error, -error)


def idle(cpus: Cpus, previous: Observed, now: Observed) -> float:
    """Return how many cores had nothing to run between two snapshots."""
    seconds = now.taken_at - previous.taken_at
    was, is_now = previous.host.idle_usec, now.host.idle_usec
    if was is None or is_now is None:
        return (cpus - _since(previous.host, now.host).cpu_usec / seconds) / CORE
    return (is_now - was) / seconds / CORE


def _judge(level: Level, used: float, waited: float | None, held: float) -> Demand:
    """All in cores or shares of the time."""
    limit = level.limit / CORE
    at_most = min(limit, max(used, _at_most(used, waited, limit)))
    wanted = used + held * (at_most - used)
    below_promise = waited is not None and waited > 0.02 and used < level.guarantee / CORE
    room = used * (_PROMISED_HEADROOM if below_promise else _HEADROOM)
    never_sleeps = False
    if waited is not None:
        room = min(room, used + waited)  # who never waits needs none
        never_sleeps = _never_sleeps(used, waited)
        if below_promise and never_sleeps:
            # Whoever it is that it waits for: what was promised to it must not be lent to others
            # because they take it.
            room = 1.0
    return Demand(
        used=_cpus(used),
        wanted=_cpus(wanted),
        expected=_cpus(min(limit, max(wanted, room))),
        never_sleeps=never_sleeps,
    )


def _at_most(used: float, waited: float | None, limit: float) -> float:
    """Return what it would use if nothing held it back: the most that can be.

    One thread wants what it used and waited for. Of several, all have run in the time in which
    none had to wait; a little more is assumed the less of that there was.
    """
    if waited is None:
        return limit if used > _ASLEEP else used
    if _never_sleeps(used, waited):
        return 1.0
    if used + waited <= _ONE_THREAD and not (used < _TOO_LITTLE and waited > 1 - _TOO_LITTLE):
        return used + waited
    if waited > _ALWAYS:
        return limit
    return used / (1 - waited) * (1 + waited)


def _never_sleeps(used: float, waited: float) -> bool:
    """Tell whether this is one thread that always runs or waits. What it wants is one core then.

    Just that, whatever was read: a want that moves a little with every reading moves all caps.
    """
    # who got little may have any number of threads, see `_at_most`
    return used >= _TOO_LITTLE and _NEVER_IDLE < used + waited <= _ONE_THREAD


def _since(before: Usage, after: Usage) -> Usage:
    """Return the counters' growth; a slice made anew meanwhile starts from zero again."""
    return Usage(
        cpu_usec=max(0, after.cpu_usec - before.cpu_usec),
        periods_throttled=max(0, after.periods_throttled - before.periods_throttled),
        cpu_pressure_usec=max(0, after.cpu_pressure_usec - before.cpu_pressure_usec),
    )


def _ramp(value: float, nothing: float, everything: float) -> float:
    """Return 0 up to `nothing`, 1 from `everything` on: no threshold for a verdict to flap at."""
    return min(1.0, max(0.0, (value - nothing) / (everything - nothing)))


def _cpus(cores: float) -> Cpus:
    return Cpus(round(cores * CORE))
