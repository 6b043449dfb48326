"""The leases in hand: the book, what each lease used, and the ledger that has it all on disk.

Nothing changes here before it is on disk. Callers hold the placement lock around every change.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from enforcer import book as transitions
from enforcer.book import Book, Change
from enforcer.controller.world import World
from enforcer.errors import InvalidError
from enforcer.model import (
    Claim,
    Config,
    Deferred,
    EndReason,
    Lease,
    LeaseState,
    Observed,
    Receipt,
    ResourceProfile,
    Usage,
)
from enforcer.names import UnitName
from enforcer.receipts import Account, from_ints, memory_limit, observe, open_account, receipt

_log = logging.getLogger(__name__)

_ENDED_KEPT = 1000
"""Of leases whose leaf has gone; one may come back, with a container that starts again."""
_STORE_SECONDS = 30.0


class Keeper:
    """Keeps the leases; `book` is as the ledger has it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._accounts: dict[str, Account] = {}
        self._settled: dict[str, Usage] = {}
        """Readings that added nothing to the lease's account: the same again would not either."""
        self._unsaved: set[str] = set()
        self._saved_at = float("-inf")
        self._seen_running: set[str] = set()
        self._ended: dict[UnitName, Lease] = {}
        self._released_at: dict[UnitName, float] = {}
        self._changed = asyncio.Condition()
        self._profiles: Mapping[str, ResourceProfile] = {}
        """What leases are held to, by name."""
        self._stored_profiles: Mapping[str, ResourceProfile] | None = None
        """As the ledger has them; None: it may have these or others."""
        self._waits: tuple[Deferred, ...] = ()
        """As the ledger has them, but by the monotonic clock."""
        self.book = Book()
        self._users: frozenset[str] = frozenset()
        self._users_of = self.book.leases

    @property
    def accounts(self) -> Mapping[str, Account]:
        """Lease → what it has used so far."""
        return self._accounts

    async def recover(self, config: Config) -> Config:
        """Take up what the ledger has; of a finished lease, what its slice was granted last.

        Return the configuration with what it lacks of the profiles that these were granted in.
        """
        self._profiles = self._stored_profiles = await self._world.ledger.load_profiles()
        step = transitions.recover(await self._world.ledger.load())
        self._accounts = {lease.id: open_account() for lease in step.book.leases}
        for lease_id, values in (await self._world.ledger.load_accounts()).items():
            try:
                self._accounts[lease_id] = from_ints(values)
            except InvalidError as error:
                _log.warning("an account in the ledger is of no use: %s", error.message)
        for one in reversed(await self._world.ledger.receipts(None, _ENDED_KEPT)):
            ended = _from_receipt(one)
            self._ended[ended.unit] = ended
        await self.commit(step.book, step.changes)
        _log.info("recovered %d leases", len(self.book.leases))
        complete = self.completed(config)
        self._profiles = complete.all_profiles
        for name in sorted({lease.profile for lease in self.book.live} - self._profiles.keys()):
            _log.warning(
                "nothing tells what profile %s was: its leases keep what was granted", name
            )
        return complete

    async def recover_waits(self) -> tuple[Deferred, ...]:
        """Return the lowered limits that waited when an earlier daemon ended."""
        ahead = self._world.clock.now() - self._world.clock.monotonic()
        self._waits = tuple(_later(one, -ahead) for one in await self._world.ledger.load_waits())
        return self._waits

    async def keep_waits(self, deferred: Iterable[Deferred]) -> None:
        """Store which lowered limits wait, so that a restart neither ends a wait nor begins one.

        Raises:
            UnavailableError: ``state.unwritable``.
        """
        waits = tuple(deferred)
        if waits == self._waits:
            return
        ahead = self._world.clock.now() - self._world.clock.monotonic()
        await self._world.ledger.store_waits([_later(one, ahead) for one in waits])
        self._waits = waits

    def completed(self, config: Config) -> Config:
        """Return a configuration with what it lacks of the profiles that leases are held to now.

        A finished one counts too: a container may bring its leaf back.
        """
        named = {lease.profile for lease in (*self.book.leases, *self._ended.values())}
        return config.with_retired({n: one for n, one in self._profiles.items() if n in named})

    async def commit(
        self,
        book: Book,
        changes: Iterable[Change],
        baseline: Account | None = None,
        profiles: Mapping[str, ResourceProfile] | None = None,
    ) -> None:
        """Store the changes, with the receipts of what ended; then `book` is the book.

        baseline: the account that a new lease begins with. profiles: what leases are held to from
        now on, None as before: no lease is stored without its profile.

        Raises:
            UnavailableError: ``state.unwritable``; nothing has changed then.
        """
        listed = tuple(changes)
        held_to = self._profiles if profiles is None else profiles
        unstored = () if held_to == self._stored_profiles else tuple(held_to.values())
        if not listed and (profiles is None or not unstored):
            self.book, self._profiles = book, held_to
            return
        now = self._world.clock.now()
        ended = [self._reasoned(change) for change in listed if _has_ended(change)]
        receipts = [self._receipt(change, lease, now) for change, lease in ended]
        begun = {one.after.id: baseline or open_account() for one in listed if one.before is None}
        # one that begins at nothing need not be stored: see `recover`
        accounts = {one: begun[one].as_ints() for one in begun if begun[one] != open_account()}
        if unstored:
            self._stored_profiles = None
        stored = [change.after for change in listed]
        await self._world.ledger.store(stored, receipts, accounts, unstored)
        self.book = book
        self._profiles = self._stored_profiles = held_to
        self._accounts.update(begun)
        for change in listed:
            _log_change(change)
        for _, lease in ended:
            self._forget(lease)
        async with self._changed:
            self._changed.notify_all()

    async def account(self, observed: Observed) -> None:
        """Add what this snapshot shows to every live lease's account; save them now and then."""
        for lease in self.book.live:
            cgroup = observed.cgroups.get(lease.unit)
            if cgroup is None or self._settled.get(lease.id) is cgroup.usage:
                continue
            before = self._accounts.get(lease.id) or open_account()
            limit = memory_limit(lease, observed)
            after = observe(before, cgroup.usage, observed.at, limit)
            if after != before:
                self._accounts[lease.id] = after
                self._unsaved.add(lease.id)
            else:
                self._settled[lease.id] = cgroup.usage
            if after.killed != before.killed:
                self._saved_at = float("-inf")
        self._forget_the_oldest(observed.cgroups)
        if self._unsaved and observed.taken_at - self._saved_at >= _STORE_SECONDS:
            await self.save()
            self._saved_at = observed.taken_at

    async def save(self) -> None:
        """Save what was added to the accounts since they were saved last.

        Raises:
            UnavailableError: ``state.unwritable``; it is still to be saved then.
        """
        values = {
            lease_id: self._accounts[lease_id].as_ints()
            for lease_id in self._unsaved
            if lease_id in self._accounts
        }
        await self._world.ledger.store_accounts(values)
        self._unsaved.clear()

    async def wait(self, lease_id: str, state: LeaseState, timeout_seconds: float) -> None:
        """Return as soon as the lease is not in `state`, or has ended, or time is up."""

        def moved() -> bool:
            lease = self.book.get(lease_id)
            return lease is None or lease.state is not state

        async with self._changed:
            try:
                async with asyncio.timeout(timeout_seconds):
                    await self._changed.wait_for(moved)
            except TimeoutError:
                return

    def kept(self, there: Collection[UnitName]) -> tuple[Lease, ...]:
        """Return the finished leases whose leaf is among `there`: their limits hold on."""
        live = {lease.unit for lease in self.book.live}
        return tuple(
            self._ended[unit] for unit in there if unit in self._ended and unit not in live
        )

    def running(self, lease_ids: Iterable[str]) -> None:
        """Note that these leases' containers were seen running by this daemon.

        What is no lease's id is not kept: a label may say anything.
        """
        self._seen_running.update({lease.id for lease in self.book.leases}.intersection(lease_ids))

    def released_at(self, unit: UnitName) -> float | None:
        """Return when this daemon last released a lease of a leaf, in Unix seconds.

        Its container may have gone long before. None: never.
        """
        return self._released_at.get(unit)

    def users(self) -> Collection[str]:
        """Return everyone with a lease."""
        if self._users_of is not self.book.leases:
            self._users_of = self.book.leases
            self._users = frozenset(lease.user for lease in self.book.leases)
        return self._users

    def _reasoned(self, change: Change) -> tuple[Change, Lease]:
        """Say of a lease whose container nobody saw end that it was lost."""
        lease = change.after
        unseen = lease.state is LeaseState.RELEASED and lease.id not in self._seen_running
        if lease.end_reason is EndReason.EXITED and unseen:
            lease = replace(lease, end_reason=EndReason.LOST)
        return change, lease

    def _receipt(self, change: Change, lease: Lease, now: float) -> Receipt:
        cgroup = self._world.kernel.slice(lease.unit)
        account = self._accounts.get(lease.id) or open_account()
        before = change.before
        if cgroup is not None and before is not None and before.live:
            account = observe(account, cgroup.usage, now, cgroup.limits.memory_max)
        ended_at = now if lease.ended_at is None else lease.ended_at
        return receipt(lease, account, ended_at, lease.end_reason or EndReason.LOST)

    def _forget(self, lease: Lease) -> None:
        self._accounts.pop(lease.id, None)
        self._settled.pop(lease.id, None)
        self._unsaved.discard(lease.id)
        self._seen_running.discard(lease.id)
        self._ended.pop(lease.unit, None)  # the newest come last
        self._ended[lease.unit] = lease
        self._released_at[lease.unit] = self._world.clock.now()

    def _forget_the_oldest(self, there: Collection[UnitName]) -> None:
        """Keep no more ended leases than there is reason to: anybody makes any number of them."""
        surplus = len(self._ended) - _ENDED_KEPT
        if surplus > 0:
            gone = [unit for unit in self._ended if unit not in there]
            for unit in gone[:surplus]:
                del self._ended[unit]
                self._released_at.pop(unit, None)


def _has_ended(change: Change) -> bool:
    return change.after.state is LeaseState.RELEASED


def _later(one: Deferred, seconds: float) -> Deferred:
    return one if one.deadline is None else replace(one, deadline=one.deadline + seconds)


def _from_receipt(one: Receipt) -> Lease:
    return Lease(
        id=one.lease_id,
        claim=Claim(user=one.user, server=one.server, profile=one.profile, image=one.image),
        profile=one.profile,
        image=one.image,
        grant=one.grant,
        state=LeaseState.RELEASED,
        created_at=one.started_at,
        ended_at=one.ended_at,
        end_reason=one.reason,
    )


def _log_change(change: Change) -> None:
    lease = change.after
    before = None if change.before is None else change.before.state
    if before is lease.state and (change.before is None or change.before.grant == lease.grant):
        return
    _log.info(
        "lease %s",
        lease.state if before is not lease.state else "resized",
        extra={
            "lease": lease.id,
            "user": lease.user,
            "server": lease.server,
            "unit": lease.unit,
            "reason": lease.end_reason or "",
        },
    )
