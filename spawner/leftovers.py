"""What could not be put away at once: tried again until it can, while the hub goes on.

A start that was cancelled must let the hub go at once, and a dockerd or a daemon that is down comes
back one day. Until then the container, by its name, is known to be in the way.

What Docker was asked to make and said nothing of may appear when all else is put away: that is
looked out for, and is in nobody's way.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from enforcer.api.types import LeaseReply
from enforcer.asyncclient import AsyncClient
from enforcer.errors import ForbiddenError, InvalidError, NotFoundError, UnavailableError
from enforcer.model import LEASE_LABEL, LeaseState
from spawner import engine as docker_engine
from spawner.claims import Holding, lease_of, release
from spawner.engine import Engine, Lane

Work = Callable[[], Awaitable[None]]
Look = Callable[[], Awaitable[bool]]

_FIRST_PAUSE_SECONDS: Final = 2.0
_LONGEST_PAUSE_SECONDS: Final = 60.0
_LOOK_AFTER_SECONDS: Final = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
"""A dockerd that is slow makes what it was asked for within two minutes, or hardly at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """What a server may have left behind.

    container: its id, or its name if that is all that is known; empty: there is none to remove.
    lease_id: empty if it is not known. holding: of a start. jobs: calls to Docker that are under
    way. died: the container ended by itself, so the daemon is to say why, and ends the lease
    itself.
    """

    user: str
    server: str
    container: str
    lease_id: str = ""
    holding: Holding | None = None
    jobs: tuple[asyncio.Future[object], ...] = ()
    creation: asyncio.Future[object] | None = None
    died: bool = False

    @property
    def known_lease(self) -> str:
        """The lease's id, as far as it is known."""
        if self.lease_id or self.holding is None or self.holding.lease is None:
            return self.lease_id
        return self.holding.lease.id

    @property
    def may_come_late(self) -> bool:
        """Whether Docker was asked for a container and never said what became of it."""
        if self.creation is None or not self.creation.done() or self.creation.cancelled():
            return False
        error = self.creation.exception()
        known = None if error is None else docker_engine.ours(error)
        return known is not None and known.code in docker_engine.NO_ANSWER


async def put_away(engine: Engine, client: AsyncClient, remains: Remains) -> None:
    """Remove the container, then release the lease. Safe to do again.

    Raises:
        Whatever Docker or the daemon answers, when it is not done. The lease stays then, since
        Docker may yet start what it was asked to; if it does not, the daemon lets it expire.
    """
    if remains.jobs:
        await asyncio.wait(remains.jobs)
    if remains.container:
        await remove(engine, remains.container)
    await _release(client, remains)


async def remove(engine: Engine, container: str) -> None:
    """Remove a container, running or not; one that is not there is fine.

    Raises:
        UnavailableError: ``docker.busy``: another call is removing it, and may yet fail.
    """
    try:
        await engine.call(Lane.CALLS, "remove_container", container, force=True, v=True)
    except Exception as error:
        if docker_engine.is_taken(error):
            raise busy("your last server is still being removed") from error
        if not docker_engine.is_gone(error):
            raise


def busy(message: str) -> UnavailableError:
    """Say, for the user, that something of the last server is in the way."""
    hint = "try again in a minute, and tell the admin if it stays so"
    return UnavailableError("docker.busy", message, hint)


async def remove_unstarted(engine: Engine, name: str, lease_id: str) -> bool:
    """Remove the container that was made for a lease, if it was never started.

    Tell whether that is all: it was there, or the name is another's by now.
    """
    try:
        found = await engine.call(Lane.POLLS, "inspect_container", name)
    except Exception as error:
        if docker_engine.is_gone(error):
            return False
        raise
    labels = found["Config"].get("Labels") or {}
    if labels.get(LEASE_LABEL) != lease_id or found["State"].get("Status") != "created":
        return True
    try:
        # By its id, so it is no other's; and not by force, so Docker keeps it if it runs by now.
        await engine.call(Lane.CALLS, "remove_container", found["Id"], v=True)
    except Exception as error:
        if not docker_engine.is_gone(error):
            raise
    return True


async def _release(client: AsyncClient, remains: Remains) -> None:
    if remains.holding is not None:
        await remains.holding.release()
        return
    found = await _lease(client, remains)
    if found is not None and not (remains.died and found.state is LeaseState.BOUND):
        await release(client, found.id)


async def _lease(client: AsyncClient, remains: Remains) -> LeaseReply | None:
    if not remains.known_lease:
        return await lease_of(client, remains.user, remains.server)
    try:
        return await client.lease(remains.known_lease)
    except NotFoundError:
        return None


class Leftovers:
    """Work that is under way, one piece for each container name."""

    def __init__(self, log: logging.Logger | logging.LoggerAdapter[logging.Logger]) -> None:
        self._log = log
        self._tasks: dict[str, asyncio.Task[None]] = {}
        """The last one of each name; it waits for those before it."""
        self._running: set[asyncio.Task[None]] = set()
        self._hurry = asyncio.Event()

    def pending(self, name: str) -> bool:
        """Tell whether there is something left of this container."""
        return name in self._tasks

    def add(self, name: str, work: Work) -> None:
        """Begin to put something away; what is under way for the same name is done first."""
        before = self._tasks.get(name)
        task = asyncio.create_task(self._until_done(name, work, before), name=f"put away {name}")
        self._tasks[name] = task
        self._running.add(task)
        task.add_done_callback(lambda done: self._forget(name, done))

    async def settle(self, name: str, seconds: float) -> bool:
        """Have it tried again now, and wait at most so long; tell whether nothing is left."""
        task = self._tasks.get(name)
        if task is None:
            return True
        self._hurry.set()
        self._hurry = asyncio.Event()
        await asyncio.wait([task], timeout=seconds)
        return task.done()

    def look_out(self, name: str, look: Look) -> None:
        """Look for a container that may come late, now and then, until `look` says that it is done.

        Nobody waits for it: a new start may go on meanwhile.
        """
        task = asyncio.create_task(self._until_seen(name, look), name=f"look out for {name}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """Give up on everything."""
        tasks = tuple(self._running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _until_done(self, name: str, work: Work, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                await work()
            except (InvalidError, ForbiddenError) as error:
                # The daemon would not have granted a lease to begin with.
                self._log.error("%s cannot be put away: %s", name, error)
                return
            except Exception as error:  # noqa: BLE001 - whatever is in the way may go away
                self._log.warning("%s is not put away yet: %s", name, error)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._hurry.wait(), pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                return

    async def _until_seen(self, name: str, look: Look) -> None:
        for pause in _LOOK_AFTER_SECONDS:
            await asyncio.sleep(pause)
            try:
                if await look():
                    return
            except Exception as error:  # noqa: BLE001 - the next look may do better
                self._log.warning("%s may have been made late: %s", name, error)

    def _forget(self, name: str, done: asyncio.Task[None]) -> None:
        self._running.discard(done)
        if self._tasks.get(name) is done:
            del self._tasks[name]
        with contextlib.suppress(asyncio.CancelledError):
            done.exception()
