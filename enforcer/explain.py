"""Why a server has what it has, and what holds it back right now: from the leaf upwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from enforcer.excess import excesses
from enforcer.history import throttled_share
from enforcer.model import Cgroup, Lease, LeaseState, Published, Rights, Usage
from enforcer.names import ROOT, UnitName, ancestors
from enforcer.places import Kind, Place, find, places, promised_below, say_cores, server_title
from enforcer.quantities import Bytes, Cpus, format_bytes, format_cpus
from enforcer.room import NOTHING

_THROTTLED: Final = 0.02
"""Less than this share of the periods is no finding."""
_WAITING: Final = 0.10
"""With less CPU pressure than this a server has what it wants."""
_FULL: Final = 0.95
"""A level whose working set is above this share of its limit is full."""
_MET: Final = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelState:
    """One level in the last tick. throttled: share of the periods in which its own quota ran out.

    cpu_cap: a cap in force below the limit. oom_own: how often its own memory limit was hit since
    it was made; oom_now: in the last tick.
    """

    unit: UnitName
    title: str
    cpu_limit: Cpus | None
    cpu_cap: Cpus | None
    cpu_used: Cpus
    cpu_guarantee: Cpus
    mem_limit: Bytes | None
    mem_used: Bytes
    mem_guarantee: Bytes
    throttled: float
    cpu_pressure: float
    memory_pressure: float
    oom_own: int
    oom_now: int
    binds: bool = False
    sentence: str = ""

    @property
    def full(self) -> bool:
        """Its memory is nearly all in use, page cache apart."""
        return self.mem_limit is not None and self.mem_used >= self.mem_limit * _FULL


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
        return next((level for level in self.levels if level.binds), None)


def explain(published: Published, rights: Rights, user: str, server: str) -> Explanation:
    """Explain one server of one user; without a lease, what the user may have."""
    lease = find(published.leases, user, server)
    mine = [one for one in published.leases if one.user == user]
    above = excesses(mine, {user: (rights.cpu_total, rights.mem_total)})
    of_total = tuple(one.sentence for one in above)
    told = Explanation(
        user=user,
        server=server,
        lease=lease,
        summary=f"{server_title(user, server)} has no lease",
        sentences=of_total,
        levels=(),
        rights=explain_rights(rights),
    )
    if lease is None:
        return told
    if lease.state is LeaseState.QUEUED:
        summary = f"{server_title(user, server)} waits in the queue"
        return replace(told, summary=summary, sentences=(*lease.notes, *of_total))
    levels = _levels(published, lease)
    leaf = levels[0]
    binding = _binding(levels)
    levels = tuple(_told(level, leaf, binds=level is binding) for level in levels)
    sentences = (
        *_retired(published, lease),
        *_caps(levels),
        _cpu_guarantee(lease, leaf),
        _memory_guarantee(published, lease, leaf),
        *lease.notes,
        *of_total,
    )
    return replace(told, summary=_summary(lease, leaf, binding), sentences=sentences, levels=levels)


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


def _levels(published: Published, lease: Lease) -> tuple[LevelState, ...]:
    known = places(published.config, published.leases)
    promised = promised_below(published.leases)
    levels = []
    for unit in (lease.unit, *ancestors(lease.unit)):
        place = known.get(unit, Place(kind=Kind.UNKNOWN, title=unit))
        guarantee = promised.get(unit, NOTHING)
        cap = published.caps.get(unit)
        cgroup = published.observed.cgroups.get(unit)
        rate = published.rates.get(unit)
        then, now = _usages(published, unit, cgroup)
        limit = lease.grant.cpu_limit if unit == lease.unit else _cpu_limit(published, unit)
        levels.append(
            LevelState(
                unit=unit,
                title=place.title,
                cpu_limit=limit,
                cpu_cap=cap if cap is not None and (limit is None or cap < limit) else None,
                cpu_used=rate.cpu if rate else Cpus(0),
                cpu_guarantee=Cpus(guarantee.cpu),
                mem_limit=_mem_limit(published, unit, cgroup),
                mem_used=now.working_set,
                mem_guarantee=Bytes(guarantee.memory),
                throttled=throttled_share(then, now),
                cpu_pressure=rate.cpu_pressure if rate else 0.0,
                memory_pressure=rate.memory_pressure if rate else 0.0,
                oom_own=now.oom_local,
                oom_now=max(0, now.oom_local - then.oom_local),
            )
        )
    return tuple(levels)


def _usages(published: Published, unit: UnitName, cgroup: Cgroup | None) -> tuple[Usage, Usage]:
    """Return the counters before and after the last tick; at first they are the same."""
    if cgroup is None:
        return Usage(), Usage()
    before = published.previous.cgroups.get(unit) if published.previous else None
    return before.usage if before else cgroup.usage, cgroup.usage


def _cpu_limit(published: Published, unit: UnitName) -> Cpus | None:
    """Return what is desired, not a cap in force; whole cores are a limit too."""
    desired = published.desired.slices.get(unit)
    cgroup = published.observed.cgroups.get(unit)
    limits = desired.limits if desired else cgroup.limits if cgroup else None
    quota = limits.cpu_quota if limits else None
    return published.config.quota.cpu if quota is None and unit == ROOT else quota


def _mem_limit(published: Published, unit: UnitName, cgroup: Cgroup | None) -> Bytes | None:
    """Return what the kernel holds, which a lowered limit may not have reached yet."""
    if cgroup is not None:
        return cgroup.limits.memory_max
    desired = published.desired.slices.get(unit)
    return desired.limits.memory_max if desired else None


def _binding(levels: Sequence[LevelState]) -> LevelState | None:
    """Choose what hurts most: a kill in the last tick, a quota that ran out, full memory."""
    killed = next((level for level in levels if level.oom_now), None)
    if killed is not None:
        return killed
    throttled = max(levels, key=lambda level: level.throttled)
    # A quota above that ran out holds back only those who had something to run.
    if throttled.throttled >= _THROTTLED and (
        throttled is levels[0] or levels[0].cpu_pressure >= _THROTTLED
    ):
        return throttled
    return next((level for level in levels if level.full), None)


def _summary(lease: Lease, leaf: LevelState, binding: LevelState | None) -> str:
    who = server_title(lease.user, lease.server)
    if lease.state is LeaseState.PENDING:
        return f"{who} has its place, its container has not started yet"
    if binding is None:
        if leaf.cpu_pressure >= _WAITING:
            return f"no limit holds {who} back: it shares busy CPUs by weight"
        return f"nothing holds {who} back"
    owner = "its own" if binding is leaf else f"{binding.title}'s"
    if binding.oom_now:
        return f"{owner} memory limit was hit in the last tick: a process in it was killed"
    if binding.throttled >= _THROTTLED:
        quota = "cap" if binding.cpu_cap is not None else "quota"
        return f"{owner} CPU {quota} throttled it {_percent(binding.throttled)} of the last tick"
    limit = format_bytes(binding.mem_limit or 0)
    return f"{owner} memory is full: {format_bytes(binding.mem_used)} of {limit}"


def _told(level: LevelState, leaf: LevelState, *, binds: bool) -> LevelState:
    """Add the sentence, and whether it is this level that binds."""
    cpu = say_cores(level.cpu_used)
    if level.cpu_limit is not None:
        cpu = f"{format_cpus(level.cpu_used)} of {say_cores(level.cpu_limit)}"
    memory = format_bytes(level.mem_used)
    if level.mem_limit is not None:
        memory += f" of {format_bytes(level.mem_limit)}"
    parts = [f"{level.title}: {cpu} and {memory} in use"]
    if level.throttled >= _THROTTLED:
        whom = "it" if level is leaf else "all below"
        parts.append(f"its quota held {whom} back {_percent(level.throttled)} of the last tick")
    if level.oom_own:
        times = "once" if level.oom_own == 1 else f"{level.oom_own} times"
        parts.append(f"its memory limit was hit {times}")
    return replace(level, binds=binds, sentence="; ".join(parts))


def _retired(published: Published, lease: Lease) -> tuple[str, ...]:
    if lease.profile in published.config.profiles:
        return ()
    gone = f"profile {lease.profile} is no longer in the configuration"
    return (f"{gone}: it runs on within what that was, but cannot be started again",)


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
    if leaf.cpu_pressure < _WAITING and leaf.throttled < _THROTTLED:
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


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"
