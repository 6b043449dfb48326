"""The controller's operations in memory: the real policy, book and admission, slices by decree."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from enforcer import book as transitions
from enforcer import policy
from enforcer.adapters.fakes.clock import FakeClock
from enforcer.book import Terms
from enforcer.config import parse_config
from enforcer.errors import EnforcerError, NotFoundError
from enforcer.history import Sampler
from enforcer.leases import Book, Step
from enforcer.model import (
    LEASE_LABEL,
    Cgroup,
    Claim,
    Config,
    Desired,
    EndReason,
    HostUsage,
    Lease,
    LeaseHistory,
    LeaseState,
    Limits,
    Observed,
    Placement,
    PlannedChange,
    Published,
    Receipt,
    Repair,
    RepairTimes,
    ReportDrift,
    Resize,
    Rights,
    Sample,
    TickStats,
    Usage,
)
from enforcer.names import ADOPTED, ENGINE, ROOT, WORKLOAD, UnitName, ancestors
from enforcer.ports import Operations
from enforcer.quantities import Bytes, Cpus
from enforcer.receipts import Account, memory_limit, observe, open_account, receipt


class FakeOperations:
    """Answers as the controller does, at once. `usage`: what each slice has used by now."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.clock = FakeClock()
        self.book = Book()
        self.usage: dict[UnitName, Usage] = {}
        self.limits: dict[UnitName, Limits] = {}
        self.caps: dict[UnitName, Cpus] = {}
        self.host = HostUsage()
        self.repairs: tuple[Repair, ...] = ()
        self.repair_times = RepairTimes()
        self.open_drift: tuple[ReportDrift, ...] = ()
        self.groups: Mapping[str, tuple[str, ...]] = {}
        self.reloading: EnforcerError | None = None
        """What a reload raises; None: nothing."""
        self.planned: Sequence[PlannedChange] = (
            PlannedChange(subject="profile Large", what="mem_limit", before="40", after="20"),
        )
        self.claiming = asyncio.Event()
        """A claim waits for it."""
        self.claiming.set()
        self.ended: list[Receipt] = []
        self.samples: dict[str, list[tuple[float, Sample]]] = {}
        self.ending: set[str] = set()
        """Leases that end as soon as their history has been told."""
        self._sampler = Sampler()
        self._accounts: dict[str, Account] = {}
        self._changed = asyncio.Event()
        self._made = 0
        self._picture = self._picture_now(None)

    def tick(self, seconds: float = 1.0) -> None:
        """Let time pass and publish."""
        self.clock.advance(seconds)
        self._picture = self._picture_now(self._picture)
        for lease in self.book.live:
            if lease.unit in self._picture.rates:
                self.samples.setdefault(lease.id, []).append(
                    (self._picture.rates_at, self._picture.rates[lease.unit])
                )

    def bind(self, lease_id: str, container_id: str) -> None:
        """Give a lease its container."""
        step = transitions.bind(self.book, lease_id, container_id, self.clock.now())
        assert isinstance(step, Step)
        self._take(step)

    def gone(self, container_id: str) -> None:
        """Note that a container runs no more: it ended by itself."""
        rules, now = self.config.admission, self.clock.now()
        self._take(transitions.container_gone(self.book, container_id, rules, now, stopped=False))

    def end(self, lease_id: str, reason: EndReason, *, unless_running: bool = False) -> None:
        """End a lease by itself, and let the queue move up."""
        now = self.clock.now()
        step = transitions.release(self.book, lease_id, reason, now, unless_running=unless_running)
        self._take(step)
        self._take(transitions.promote(self.book, self._terms(), self.clock.now()))

    def published(self) -> Published:
        return self._picture

    async def rights(self, user: str, hub_groups: Sequence[str] = ()) -> Rights:
        claim = Claim(user=user, groups=tuple(hub_groups))
        return self._terms().rights_beside(self.book.live, claim)

    def rights_now(self, user: str, hub_groups: Sequence[str] = ()) -> Rights:
        """Return what a user may have by the groups, whatever their other servers have."""
        return policy.rights(self.config, user, self.groups.get(user, ()), hub_groups)

    async def claim(self, claim: Claim) -> tuple[Lease, bool]:
        await self.claiming.wait()
        checked = policy.check_claim(self.config, self.rights_now(claim.user, claim.groups), claim)
        self._made += 1
        claimed = transitions.claim(
            self.book, self._terms(), checked, self.clock.now(), f"{self._made:032x}"
        )
        self._take(Step(claimed.book, claimed.changes))
        return claimed.lease, claimed.new

    def lease(self, lease_id: str) -> Lease:
        found = self.book.get(lease_id)
        if found is None:
            raise NotFoundError(
                "lease.not-found",
                f"there is no lease {lease_id!r}",
                "it may have ended: its receipt would tell",
            )
        return found

    def placement(self, lease: Lease) -> Placement:
        assert lease.live
        return Placement(
            slice=lease.unit,
            image=self.config.images[lease.image],
            labels={LEASE_LABEL: lease.id},
            nano_cpus=lease.grant.cpu_limit * 1000,
            memory=lease.grant.mem_limit,
            memory_swap=lease.grant.mem_limit,
            pids_limit=4096,
            shm_size=None,
            oom_score_adj=0,
            volumes_ro=self.config.volumes_ro,
            home=self.rights_now(lease.user).home,
        )

    def queue_place(self, lease: Lease) -> tuple[int, str]:
        waits_for = transitions.waits_for(self.book, self._terms(), lease)
        return transitions.place(self.book, lease.id), waits_for

    async def wait(self, lease_id: str, state: LeaseState, timeout_seconds: float) -> Lease:
        try:
            async with asyncio.timeout(timeout_seconds):
                while self.lease(lease_id).state is state:
                    await self._changed.wait()
        except TimeoutError:
            pass
        return self.lease(lease_id)

    async def resize(self, lease_id: str, change: Resize) -> Lease:
        now = self.clock.now()
        self._take(transitions.resize(self.book, self._terms(), lease_id, change, now))
        return self.lease(lease_id)

    async def release(
        self, lease_id: str, reason: EndReason, *, unless_running: bool = False
    ) -> None:
        self.end(lease_id, reason, unless_running=unless_running)

    def history(self, lease_id: str) -> LeaseHistory:
        ended = {one.lease_id: one.user for one in self.ended if one.lease_id in self.samples}
        user = ended.get(lease_id) or self.lease(lease_id).user
        if lease_id in self.ending:
            self.ending.remove(lease_id)
            self.end(lease_id, EndReason.STOPPED)
        samples = tuple(self.samples.get(lease_id, ()))
        return LeaseHistory(user=user, ended=lease_id in ended, samples=samples)

    async def receipts(self, user: str | None, limit: int) -> Sequence[Receipt]:
        found = [one for one in reversed(self.ended) if user is None or one.user == user]
        return found[:limit]

    async def reload(self) -> Sequence[str]:
        if self.reloading is not None:
            raise self.reloading
        return ["profile Large: mem_limit 40 GiB → 20 GiB"]

    def plan(self, text: str) -> Sequence[PlannedChange]:
        parse_config(text, self.config.capacity)
        return self.planned

    def _terms(self) -> Terms:
        return Terms(
            config=self.config,
            rights_of=lambda claim: self.rights_now(claim.user, claim.groups),
            containers=0,
        )

    def _take(self, step: Step) -> None:
        self.book = step.book
        for change in step.changes:
            lease = change.after
            if lease.state is LeaseState.RELEASED:
                now, reason = self.clock.now(), lease.end_reason or EndReason.LOST
                self.ended.append(receipt(lease, open_account(), now, reason))
        self._changed.set()
        self._changed = asyncio.Event()
        self._picture = replace(self._picture, leases=self.book.leases)

    def _picture_now(self, before: Published | None) -> Published:
        observed = Observed(
            taken_at=self.clock.monotonic(),
            at=self.clock.now(),
            cgroups={unit: self._cgroup(unit) for unit in self._units()},
            containers={},
            host=self.host,
        )
        previous = before.observed if before else None
        self._accounts = self._account(observed)
        rates = self._sampler.take(previous, observed, self.book.live, self._accounts)
        return Published(
            config=self.config,
            observed=observed,
            previous=previous,
            desired=Desired(slices=MappingProxyType({})),
            leases=self.book.leases,
            rates=rates,
            rates_at=observed.at,
            caps=dict(self.caps),
            repairs=self.repairs,
            repair_times=self.repair_times,
            open_drift=self.open_drift,
            counters={("admission", "admitted"): 3, ("drift", "memory_max"): 1},
            tick=TickStats(ticks=before.tick.ticks + 1 if before else 1),
        )

    def _account(self, observed: Observed) -> dict[str, Account]:
        found = {}
        for lease in self.book.live:
            account = self._accounts.get(lease.id) or open_account()
            usage = observed.cgroups[lease.unit].usage
            found[lease.id] = observe(account, usage, observed.at, memory_limit(lease, observed))
        return found

    def _units(self) -> list[UnitName]:
        leaves = [lease.unit for lease in self.book.live]
        above = [unit for leaf in leaves for unit in ancestors(leaf)]
        return list(dict.fromkeys((ROOT, ENGINE, WORKLOAD, ADOPTED, *above, *leaves)))

    def _cgroup(self, unit: UnitName) -> Cgroup:
        lease = next((one for one in self.book.live if one.unit == unit), None)
        limits = Limits(memory_min=Bytes(self.config.quota.memory // 2))
        if lease is not None:
            limits = Limits(
                cpu_quota=lease.grant.cpu_limit,
                memory_max=lease.grant.mem_limit,
                memory_min=lease.grant.mem_guarantee,
            )
        return Cgroup(
            unit=unit,
            limits=self.limits.get(unit, limits),
            usage=self.usage.get(unit, Usage()),
            populated=lease is not None,
        )


def _operations(fake: FakeOperations) -> Operations:
    """Have the type checker prove that the fake implements the port."""
    return fake
