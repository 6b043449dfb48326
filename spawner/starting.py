"""A start: options checked, image there, lease granted, container running; or nothing is left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final

from enforcer.api.types import LeaseReply, ReceiptReply
from enforcer.errors import (
    ConflictError,
    EnforcerError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from enforcer.model import EndReason, LeaseState
from spawner import engine as docker_engine
from spawner.asking import AskingSpawner
from spawner.claims import Holding, lease_of, release
from spawner.endings import ending, receipt_of
from spawner.engine import Lane
from spawner.homes import Account, find_account
from spawner.leftovers import Remains, busy, put_away, remove, remove_unstarted
from spawner.options import Wanted
from spawner.progress import Progress
from spawner.refusals import StartRefused, refusal

_RECEIPT_SECONDS: Final = 20.0
"""Longer than the daemon waits for a container to come back."""
_QUICK_RECEIPT_SECONDS: Final = 2.0
_SHARE: Final = 0.9
_LAST_LINES: Final = 20
_ATTEMPTS: Final = 3
"""How often what an earlier start left is put away, before a claim is given up."""


class StartingSpawner(AskingSpawner):
    """Everything from the request for a server to its address."""

    def __init__(self, **named: Any) -> None:  # noqa: ANN401 - traits
        self._steps = Progress()
        self._holding: Holding | None = None
        self._starting = False
        self._until = 0.0
        super().__init__(**named)

    async def start(self) -> tuple[str, int]:
        """Start the server; return where it listens.

        A start that fails or is cancelled, wherever it stands, leaves neither lease nor container.

        Raises:
            StartRefused: with a sentence for the user, and the details for the log.
        """
        self._steps.begin()
        self._until = asyncio.get_running_loop().time() + self.start_timeout
        self._starting, self._creation, self._holding = True, None, None
        try:
            return await self._start()
        except asyncio.CancelledError:
            # The hub waits a second for this, no longer: what is left is put away behind its back.
            self._give_up()
            raise
        except Exception as error:
            explained = self._explained(error)
            self._give_up()
            self.tidy = await self.backends.leftovers.settle(self.object_name, self.cleanup_timeout)
            raise explained from error
        finally:
            self._starting = False
            self._steps.end()

    async def progress(self) -> AsyncIterator[dict[str, object]]:
        """Yield what the start has to say."""
        async for event in self._steps.follow():
            yield event

    async def _start(self) -> tuple[str, int]:
        # Again, although apply_user_options did: the admin's own hooks come in between.
        offered, self.offered = self.offered or await self.offers(), None
        wanted = self.checked(self.user_options, offered)
        self.image = wanted.reference  # the container may be named after it
        await self._look_up_account(offered.home)
        await self._wait_for_the_last_one()
        await self.fetch_image(wanted.reference, self._at_most(self.pull_timeout), self._teller(10))
        if await self.clear_the_way():
            await self._release_old(None)
        lease = self.lease = await self._claim(wanted)
        for note in lease.notes:
            self._steps.tell(60, note)
        # The policy may have been changed since.
        await self._look_up_account(None if lease.placement is None else lease.placement.home)
        self._steps.tell(65, lease.sentence)
        self._steps.tell(70, "Starting the container")
        address = await self._place(lease)
        await self._confirm(lease)
        self._steps.tell(90, "The container runs; waiting for the server in it")
        return address

    async def _claim(self, wanted: Wanted) -> LeaseReply:
        """Claim a lease; one that has its container already is of a start the hub has forgotten."""
        claim = wanted.claim(self.user.name, self.name, self.group_names())
        self._steps.tell(20, "Asking for room on the machine")
        for _ in range(_ATTEMPTS):
            self._holding, self.tidy = Holding(self.backends.client, claim), False
            try:
                seconds = self._at_most(self.queue_timeout)
                lease = await self._holding.obtain(seconds, self._teller(40))
            except ConflictError as error:
                if error.code != "lease.bound":
                    raise
                await self._release_old(await self._old_lease())
                continue
            if lease.state is LeaseState.PENDING:
                return lease
            await self._release_old(lease)
        raise RefusedError(
            "lease.bound", "your last server is still being stopped", "try again in a minute"
        )

    async def _old_lease(self) -> LeaseReply | None:
        return await lease_of(self.backends.client, self.user.name, self.name)

    async def _release_old(self, lease: LeaseReply | None) -> None:
        """Put away what an earlier start of this server left with the daemon."""
        found = lease or await self._old_lease()
        if found is None or found.state is not LeaseState.BOUND:
            return  # one that waits is this server's to claim again
        client = self.backends.client
        if found.deadline is not None:
            # Its container has gone by itself, and the daemon is about to say why.
            self._steps.tell(20, "Waiting until your last server is accounted for")
            if await receipt_of(client, self.user.name, found.id, _RECEIPT_SECONDS) is not None:
                return
        self.log.warning("releasing lease %s, left by an earlier start", found.id)
        if found.container_id:
            await remove(self.backends.engine, found.container_id)
        await release(client, found.id)

    async def _wait_for_the_last_one(self) -> None:
        """Wait until nothing is left of the server that this one takes the place of."""
        leftovers = self.backends.leftovers
        if leftovers.pending(self.object_name):
            self._steps.tell(5, "Waiting until your last server is removed")
        if not await leftovers.settle(self.object_name, self.docker_timeout):
            raise busy("your last server could not be removed yet")
        self.tidy = True

    async def _look_up_account(self, home: str | None) -> None:
        """Find out whom the server runs as; without a home the image decides.

        A hook may have set user_id; otherwise the host is asked each time, as ids do change.
        """
        if self.user_id >= 0:
            self.account = Account(self.user_id, self.group_id).checked()
        elif home and self.account is None:
            self.account = await find_account(self.user.name)

    async def _place(self, lease: LeaseReply) -> tuple[str, int]:
        try:
            return await self.place_container()
        except RuntimeError as error:
            # DockerSpawner's: it has no address, as a container that has ended has none.
            if not self.object_id:
                raise
            raise await self._why_no_address(lease) from error

    async def _why_no_address(self, lease: LeaseReply) -> EnforcerError:
        found = await self.docker("inspect_container", self.object_id)
        if found["State"]["Running"]:
            return UnavailableError(
                "docker.settings",
                "the container runs, but Docker has published no port of it",
                "tell the admin: network_name or use_internal_ip may not suit",
            )
        client = self.backends.client
        receipt = await receipt_of(client, self.user.name, lease.id, _QUICK_RECEIPT_SECONDS)
        return await self._ended_at_once(receipt, found["State"])

    async def _confirm(self, lease: LeaseReply) -> None:
        """See that the lease holds still: a start that took too long has lost it."""
        try:
            await self.backends.client.lease(lease.id)
        except NotFoundError:
            raise await self._why_lost(lease) from None
        except UnavailableError as error:
            # The limits are in the kernel by now, with or without the daemon.
            self.log.warning("the lease of %s could not be confirmed: %s", self._log_name, error)

    async def _why_lost(self, lease: LeaseReply) -> RefusedError:
        client = self.backends.client
        receipt = await receipt_of(client, self.user.name, lease.id, 0)
        if receipt is None or receipt.reason is EndReason.EXPIRED:
            return RefusedError(
                "lease.expired",
                "starting the container took longer than its place was kept",
                "try again",
            )
        return await self._ended_at_once(receipt, None)

    async def _ended_at_once(
        self, receipt: ReceiptReply | None, state: Mapping[str, object] | None
    ) -> RefusedError:
        await self.log_last_words()
        return RefusedError(
            "server.ended", ending(receipt, state), "tell the admin if it does again"
        )

    async def log_last_words(self) -> None:
        """Keep for the admin what the container said last: it is about to be removed."""
        container = self.object_id or self.object_name
        try:
            said = await self.backends.engine.call(Lane.POLLS, "logs", container, tail=_LAST_LINES)
        except Exception as error:
            if docker_engine.ours(error) is None:
                raise
            return
        text = said.decode(errors="backslashreplace")
        self.log.warning("the last words of %s:\n%s", self._log_name, text)

    def _give_up(self) -> None:
        """Begin to put away what a start has made so far."""
        if self._holding is not None:
            made = "" if self._creation is None else self.object_id or self.object_name
            remains = Remains(
                user=self.user.name,
                server=self.name,
                container=made or self._holding.found,
                holding=self._holding,
                jobs=tuple(self._jobs),
                creation=self._creation,
            )
            self.put_away_later(remains)
        self._holding = self._creation = None
        self.forget_placement()

    def put_away_later(self, remains: Remains) -> None:
        """Have something put away, now or when Docker and the daemon answer again."""
        backends, name = self.backends, self.object_name

        async def look() -> bool:
            return await remove_unstarted(backends.engine, name, remains.known_lease)

        async def work() -> None:
            await put_away(backends.engine, backends.client, remains)
            if remains.may_come_late:
                backends.leftovers.look_out(name, look)

        backends.leftovers.add(name, work)

    def _explained(self, error: Exception) -> Exception:
        """Return what the hub is to raise: a sentence for the user where there is one."""
        if isinstance(error, StartRefused):
            return error
        path = docker_engine.missing_path(error)
        if path is not None:
            return self._missing(path)
        ours = docker_engine.ours(error)
        return error if ours is None else refusal(ours, self.texts())

    def _missing(self, path: str) -> StartRefused:
        if path == self.homedir:
            text, what, key = self.home_missing_text, "home", "host_homedir_format_string"
        else:
            text, what, key = self.shared_missing_text, "shared directory", "volumes_ro"
        return StartRefused(
            text.replace("{path}", path),
            reason="directory.missing",
            status_code=409,
            details=f"the {what} {path} of {self.user.name} does not exist on this host, or is not"
            f" mounted: make it, or mend {key} in enforcer.toml",
        )

    def _teller(self, percent: int) -> Callable[[str], None]:
        """Return what says how far a wait is, each time in place of the last."""

        def tell(text: str) -> None:
            self._steps.tell(percent, text, f"{percent}")

        return tell

    def _at_most(self, seconds: float) -> float:
        """Return how long to wait: not so long that start_timeout ends the start without a word."""
        left = self._until - asyncio.get_running_loop().time()
        return min(seconds, max(0.0, _SHARE * left))
