"""What a new configuration would do to the slices and leases there are, and whom it would hurt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from enforcer.book import Terms
from enforcer.desired import desired
from enforcer.errors import ForbiddenError, InvalidError
from enforcer.excess import excesses
from enforcer.leases import Book
from enforcer.model import (
    Cgroup,
    Claim,
    Config,
    DaemonSettings,
    Desired,
    Lease,
    Limits,
    Observed,
    PlannedChange,
    Rights,
    Sample,
)
from enforcer.names import UnitName
from enforcer.quantities import Cpus, format_bytes, format_cpus
from enforcer.regrant import regrant
from enforcer.room import Amount, guarantees
from enforcer.slices import pages_of, quota_of, totals_in_force, without_lease
from enforcer.tree import Totals, totals_of

RightsOf = Callable[[Claim], Rights]
"""It may raise ForbiddenError, and InvalidError of a name that was taken once."""

_NO_RATES: Final[Mapping[UnitName, Sample]] = MappingProxyType({})

_WORDS: Final = {
    "cpu_quota": "CPU quota",
    "memory_min": "guaranteed memory",
    "memory_high": "memory throttle",
    "memory_max": "memory limit",
    "swap_max": "swap limit",
    "tasks_max": "tasks limit",
    "io_weight": "I/O weight",
    "cpus": "CPUs",
}
"""Weights of CPU are left out: they are relative, and move with every lease."""


def plan(
    before: Config,
    after: Config,
    leases: Iterable[Lease],
    rights_of_after: RightsOf,
    observed: Observed,
    rates: Mapping[UnitName, Sample] = _NO_RATES,
) -> tuple[PlannedChange, ...]:
    """Return every change that going from one configuration to the other makes, slices first.

    What takes a restart is said to be so.

    rates: of the last tick; where there are none nobody is said to be throttled. A user's old
    total is read from their slice, because nothing tells the rights they had.
    """
    live = tuple(lease for lease in leases if lease.live)
    others = without_lease(live, observed.containers, observed.scopes)
    terms = Terms(config=after, rights_of=rights_of_after, containers=others)
    regranted = regrant(Book(live), terms).book.leases
    new_totals = totals_of(regranted, rights_of_after)
    in_force = totals_in_force(live, observed.cgroups)
    old_totals = {**new_totals, **in_force}
    old = desired(before, live, observed, totals=old_totals)
    new = desired(after, regranted, observed, totals=new_totals)
    granted = {lease.id: lease for lease in regranted}
    return (
        *_slice_changes(old, new, observed, rates),
        *_total_changes(regranted, in_force, new_totals),
        *(
            change
            for lease in live
            for change in _lease_changes(lease, granted[lease.id], rights_of_after)
        ),
        *_later_changes(before.daemon, after.daemon),
    )


def _slice_changes(
    old: Desired, new: Desired, observed: Observed, rates: Mapping[UnitName, Sample]
) -> Iterator[PlannedChange]:
    for unit, one in new.slices.items():
        if unit in old.slices:
            earlier = old.slices[unit].limits
            for name in one.limits.changed_from(earlier):
                if name in _WORDS:
                    cgroup = observed.cgroups.get(unit)
                    yield PlannedChange(
                        subject=unit,
                        what=_WORDS[name],
                        before=_show(name, earlier),
                        after=_show(name, one.limits),
                        risk=_less_protected(one.limits, earlier)
                        if name == "memory_min"
                        else _risk(name, one.limits, cgroup, rates.get(unit)),
                    )


def _total_changes(
    leases: Iterable[Lease], in_force: Totals, totals: Totals
) -> Iterator[PlannedChange]:
    """Return the users who will hold more than a total that is new to them."""
    for one in excesses(leases, totals):
        if one.user not in in_force:
            continue
        cpu, memory = in_force[one.user]
        # as the kernel shows it
        new = quota_of(Cpus(one.total.cpu)), pages_of(one.total.memory)
        if (one.of_cpu and cpu != new[0]) or (one.of_memory and memory != new[1]):
            yield PlannedChange(
                subject=one.user,
                what="total",
                before=one.say(Amount(cpu, memory)),
                after=one.say(one.total),
                risk=one.consequence,
            )


def _lease_changes(before: Lease, after: Lease, rights_of: RightsOf) -> Iterator[PlannedChange]:
    subject = f"{before.user}/{before.server}" if before.server else before.user
    yield from _lost_guarantees(subject, before, after)
    try:
        allowed = before.profile in rights_of(before.claim).profiles
    except (ForbiddenError, InvalidError):
        allowed = False
    if not allowed:
        yield PlannedChange(
            subject=subject,
            what="right to the profile",
            before=before.profile,
            after="none",
            risk="it goes on running, but cannot be started again",
        )


def _lost_guarantees(subject: str, before: Lease, after: Lease) -> Iterator[PlannedChange]:
    """Return what a lease is promised no longer; its slice tells of the memory it has now."""
    grants = [("", before.grant, after.grant)]
    if before.grant_before is not None and after.grant_before is not None:
        grants.append((" once its resize is over", before.grant_before, after.grant_before))
    for when, was, will_be in grants:
        lost = guarantees(was) - guarantees(will_be)  # nothing grows
        if lost.cpu:
            yield PlannedChange(
                subject=subject,
                what=f"guaranteed CPU{when}",
                before=f"{format_cpus(was.cpu_guarantee)} cores",
                after=f"{format_cpus(will_be.cpu_guarantee)} cores",
                risk=f"others could take {format_cpus(lost.cpu)} cores that it was promised",
            )
        if lost.memory and when:
            yield PlannedChange(
                subject=subject,
                what=f"guaranteed memory{when}",
                before=format_bytes(was.mem_guarantee),
                after=format_bytes(will_be.mem_guarantee),
                risk=f"others could take {format_bytes(lost.memory)} that it was promised",
            )


def _later_changes(before: DaemonSettings, after: DaemonSettings) -> Iterator[PlannedChange]:
    """Return what a reload leaves as it is: the daemon listens where it did when it started."""
    was, will_be = _metrics_address(before), _metrics_address(after)
    if was != will_be:
        yield PlannedChange(
            subject="daemon",
            what="metrics",
            before=was,
            after=f"{will_be}, at the next restart",
        )


def _metrics_address(daemon: DaemonSettings) -> str:
    host = daemon.metrics_host
    return f"{f'[{host}]' if ':' in host else host}:{daemon.metrics_port}"


def _show(name: str, limits: Limits) -> str:
    value = getattr(limits, name)
    if value is None:
        return "no limit" if name != "io_weight" else "the default"
    if name == "cpu_quota":
        return f"{format_cpus(value)} cores"
    if name == "cpus":
        return value or "all"
    return format_bytes(value) if name.startswith(("memory", "swap")) else str(value)


def _less_protected(limits: Limits, earlier: Limits) -> str:
    """Say how much of what was promised others could take."""
    less = earlier.memory_min - limits.memory_min
    return f"others could take {format_bytes(less)} that it was promised" if less > 0 else ""


def _risk(name: str, limits: Limits, cgroup: Cgroup | None, rate: Sample | None) -> str:
    """Say whom the new limit would throttle or put at risk, and by how much."""
    limit = getattr(limits, name)
    if limit is None or cgroup is None:
        return ""
    if name == "cpu_quota":
        if rate is None or rate.cpu <= limit:
            return ""
        return f"it uses {format_cpus(rate.cpu)} cores and would be throttled"
    used, words = {
        "memory_max": (cgroup.usage.working_set, "the OOM killer could strike"),
        "memory_high": (cgroup.usage.working_set, "it would be slowed down"),
        "swap_max": (
            cgroup.usage.swap_current,
            "it could swap out no more, and the OOM killer could strike",
        ),
        "tasks_max": (cgroup.usage.tasks, "it could start no more"),
    }.get(name, (0, ""))
    if not words or used <= limit:
        return ""
    more = used - limit
    too_much = f"{more} tasks" if name == "tasks_max" else format_bytes(more)
    return f"it uses {too_much} more than that: {words}"
