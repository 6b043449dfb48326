"""Why a server has what it has, and what holds it back right now: from the leaf upwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from enforcer.excess import TOTAL_EXCEEDED
from enforcer.levels import THROTTLED, LevelState, binding, level_states, percent, say_times
from enforcer.model import Hold, Lease, LeaseState, Published, Rights
from enforcer.names import ancestors
from enforcer.places import find, say_cores, server_title
from enforcer.quantities import format_bytes, format_cpus

_WAITING: Final = 0.10
"""With less CPU pressure than this a server has what it wants."""
_MET: Final = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """One right of the user and where it came from."""

    key: str
    value: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The whole answer; `levels` from the leaf upwards, none without a placed lease."""

    user: str
    server: str
    lease: Lease | None
    summary: str
    sentences: tuple[str, ...]
    levels: tuple[LevelState, ...]
    rights: tuple[Right, ...]

    @property
    def binding(self) -> LevelState | None:
        """The level that holds it back now."""
        return binding(self.levels)


def explain(published: Published, rights: Rights, user: str, server: str) -> Explanation:
    """Explain one server of one user; without a lease, what the user may have."""
    lease = find(published.leases, user, server)
    of_total = tuple(
        one.message
        for one in published.open_drift
        if (one.what, one.subject) == (TOTAL_EXCEEDED, user)
    )
    known = Explanation(
        user=user,
        server=server,
        lease=lease,
        summary=f"{server_title(user, server)} has no lease",
        sentences=of_total,
        levels=(),
        rights=explain_rights(rights),
    )
    if lease is None:
        return known
    if lease.state is LeaseState.QUEUED:
        summary = f"{server_title(user, server)} waits in the queue"
        return replace(known, summary=summary, sentences=(*lease.notes, *of_total))
    levels = level_states(published, lease)
    sentences = (
        *_lost_right(published, rights, lease),
        *_caps(levels),
        _cpu_guarantee(lease, levels[0]),
        _memory_guarantee(published, lease, levels[0]),
        *lease.notes,
        *deferral_notes(published, lease),
        *of_total,
    )
    summary = _summary(lease, levels)
    return replace(known, summary=summary, sentences=sentences, levels=levels)


def deferral_notes(published: Published, lease: Lease) -> tuple[str, ...]:
    """Tell the user of a lowered limit before it is applied, and when that may be."""
    notes = []
    for one in published.deferred:
        if one.subject == lease.unit and lease.live:
            what = "memory" if one.limit == "memory_max" else "swap"
            said = f"the {what} limit of {format_bytes(one.wanted)} waits until less is used"
            if one.deadline is not None:
                seconds = max(0.0, one.deadline - published.observed.taken_at)
                said += f"; in {seconds:.0f} s it is applied anyway, which may kill processes"
            notes.append(said)
    return tuple(notes)


def explain_rights(rights: Rights) -> tuple[Right, ...]:
    """Return each right with its source, in the order of the configuration."""
    cpu, memory = say_cores(rights.max_cpu_guarantee), format_bytes(rights.max_mem_guarantee)
    values = {
        "allowed_resources": ", ".join(rights.profiles),
        "allowed_docker": ", ".join(rights.images),
        "host_homedir_format_string": rights.home or "none",
        "max_preallocate.cpu_guarantee": cpu,
        "max_preallocate.mem_guarantee": memory,
        "cpu_total": say_cores(rights.cpu_total),
        "mem_total": format_bytes(rights.mem_total),
        "servers_max": "no limit" if rights.servers_max is None else str(rights.servers_max),
        "admission": rights.admission or "as the profile has it",
    }
    return tuple(
        Right(key=key, value=value, source=rights.sources.get(key, "nowhere given"))
        for key, value in values.items()
    )


