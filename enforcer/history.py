"""Rates out of counters, and the last minutes of every lease in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from enforcer.model import Lease, Observed, Sample, Usage
from enforcer.names import UnitName, ancestors
from enforcer.quantities import Bytes, Cpus
from enforcer.receipts import Account, memory_limit

_PSI_MOST = 1.0


def sample(unit: UnitName, previous: Observed, now: Observed) -> Sample | None:
    """What a slice used between two snapshots; None if it is not in both, or was made anew.

    throttled: by its own quota alone; see `held_back`.
    """
    before, after = previous.cgroups.get(unit), now.cgroups.get(unit)
    seconds = now.taken_at - previous.taken_at
    if before is None or after is None or seconds <= 0:
        return None
    then, current = before.usage, after.usage
    if current.cpu_usec < then.cpu_usec:  # removed and made again between the two
        return None
    return Sample(
        at=now.at,
        cpu=Cpus(round((current.cpu_usec - then.cpu_usec) / seconds)),
        memory=current.working_set,
        throttled=throttled_share(then, current),
        cpu_pressure=_share(current.cpu_pressure_usec - then.cpu_pressure_usec, seconds),
        memory_pressure=_share(current.memory_pressure_usec - then.memory_pressure_usec, seconds),
        io_pressure=_share(current.io_pressure_usec - then.io_pressure_usec, seconds),
        oom_kills=max(0, current.oom_kills - then.oom_kills),
    )


def samples(previous: Observed | None, now: Observed) -> dict[UnitName, Sample]:
    """Return the sample of every slice that is in both snapshots; none at first."""
    if previous is None:
        return {}
    before = previous.cgroups
    seconds = now.taken_at - previous.taken_at
    found: dict[UnitName, Sample] = {}
    for unit, cgroup in now.cgroups.items():
        # most leases are idle most of the time, and then they are the very same value again
        still = cgroup is before.get(unit) and seconds > 0
        one = _idle(cgroup.usage, now.at) if still else sample(unit, previous, now)
        if one is not None:
            found[unit] = one
    return found


def of_leases(
    rates: Mapping[UnitName, Sample],
    leases: Iterable[Lease],
    observed: Observed,
    before: Mapping[str, Account],
    accounts: Mapping[str, Account],
) -> dict[UnitName, Sample]:
    """Return the leaves' samples with what is a lease's alone: limits, and whose the kills were.

    before, accounts: lease → its account at the last samples, and now. The kills are counted from
    them, so that a receipt says nothing else.
    """
    found: dict[UnitName, Sample] = {}
    for lease in leases:
        one, account = rates.get(lease.unit), accounts.get(lease.id)
        if one is None or account is None:
            continue
        then = before.get(lease.id, account)
        own = account.killed_own - then.killed_own
        # a resize may have come after the kill, and before this snapshot
        at_kill = Bytes(account.limit_at_kill) if own and account.limit_at_kill else None
        # field by field, for every lease at every tick: `replace` takes thrice as long
        found[lease.unit] = Sample(
            at=one.at,
            cpu=one.cpu,
            memory=one.memory,
            throttled=one.throttled,
            cpu_pressure=one.cpu_pressure,
            memory_pressure=one.memory_pressure,
            io_pressure=one.io_pressure,
            oom_kills=account.killed - then.killed,
            oom_own=own,
            cpu_limit=lease.grant.cpu_limit,
            mem_limit=at_kill or memory_limit(lease, observed),
        )
    return found


def held_back(unit: UnitName, rates: Mapping[UnitName, Sample]) -> Sample | None:
    """Return a slice's sample, throttled by the quotas above it too.

    A quota above holds back only who wants to run, and no longer than they had to wait for a CPU.
    """
    own = rates.get(unit)
    if own is None:
        return None
    if not own.cpu_pressure:
        return own
    above = max((rates[one].throttled for one in ancestors(unit) if one in rates), default=0.0)
    return replace(own, throttled=max(own.throttled, min(above, own.cpu_pressure)))


def _idle(usage: Usage, at: float) -> Sample:
    """Return the sample of a slice that did nothing."""
    return Sample(
        at=at,
        cpu=Cpus(0),
        memory=usage.working_set,
        throttled=0.0,
        cpu_pressure=0.0,
        memory_pressure=0.0,
        io_pressure=0.0,
        oom_kills=0,
    )


def throttled_share(then: Usage, now: Usage) -> float:
    """Share of the enforcement periods, 0 to 1, in which this level's own quota ran out."""
    periods = now.periods - then.periods
    if periods <= 0:
        return 0.0
    return min(1.0, max(0, now.periods_throttled - then.periods_throttled) / periods)


def _share(usec: int, seconds: float) -> float:
    return min(_PSI_MOST, max(0.0, usec / 1e6 / seconds))


class History:
    """The last samples of each lease, bounded in number; `forget` what is no longer wanted."""

    def __init__(self) -> None:
        self._length = 1
        self._samples: dict[str, deque[Sample]] = {}

    def keep_last(self, length: int) -> None:
        """Keep so many of each lease from now on, at least one."""
        length = max(1, length)
        if length != self._length:
            self._length = length
            self._samples = {one: deque(kept, length) for one, kept in self._samples.items()}

    def add(self, of_lease: Mapping[str, Sample]) -> None:
        """Add one sample to each of these leases."""
        for lease_id, one in of_lease.items():
            kept = self._samples.setdefault(lease_id, deque(maxlen=self._length))
            kept.append(one)

    def get(self, lease_id: str) -> Sequence[Sample]:
        """Return a lease's samples, the oldest first; none for one that is not known."""
        return tuple(self._samples.get(lease_id, ()))

    def keep_only(self, lease_ids: Collection[str]) -> None:
        """Forget every other lease."""
        for gone in self._samples.keys() - set(lease_ids):
            del self._samples[gone]
