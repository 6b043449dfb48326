"""What may be asked of the enforcer while its loop goes on."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from enforcer import book as transitions
from enforcer import policy
from enforcer.book import Change, Terms
from enforcer.config import parse_config
from enforcer.controller.loop import Loop
from enforcer.controller.placement import placement
from enforcer.controller.world import World
from enforcer.errors import ConflictError, EnforcerError, NotFoundError, UnavailableError
from enforcer.model import (
    Claim,
    Config,
    EndReason,
    Lease,
    LeaseHistory,
    LeaseState,
    Placement,
    PlannedChange,
    Published,
    Receipt,
    Resize,
    Rights,
)
from enforcer.plan import plan
from enforcer.receipts import open_account
from enforcer.regrant import regrant

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigFile:
    """Where the configuration is, and how it is read again."""

    path: Path
    read: Callable[[], str]
    """Raises EnforcerError where there is no right one."""


class Controller:
    """Holds the leases to their promises. Implements ports.Operations."""

    def __init__(
        self, world: World, config: Config, file: ConfigFile, *, config_error: str = ""
    ) -> None:
        self._world = world
        self._file = file
        self._loop = Loop(world, config)
        self._loop.config_error = config_error

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._loop.config

    @property
    def last_tick_at(self) -> float:
        """Monotonic seconds: the watchdog's sign of life."""
        return self._loop.last_tick_at

    @property
    def broken(self) -> bool:
        """Only a new start helps."""
        return self._loop.broken

    async def start(self) -> None:
        """Take up what the ledger has, make the first tick, and go on in the background."""
        await self._loop.start()

    async def stop(self) -> None:
        """Lift the CPU caps, which nobody would lift while the daemon is gone; limits stay."""
        await self._loop.stop()

    async def tick(self) -> None:
        """Make one now."""
        await self._loop.tick()

    # --- what the API asks ---

    def published(self) -> Published:
        """Return the last tick's picture; cheap, it never waits."""
        return self._loop.published()

    async def rights(self, user: str, hub_groups: Sequence[str] = ()) -> Rights:
        """Return what a user may have; the host's groups are looked up and added.

        In all they may have what any of their servers was claimed with the groups for.
        """
        await self._loop.rights.learn([user])
        claim = Claim(user=user, groups=tuple(hub_groups))
        return self._loop.terms().rights_beside(self._loop.keeper.book.live, claim)

    def _rights(self, user: str, hub_groups: Sequence[str]) -> Rights:
        return self._loop.rights.of(self._loop.config, user, hub_groups)

    async def claim(self, claim: Claim) -> tuple[Lease, bool]:
        """Admit a claim and make its slices; the lease, and whether it is new."""
        await self._loop.rights.learn([claim.user])
        async with self._loop.lock:
            checked = policy.check_claim(
                self._loop.config, self._rights(claim.user, claim.groups), claim
            )
            try:
                claimed = transitions.claim(
                    self._loop.keeper.book,
                    self._loop.terms(),
                    checked,
                    self._world.clock.now(),
                    secrets.token_hex(16),
                )
                self._check_replaced(claimed.changes)
            except EnforcerError:
                self._loop.actor.counters["admission", "refused"] += 1
                raise
            leaf = self._world.kernel.slice(claimed.lease.unit)
            baseline = open_account(None if leaf is None else leaf.usage)
            await self._loop.keeper.commit(claimed.book, claimed.changes, baseline)
            outcome = "queued" if claimed.lease.state is LeaseState.QUEUED else "admitted"
            self._loop.actor.counters["admission", outcome if claimed.new else "repeated"] += 1
            if claimed.lease.live:
                await self._loop.place(claimed.lease, undo=claimed.new)
        self._loop.wake.set()
        return claimed.lease, claimed.new

    def lease(self, lease_id: str) -> Lease:
        """Return one lease that is not finished."""
        lease = self._loop.keeper.book.get(lease_id)
        if lease is None:
            raise NotFoundError(
                "lease.not-found",
                f"there is no lease {lease_id[:40]!r}",
                "it may have ended: its receipt would tell",
            )
        return lease

    def placement(self, lease: Lease) -> Placement:
        """Return where its container goes; for a pending or bound lease."""
        if not lease.live:
            raise ConflictError(
                "lease.not-placed", f"lease {lease.id} is {lease.state}", "wait until it is placed"
            )
        rights = self._rights(lease.user, lease.claim.groups)
        return placement(self._loop.config, lease, rights, self._loop.slices())

    def queue_place(self, lease: Lease) -> tuple[int, str]:
        """Return a queued lease's place in line (1 is next) and what it waits for."""
        position = transitions.place(self._loop.keeper.book, lease.id)
        return position, transitions.waits_for(self._loop.keeper.book, self._loop.terms(), lease)

    async def wait(self, lease_id: str, state: LeaseState, timeout_seconds: float) -> Lease:
        """Return the lease as soon as it is no longer in `state`, or at the timeout as it is."""
        await self._loop.keeper.wait(lease_id, state, timeout_seconds)
        lease = self.lease(lease_id)
        if state is LeaseState.QUEUED and lease.state is LeaseState.PENDING:
            # what is answered is in force: the tick that placed it may be at it just now
            async with self._loop.lock:
                lease = self.lease(lease_id)
                if lease.live:
                    await self._loop.place(lease, undo=False)
        return lease

    async def resize(self, lease_id: str, change: Resize) -> Lease:
        """Give a live lease other numbers within its profile and the user's rights.

        Raises:
            UnavailableError: ``resize.not-in-force``: the lease has them, the kernel not yet.
        """
        await self._loop.rights.learn([self.lease(lease_id).user])
        async with self._loop.lock:
            lease = self.lease(lease_id)
            rights = self._rights(lease.user, lease.claim.groups)
            policy.check_claim(self._loop.config, rights, _asked_by(lease, change))
            step = transitions.resize(
                self._loop.keeper.book,
                self._loop.terms(),
                lease_id,
                change,
                self._world.clock.now(),
            )
            await self._loop.keeper.commit(*step)
        await self._loop.tick()
        lease = self.lease(lease_id)
        try:
            self._loop.check_in_force(lease)
        except UnavailableError as error:
            raise UnavailableError(
                "resize.not-in-force",
                f"the lease has its new numbers, and the kernel not yet: {error.message}",
                "it is tried again at every tick; the journal of enforcer.service tells why",
            ) from error
        return lease

    async def release(
        self, lease_id: str, reason: EndReason, *, unless_running: bool = False
    ) -> None:
        """End a lease: withdraws a queued one; a released one's slice goes once it is empty."""
        async with self._loop.lock:
            lease = self._loop.keeper.book.get(lease_id)
            if unless_running and lease is not None and self._is_starting(lease):
                raise ConflictError(
                    "lease.running", "its container is starting", "stop the server first"
                )
            now = self._world.clock.now()
            step = transitions.release(
                self._loop.keeper.book, lease_id, reason, now, unless_running=unless_running
            )
            await self._loop.keeper.commit(*step)
        self._loop.containers.look_again()
        self._loop.wake.set()

    def _check_replaced(self, changes: Sequence[Change]) -> None:
        for change in changes:
            ended = change.after.state is LeaseState.RELEASED
            if ended and change.before is not None and self._is_starting(change.before):
                raise ConflictError(
                    "lease.bound", "the server is starting, with another claim", "stop it first"
                )

    def _is_starting(self, lease: Lease) -> bool:
        """Tell whether something runs in a pending lease's leaf: Docker tells of it in a moment.

        If the lease could be ended in that moment, its container would count nowhere.
        """
        leaf = self._world.kernel.slice(lease.unit)
        return lease.state is LeaseState.PENDING and leaf is not None and leaf.populated

    def history(self, lease_id: str) -> LeaseHistory:
        """Return the last samples of a lease, for a while after its end too."""
        found = self._loop.publisher.history(lease_id)
        if found is None:  # it may have been claimed since the last tick
            found = self.lease(lease_id).user, ()
        ended = self._loop.keeper.book.get(lease_id) is None
        return LeaseHistory(user=found[0], ended=ended, samples=found[1])

    async def receipts(self, user: str | None, limit: int) -> Sequence[Receipt]:
        """Return the newest receipts first."""
        return await self._world.ledger.receipts(user, limit)

    async def reload(self) -> Sequence[str]:
        """Read the configuration file again; return what changed, in sentences."""
        try:
            config = self._read(self._file.read())
        except EnforcerError as error:
            self._loop.config_error = str(error)
            _log.warning("the configuration is not reloaded: %s", error.message)
            raise
        self._loop.rights.expire()
        await self._loop.rights.learn(self._loop.keeper.users())
        async with self._loop.lock:
            config = self._loop.keeper.completed(config)
            changes = self._plan(config)
            step = regrant(self._loop.keeper.book, self._under(config))
            await self._loop.keeper.commit(*step, profiles=config.all_profiles)
            self._loop.config, self._loop.config_error = config, ""
            self._world.ledger.receipts_kept = config.daemon.receipts_kept
        await self._loop.tick()
        _log.info("configuration reloaded: %d changes", len(changes))
        return [f"{one.subject}: {one.what} {one.before} → {one.after}" for one in changes]

    def plan(self, text: str) -> Sequence[PlannedChange]:
        """Say what a configuration would change for the slices and leases there are."""
        return self._plan(self._loop.keeper.completed(self._read(text)))

    def _plan(self, config: Config) -> tuple[PlannedChange, ...]:
        return plan(
            self._loop.config,
            config,
            self._loop.keeper.book.leases,
            lambda claim: self._loop.rights.of(config, claim.user, claim.groups),
            self.published().observed,
            self.published().rates,
        )

    def _under(self, config: Config) -> Terms:
        return replace(
            self._loop.terms(),
            config=config,
            rights_of=lambda claim: self._loop.rights.of(config, claim.user, claim.groups),
        )

    def _read(self, text: str) -> Config:
        return parse_config(text, self._world.host.capacity(), source=str(self._file.path))


def _asked_by(lease: Lease, change: Resize) -> Claim:
    return replace(
        lease.claim,
        profile=lease.profile,
        image=None,  # it runs already, whether or not the image is still allowed
        cpu_limit=change.cpu_limit,
        mem_limit=change.mem_limit,
        cpu_guarantee=change.cpu_guarantee,
        mem_guarantee=change.mem_guarantee,
    )
