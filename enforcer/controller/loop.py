"""The loop: observe, decide, act, publish; every `tick_seconds`, and whenever something happens."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from itertools import pairwise

from enforcer.book import Terms, release
from enforcer.controller.actor import Actor
from enforcer.controller.decide import Decider, Decision, Given, find_removable, is_leaf
from enforcer.controller.follow import follow
from enforcer.controller.keeper import Keeper
from enforcer.controller.observe import Observer
from enforcer.controller.outline import same_outline
from enforcer.controller.placing import Placing
from enforcer.controller.publish import Publisher
from enforcer.controller.rights import RightsBook
from enforcer.controller.waits import Waits
from enforcer.controller.watch import ContainerWatch, EngineWatch, KernelWatch
from enforcer.controller.world import World
from enforcer.errors import EnforcerError, ForbiddenError, UnavailableError
from enforcer.model import (
    Claim,
    Config,
    DesiredSlice,
    EndReason,
    Lease,
    Observed,
    Published,
    Rights,
)
from enforcer.names import UnitName, ancestors
from enforcer.regrant import regrant
from enforcer.slices import totals_in_force, without_lease

_log = logging.getLogger(__name__)

_LEAST_BETWEEN_TICKS_SECONDS = 0.05
"""A burst of events costs few ticks, and a repair still comes within a tenth of a second."""
_ANSWER_SECONDS = 0.005
"""Enough for an answer that only has to be written."""


class Loop:
    """Makes ticks. Whoever changes leases or configuration holds `lock`, and then `wake`s it."""

    def __init__(self, world: World, config: Config) -> None:
        self.world = world
        self.config = config
        self.config_error = ""
        """Why the file is not in force; empty when it is."""
        self.lock = asyncio.Lock()
        self.wake = asyncio.Event()
        self.keeper = Keeper(world)
        self.actor = Actor(world)
        self.rights = RightsBook(world.host, world.clock)
        self.containers = ContainerWatch(world, self.wake.set)
        self.publisher = Publisher()
        self._engine = EngineWatch(world, self.actor.hear)
        self._kernel = KernelWatch(world, self.wake.set)
        self._observer = Observer(world)
        self._decider = Decider()
        self._waits = Waits(world.kernel, self.keeper, self.actor, self._decider)
        self._placing = Placing(world.kernel, self.actor, self._decider)
        self._last: tuple[Observed, Given] | None = None
        """What the last tick was decided upon."""
        self._awaited: list[UnitName] = []
        """Leaves that were released after the containers were last listed."""
        self._leaves: list[UnitName] = []
        """As of the last snapshot that has others than the one before."""
        self._kept_users: frozenset[str] = frozenset()
        """Whose leases have all ended, while a leaf of theirs is still there."""
        self._totals_of: tuple[object, ...] = ()
        """What the totals were reckoned from."""
        self._uncut: set[str] = set()
        """Users whose leases an earlier daemon granted, perhaps with a more generous policy."""
        self._tasks: list[asyncio.Task[None]] = []
        self.last_tick_at = float("-inf")
        """Monotonic seconds: the watchdog's sign of life."""
        self.broken = False
        """A part of it has ended by a mistake of ours: only a new start mends that."""

    async def start(self) -> None:
        """Take up what the ledger has, make the first tick, and go on in the background."""
        self.config = await self.keeper.recover(self.config)
        await self._waits.recover()
        self._uncut = set(self.keeper.users())
        await self._recall_totals()
        await self._cut_to_config()
        await self.tick()
        self._tasks = [
            asyncio.create_task(self.containers.follow_events(), name="docker-events"),
            asyncio.create_task(self.containers.keep_listed(), name="containers"),
            asyncio.create_task(self._engine.follow(), name="engine"),
            asyncio.create_task(self._kernel.follow(), name="kernel-changes"),
            asyncio.create_task(self._run(), name="ticks"),
        ]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    async def _recall_totals(self) -> None:
        """Have the totals that are in force hold until the host has told: a start lifts none."""
        there = self.world.kernel.slices()
        self._leaves = [unit for unit in there if is_leaf(unit)]
        ended = self.keeper.kept(self._leaves)
        self.rights.totals = totals_in_force((*self.keeper.book.live, *ended), there)
        await self.rights.learn({*self._uncut, *(one.user for one in ended)})

    async def _cut_to_config(self) -> None:
        """Cut leases to what the configuration allows: it may be another since no daemon ran.

        To their user's rights where these are certain; for the others this is done again once
        they are. Containers without a lease are left aside: what came since takes nothing.
        """
        certain = {user for user in self._uncut if self.rights.certain(self.config, user)}

        def rights_of(claim: Claim) -> Rights:
            if claim.user not in certain:
                raise ForbiddenError("rights.not-asked", "nobody asks for this user's rights now")
            return self.rights.of(self.config, claim.user, claim.groups)

        terms = Terms(config=self.config, rights_of=rights_of, containers=0)
        try:
            step = regrant(self.keeper.book, terms)
            await self.keeper.commit(*step, profiles=self.config.all_profiles)
        except UnavailableError as error:
            _log.warning("leases keep what an earlier configuration gave them: %s", error)
        else:
            self._uncut -= certain

    async def stop(self) -> None:
        """Lift the CPU caps, which nobody would lift while the daemon is gone; limits stay.

        Nothing where there was no tick: without the leases what lives would count as a stray.
        """
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.rights.close()
        if self._last is not None:
            async with self.lock:
                await self._last_tick()
        await self.actor.close()

    async def _last_tick(self) -> None:
        observed = self._observe()
        decision = self._decider.tick(observed, self._given(observed), lift_caps=True)
        await self._waits.keep(decision.unfinished)
        await self._act(decision, observed)
        try:
            await self.keeper.save()
        except UnavailableError as error:
            _log.warning("what leases used in the last moments is not saved: %s", error)

    async def _run(self) -> None:
        while True:
            try:
                # not wait_for(): in Python 3.11 that can swallow a cancellation (gh-86296)
                async with asyncio.timeout(self.config.daemon.tick_seconds):
                    await self.wake.wait()
            except TimeoutError:
                pass
            else:
                await asyncio.sleep(_LEAST_BETWEEN_TICKS_SECONDS)
            self.wake.clear()
            try:
                await self.tick()
            except EnforcerError as error:
                self.publisher.failed()
                _log.warning("tick failed: %s", error)
            except Exception:  # noqa: BLE001 - a mistake of ours must not end enforcement
                self.publisher.failed()
                _log.exception("tick failed")

    async def tick(self) -> None:
        """Observe, decide, act, publish."""
        clock = self.world.clock
        waited = self.lock.locked()
        async with self.lock:
            if waited:
                # a tick may take long, and whoever held the lock has an answer to give
                await asyncio.sleep(_ANSWER_SECONDS)
            times = [clock.monotonic()]
            observed = self._observe()
            times.append(clock.monotonic())
            await self._follow(observed)
            decision = self._decider.tick(observed, self._given_now(observed))
            await self._waits.keep(decision.unfinished)
            times.append(clock.monotonic())
            await self._act(decision, observed)
            times.append(clock.monotonic())
            self._placing.placed.clear()
            spent = tuple(after - before for before, after in pairwise(times))
            self.publisher.publish(
                self.config,
                observed,
                decision,
                self.keeper,
                self.actor,
                seconds=(spent[0], spent[1], spent[2]),
            )
        self.last_tick_at = clock.monotonic()

    def _observe(self) -> Observed:
        return self._observer.observe(
            self.containers.containers, self._engine.places, self._kernel.take()
        )

    async def _follow(self, observed: Observed) -> None:
        """Let leases follow the world, as far as the ledger can be written."""
        containers = observed.containers or {}
        self.keeper.running(
            one.lease_id for one in containers.values() if one.running and one.lease_id is not None
        )
        step = follow(self.keeper.book, self.terms(), observed)
        try:
            await self.keeper.commit(*step)
            await self.keeper.account(observed)
        except UnavailableError as error:
            _log.warning("the ledger cannot be written: %s", error)
        users = self.keeper.users()
        self.rights.renew({*users, *self._kept_users})
        self._uncut.intersection_update(users)
        if any(self.rights.certain(self.config, user) for user in self._uncut):
            await self._cut_to_config()
        if self._last is None or self._last[0].cgroups.keys() != observed.cgroups.keys():
            self._leaves = [unit for unit in observed.cgroups if is_leaf(unit)]
        self._renew_totals()

    async def _act(self, decision: Decision, observed: Observed) -> None:
        if not decision.settled:
            self.actor.learn(decision.desired, decision.eased.desired, observed)
        await self.actor.carry_out(decision.actions, observed)
        await self._waits.settle(decision)

    def _renew_totals(self) -> None:
        """Reckon the totals of who has a lease, and of whose last one's leaf is still there."""
        basis = (self.keeper.book.leases, self.config, self._leaves, self.rights.told)
        if tuple(map(id, basis)) == tuple(map(id, self._totals_of)):
            return  # the very same: so it is at most ticks
        self._totals_of = basis
        live = self.keeper.book.live
        users = {lease.user for lease in live}
        ended = [one for one in self.keeper.kept(self._leaves) if one.user not in users]
        self._kept_users = frozenset(one.user for one in ended)
        self.rights.renew_totals(self.config, (*live, *ended))

    def _given_now(self, observed: Observed) -> Given:
        """Return what a tick decides upon; the very same as the last time if nothing is new."""
        if self._last is not None:
            before, given = self._last
            if (
                given.leases is self.keeper.book.leases
                and given.config is self.config
                and given.totals is self.rights.totals
                and not any(map(self._listed_since_release, self._awaited))
                and same_outline(before, observed)
            ):
                self._last = (observed, given)
                return given
        self._awaited = [unit for unit in self._leaves if not self._listed_since_release(unit)]
        given = self._given(observed)
        self._last = (observed, given)
        return given

    def _given(self, observed: Observed) -> Given:
        leaves = [unit for unit in observed.cgroups if is_leaf(unit)]
        live = {lease.unit for lease in self.keeper.book.live}
        empty = [
            unit
            for unit in leaves
            if not observed.cgroups[unit].populated and self._listed_since_release(unit)
        ]
        removable = find_removable(empty, live, observed.containers)
        return Given(
            config=self.config,
            leases=self.keeper.book.leases,
            kept=self.keeper.kept([unit for unit in leaves if unit not in removable]),
            removable=removable,
            totals=self.rights.totals,
            known=self.actor.known,
            known_containers=self.actor.known_containers,
        )

    def _listed_since_release(self, unit: UnitName) -> bool:
        """A list from before a lease's release says nothing of what names its leaf by then."""
        released_at = self.keeper.released_at(unit)
        return released_at is None or self.containers.listed_at_unix > released_at

    def terms(self) -> Terms:
        """Return what admission depends on beside the leases, as of now."""
        there = self.containers.containers
        others = without_lease(self.keeper.book.live, there, self._observer.scopes(there))
        return Terms(
            config=self.config,
            rights_of=lambda claim: self.rights.of(self.config, claim.user, claim.groups),
            containers=others,
        )

    def published(self) -> Published:
        """Return the last tick's picture, of the leases and the configuration as they are by now.

        Cheap, it never waits.

        Raises:
            UnavailableError: ``daemon.starting``: there was no tick yet.
        """
        picture = self.publisher.picture
        if picture is None:
            raise UnavailableError("daemon.starting", "the daemon is starting", "try again soon")
        # what was claimed, ended or reloaded since that tick, or PID 1 did not do, is told at once
        return replace(
            picture,
            config=self.config,
            leases=self.keeper.book.leases,
            config_error=self.config_error,
            systemd_ok=self.actor.systemd_ok,
        )

    async def place(self, lease: Lease, *, undo: bool) -> None:
        """Make the lease's slices and see them on the kernel; without that it has no lease."""
        mine = [one for one in self.keeper.book.live if one.user == lease.user]
        self.rights.renew_totals(self.config, mine, only={lease.user})
        try:
            observed = self._observer.observe_path(
                lease.unit, self.containers.containers, self._kernel.written
            )
            await self._placing.make(lease, observed, self._given(observed))
        except UnavailableError:
            if undo:
                now = self.world.clock.now()
                step = release(self.keeper.book, lease.id, EndReason.CANCELLED, now)
                await self.keeper.commit(*step)
            raise

    def check_in_force(self, lease: Lease) -> None:
        """See on the kernel what the last tick decided for a lease, but for what waits.

        Raises:
            UnavailableError: ``placement.not-in-force``: PID 1 has not done it.
        """
        picture = self.published()
        path = {*ancestors(lease.unit), lease.unit}
        mine = {unit: one for unit, one in picture.desired.slices.items() if unit in path}
        self._placing.check(lease, mine, picture.deferred)

    def slices(self) -> dict[UnitName, DesiredSlice]:
        """Return every slice as it ought to be, those of this moment's placements too."""
        return {**self.published().desired.slices, **self._placing.placed}

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Note that what never ends has ended."""
        if not task.cancelled():
            self.broken = True
            _log.error("%s has ended", task.get_name(), exc_info=task.exception())
