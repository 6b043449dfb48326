"""The slice tree, for those who look on: what each slice may use, and what it uses."""

from __future__ import annotations

from enforcer.api import types
from enforcer.api.peers import Peer
from enforcer.model import Published
from enforcer.names import UnitName, ancestors
from enforcer.places import Kind, Place, places, promised_below
from enforcer.quantities import CORE
from enforcer.room import NOTHING, Amount


def slices_reply(published: Published, peer: Peer) -> types.SlicesReply:
    """Return every slice the peer may see, parents before children."""
    known = places(published.config, published.leases)
    promised = promised_below(published.leases)
    units = sorted(published.observed.cgroups, key=lambda unit: (*reversed(ancestors(unit)), unit))
    found = ((unit, known.get(unit, Place(kind=Kind.UNKNOWN, title=unit))) for unit in units)
    return types.SlicesReply(
        at=published.observed.at,
        slices=[
            _slice(published, unit, place, promised.get(unit, NOTHING))
            for unit, place in found
            if peer.privileged or place.user == peer.name
        ],
    )


def _slice(
    published: Published, unit: UnitName, place: Place, promised: Amount
) -> types.SliceReply:
    cgroup = published.observed.cgroups[unit]
    limits, usage = cgroup.limits, cgroup.usage
    rate, cap = published.rates.get(unit), published.caps.get(unit)
    quota = limits.cpu_quota
    if place.lease is not None:
        quota = place.lease.grant.cpu_limit
    return types.SliceReply(
        unit=unit,
        depth=len(ancestors(unit)),
        kind=place.kind.value,
        title=place.title,
        cpu_limit=None if quota is None else quota / CORE,
        cpu_cap=None if cap is None else cap / CORE,
        mem_limit=limits.memory_max,
        guarantee=types.Amount(cpu=promised.cpu / CORE, memory=promised.memory),
        weight=limits.cpu_weight,
        used=types.Amount(cpu=rate.cpu / CORE if rate else 0.0, memory=usage.working_set),
        memory_peak=usage.memory_peak,
        swap=usage.swap_current,
        tasks_limit=limits.tasks_max,
        tasks=usage.tasks,
        throttled=rate.throttled if rate else 0.0,
        cpu_pressure=rate.cpu_pressure if rate else 0.0,
        memory_pressure=rate.memory_pressure if rate else 0.0,
        oom_kills=usage.oom_kills,
        oom_own=usage.oom_local,
        populated=cgroup.populated,
    )
