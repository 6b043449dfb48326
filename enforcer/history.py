"""Rates out of counters, and the last minutes of every lease in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from enforcer.model import Cgroup, Grant, Lease, Observed, Sample, Usage
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
        cpu=Cpus(round((current.cpu_usec - then.cpu_usec) / seconds)),
        memory=current.working_set,
        throttled=throttled_share(then, current),
        cpu_pressure=_share(current.cpu_pressure_usec - then.cpu_pressure_usec, seconds),
        memory_pressure=_share(current.memory_pressure_usec - then.memory_pressure_usec, seconds),
        io_pressure=_share(current.io_pressure_usec - then.io_pressure_usec, seconds),
        oom_kills=max(0, current.oom_kills - then.oom_kills),
    )


class Sampler:
    """Takes the samples, each from two snapshots.

    Most leases are idle most of the time. Their cgroups are the very same values again then, and
    so are their samples, which need not be made anew at each tick.
    """

    def __init__(self) -> None:
        self._idle: dict[UnitName, tuple[Cgroup, Sample]] = {}
        self._leaves: dict[UnitName, tuple[Sample, Grant, Bytes | None, Sample]] = {}
        """Leaf → what a sample without kills was made of, and that sample."""
        self._accounts: Mapping[str, Account] = {}

    def take(
        self,
        previous: Observed | None,
        now: Observed,
        leases: Iterable[Lease],
        accounts: Mapping[str, Account],
    ) -> dict[UnitName, Sample]:
        """Return the sample of every slice that is in both snapshots; none at first.

        A lease's leaf has what is a lease's alone too: limits, and whose the kills were. They are
        counted from its account (`accounts`: lease → that, now), so that a receipt says nothing
        else.
        """
        found = {} if previous is None else self._of_slices(previous, now)
        before, self._accounts = self._accounts, dict(accounts)
        known, self._leaves = self._leaves, {}
        for lease in leases:
            one, account = found.get(lease.unit), self._accounts.get(lease.id)
            if one is None or account is None:
                continue
            then = before.get(lease.id, account)
            limit = memory_limit(lease, now)
            if account.killed != then.killed:
                found[lease.unit] = _of_lease(one, lease.grant, limit, then, account)
                continue
            made = known.get(lease.unit)
            if made is None or made[0] is not one or made[1:3] != (lease.grant, limit):
                made = (one, lease.grant, limit, _of_lease(one, lease.grant, limit, then, account))
            self._leaves[lease.unit] = made
            found[lease.unit] = made[3]
        return found

    def _of_slices(self, previous: Observed, now: Observed) -> dict[UnitName, Sample]:
        before = previous.cgroups
        seconds = now.taken_at - previous.taken_at
        known, self._idle = self._idle, {}
        found: dict[UnitName, Sample] = {}
        for unit, cgroup in now.cgroups.items():
            if cgroup is before.get(unit) and seconds > 0:
                made = known.get(unit)
                if made is None or made[0] is not cgroup:
                    made = (cgroup, _idle(cgroup.usage))
                self._idle[unit] = made
                found[unit] = made[1]
            elif (one := sample(unit, previous, now)) is not None:
                found[unit] = one
        return found


def _of_lease(
    one: Sample, grant: Grant, limit: Bytes | None, before: Account, now: Account
) -> Sample:
    own = now.killed_own - before.killed_own
    # a resize may have come after the kill, and before this snapshot
    at_kill = Bytes(now.limit_at_kill) if own and now.limit_at_kill else None
    return replace(
        one,
        oom_kills=now.killed - before.killed,
        oom_own=own,
        cpu_limit=grant.cpu_limit,
        mem_limit=at_kill or limit,
    )


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


def _idle(usage: Usage) -> Sample:
    """Return the sample of a slice that did nothing."""
    return Sample(
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
    """The last samples of each lease, bounded in time, and in number should the clock be set back.

    `keep_only` forgets what is no longer wanted.
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._most = 1
        self._samples: dict[str, deque[tuple[float, Sample]]] = {}

    def keep_last(self, seconds: float, most: int) -> None:
        """Keep what is no older than the newest by more than `seconds`; of each lease so many."""
        self._seconds = seconds
        if most != self._most:
            self._most = most
            self._samples = {one: deque(kept, most) for one, kept in self._samples.items()}

    def add(self, at: float, of_lease: Mapping[str, Sample]) -> None:
        """Add one sample to each of these leases; at: when that was, in Unix seconds."""
        for lease_id, one in of_lease.items():
            kept = self._samples.setdefault(lease_id, deque(maxlen=self._most))
            kept.append((at, one))
            while at - kept[0][0] > self._seconds:
                kept.popleft()

    def get(self, lease_id: str) -> tuple[tuple[float, Sample], ...]:
        """Return a lease's samples with their Unix seconds, the oldest first; none if not known."""
        return tuple(self._samples.get(lease_id, ()))

    def keep_only(self, lease_ids: Collection[str]) -> None:
        """Forget every other lease."""
        for gone in self._samples.keys() - set(lease_ids):
            del self._samples[gone]