def _summary(lease: Lease, levels: Sequence[LevelState]) -> str:
    leaf = levels[0]
    who = server_title(lease.user, lease.server)
    if lease.state is LeaseState.PENDING:
        return f"{who} has its place, its container has not started yet"
    level = binding(levels)
    if level is None:
        if leaf.cpu_pressure >= _WAITING:
            return f"no limit holds {who} back: it shares busy CPUs by weight"
        return f"nothing holds {who} back"
    owner = "its own" if level is leaf else f"{level.title}'s"
    if level.hold is Hold.KILL:
        return f"{owner} memory limit was hit in the last tick: a process in it was killed"
    if level.hold is Hold.TASKS:
        return f"{owner} {_tasks(level)}"
    if level.hold is Hold.MEMORY_THROTTLE:
        return f"{owner} {_throttle(level, leaf)}"
    if level.hold is Hold.CPU:
        quota = "cap" if level.cpu_cap is not None else "quota"
        return f"{owner} CPU {quota} throttled it {percent(level.throttled)} of the last tick"
    limit = format_bytes(level.mem_limit or 0)
    swap = ", and so is its swap" if level.swap_full else ""
    return f"{owner} memory is full: {format_bytes(level.mem_used)} of {limit}{swap}"


def _tasks(level: LevelState) -> str:
    said = f"limit of {level.tasks_limit} processes and threads is reached"
    if not level.forks_refused:
        return f"{said}: no further one can start"
    return f"{said}: {level.forks_refused} more were refused in the last tick"


def _throttle(level: LevelState, leaf: LevelState) -> str:
    said = (
        f"memory throttle of {format_bytes(level.mem_throttle or 0)} slowed it down: it waited for"
        f" memory {percent(leaf.memory_pressure)} of the last tick"
    )
    if not level.throttle_hits:
        return said
    return f"{said}, and hit the throttle {say_times(level.throttle_hits)}"


def _lost_right(published: Published, rights: Rights, lease: Lease) -> tuple[str, ...]:
    if lease.profile not in published.config.profiles:
        gone = f"profile {lease.profile} is no longer in the configuration"
        return (f"{gone}: it runs on within what that was, but cannot be started again",)
    if lease.profile not in rights.profiles:
        gone = f"profile {lease.profile} is no longer allowed to {lease.user}"
        return (f"{gone}: it runs on, but cannot be started again",)
    return ()


def _caps(levels: Sequence[LevelState]) -> tuple[str, ...]:
    return tuple(
        f"{level.title} is held to {say_cores(level.cpu_cap)} for now, so that servers with a"
        " guaranteed CPU get it; the cap goes when they want less"
        for level in levels
        if level.cpu_cap is not None
    )


def _cpu_guarantee(lease: Lease, leaf: LevelState) -> str:
    promised = lease.grant.cpu_guarantee
    if not promised:
        return "it has no guaranteed CPU: it gets its share of what is left"
    said = f"of its guaranteed {say_cores(promised)} it used {format_cpus(leaf.cpu_used)}"
    if leaf.cpu_used >= promised * _MET:
        return f"{said}: met"
    if leaf.cpu_pressure < _WAITING and leaf.throttled < THROTTLED:
        return f"{said} and wanted no more: met"
    return f"{said} and wanted more: not met in the last tick"


def _memory_guarantee(published: Published, lease: Lease, leaf: LevelState) -> str:
    """Tell whether memory.min stands on every level: a leaf's alone is worth nothing."""
    promised = lease.grant.mem_guarantee
    if not promised:
        return "it has no guaranteed memory"
    units = (leaf.unit, *ancestors(leaf.unit))
    cgroups = published.observed.cgroups
    bare = [
        unit for unit in units if unit not in cgroups or cgroups[unit].limits.memory_min < promised
    ]
    if bare:
        return f"its guaranteed {format_bytes(promised)} are not protected yet at {bare[0]}"
    used = min(leaf.mem_used, promised)
    return f"of its guaranteed {format_bytes(promised)} it uses {format_bytes(used)}: protected"
