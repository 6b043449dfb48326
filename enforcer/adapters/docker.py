"""The port Docker: dockerd, over its socket."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from enforcer.adapters import dockerevents
from enforcer.adapters.dockerinspects import FEW, Inspects, Known, Unread
from enforcer.adapters.dockerjson import (
    CREATED,
    Inspected,
    Listed,
    parse_inspect,
    parse_list,
    update_body,
)
from enforcer.errors import UnavailableError
from enforcer.model import Container, ContainerLimits

if TYPE_CHECKING:
    from enforcer.adapters.dockerclient import DockerClient

log = logging.getLogger(__name__)

T = TypeVar("T")

_THREADS: Final = 4
_INSPECTING: Final = _THREADS - 1
"""One thread is left for the list and for updates."""
_MARGIN_SECONDS: Final = 1.0
"""The socket's timeout comes first; this is for a dockerd that sends a byte now and then."""
_KNOWN_SECONDS: Final = 300.0
"""An inspected container is looked at again after this long, whatever the events say."""
_UNREAD_SECONDS: Final = 60.0
"""One that could not be inspected is left alone for this long, unless an event tells of it."""
_OF_ONE_CONTAINER: Final = frozenset({"docker.timeout", "docker.error"})
"""What may be wrong with one container while dockerd is well."""
_STOPPED_KEPT: Final = 1000
"""More than a machine's containers: each is asked for within a tick or two."""


class DockerEngine:
    """dockerd. Every call ends within `timeout_seconds` and a little."""

    def __init__(
        self, socket: Path = Path("/run/docker.sock"), *, timeout_seconds: float = 5.0
    ) -> None:
        self._socket = socket
        self._timeout = timeout_seconds
        self._made: DockerClient | None = None
        self._making = threading.Lock()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="docker")
        self._listing = asyncio.Lock()
        self._following = False
        self._known: dict[str, Known] = {}
        self._changed: set[str] = set()
        self._unread: dict[str, Unread] = {}
        self._stopped: deque[str] = deque(maxlen=_STOPPED_KEPT)

    async def containers(self) -> Mapping[str, Container]:
        """Return every container by id, stopped ones too, without kernel fields.

        One list, and an inspect of each container that is new or changed. One that cannot be
        inspected, because something in dockerd holds it or is broken, is as it was known, or else
        as the list shows it: without parent. It says so (`unread`).

        Raises:
            UnavailableError: ``docker.unreachable``, ``docker.timeout``, ``docker.error``.
        """
        async with self._listing:
            listed = parse_list(await self._call(lambda: self._client().list()))
            for known in (self._known, self._unread):
                for container_id in [one for one in known if one not in listed]:
                    del known[container_id]
            self._changed &= listed.keys()
            found = await self._inspect_all(listed)
            return {
                container_id: found[container_id]
                for container_id in listed
                if container_id in found
            }

    async def update(self, container_id: str, limits: ContainerLimits) -> bool:
        """Set a container's own limits; False if there is no such running container.

        None takes the limit of tasks away, and leaves CPU and memory as they are. Swap without a
        limit is what dockerd then believes, but the kernel keeps the old one (measured, Docker 26).

        Raises:
            UnavailableError: as `containers`; ``docker.error`` also where Docker refuses.
        """
        inspected = await self._inspect_now(container_id)
        if inspected is None or not inspected.container.running:
            return False
        body = update_body(limits, by_quota=inspected.by_quota)
        self._changed.add(container_id)
        try:
            return await self._call(lambda: self._client().update(container_id, body))
        except UnavailableError as error:
            if error.code != "docker.error":
                raise
            # It may have ended in this moment: Docker has no error of its own for that.
            after = await self._inspect_one(container_id)
            if after is None or not after.container.running:
                return False
            raise

    async def events(self) -> AsyncIterator[str]:
        """Yield the id of a container whenever it changes; "" when all of them may have.

        Reconnects by itself. One consumer at a time: it is also what keeps `containers` cheap.
        """
        try:
            async with aclosing(dockerevents.follow(self._socket)) as events:
                async for event in events:
                    self._following = event is not None
                    container_id = "" if event is None else event.container_id
                    if not container_id:
                        self._unread.clear()
                        for one in self._known:
                            self._doubt(one)
                    self._changed.add(container_id)
                    self._unread.pop(container_id, None)
                    if event is not None:
                        if event.stops:
                            self._stopped.append(container_id)
                        elif event.action == "start" and container_id in self._stopped:
                            self._stopped.remove(container_id)
                        yield container_id
        finally:
            self._following = False

    def stopped(self) -> frozenset[str]:
        """Return the containers that somebody has stopped while the events were followed."""
        return frozenset(self._stopped)

    async def close(self) -> None:
        """End the calls under way and give the connections back."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._made is not None:
            self._made.close()

    async def _inspect_all(self, listed: Mapping[str, Listed]) -> dict[str, Container]:
        """Inspect what is not known, a few at a time.

        Where many fail, it is they if none of them runs, or another one is answered for, if need
        be when asked once more. Where several hang, the rest is left for the next time.

        Raises:
            UnavailableError: dockerd does not answer, or for no container at all.
        """
        these = self._begin(listed)
        readable = [one for one in these.found if one not in self._unread]
        count = min(_INSPECTING, len(these.waiting))
        workers = [asyncio.create_task(self._inspect_some(these)) for _ in range(count)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        failed = these.failed
        many = len(failed) > FEW and any(listed[one].container.running for one in failed)
        if many and not these.answered and not await self._answers_for(readable):
            raise next(iter(failed.values()))
        self._leave(failed, listed)
        for one in these.waiting:
            these.found[one.container.id] = self._as_listed(one, "others that were asked for hang")
        return these.found

    def _begin(self, listed: Mapping[str, Listed]) -> Inspects:
        """Tell what is known, or not to be asked for, from what is to be inspected."""
        these = Inspects()
        now = time.monotonic()
        for container_id, one in listed.items():
            known, unread = self._known.get(container_id), self._unread.get(container_id)
            if known and self._is_current(container_id, known, one.state, now):
                these.found[container_id] = known.inspected.container
            elif unread is None:
                these.waiting.append(one)
            elif now < unread.until:
                these.found[container_id] = self._as_listed(
                    one, unread.why, being_made=unread.being_made
                )
            else:
                these.waiting.appendleft(one)  # it may hang again: the others first
        return these

    async def _inspect_some(self, these: Inspects) -> None:
        while these.waiting and not these.too_slow:
            one = these.waiting.pop()
            container_id = one.container.id
            try:
                container = await self._inspect_listed(one)
            except UnavailableError as error:
                if error.code not in _OF_ONE_CONTAINER:
                    raise
                if container_id not in self._changed:
                    these.failed[container_id] = error
                # else a slow start that has ended meanwhile: it is asked for again
                self._doubt(container_id)
                being_made = self._is_being_made(one, error)
                container = self._as_listed(one, error.message, being_made=being_made)
            else:
                these.answered = True
            if container is not None:
                these.found[container_id] = container

    async def _answers_for(self, readable: Sequence[str]) -> bool:
        """Tell whether dockerd answers for a container that it has answered for before."""
        if not readable:
            return False
        try:
            await self._call(lambda: self._client().inspect(readable[0]))
        except UnavailableError:
            return False
        return True

    def _doubt(self, container_id: str) -> None:
        """Have a container inspected anew; its parent, which never changes, stays known."""
        known = self._known.get(container_id)
        if known is not None:
            self._known[container_id] = replace(known, until=-math.inf)

    def _leave(self, failed: Mapping[str, UnavailableError], listed: Mapping[str, Listed]) -> None:
        """Leave containers alone for a while."""
        until = time.monotonic() + _UNREAD_SECONDS
        for container_id, error in failed.items():
            before = self._unread.get(container_id)
            being_made = self._is_being_made(listed[container_id], error)
            if not being_made and (before is None or before.being_made):
                log.warning("container %s cannot be inspected: %s", container_id, error.message)
            self._unread[container_id] = Unread(error.message, until, being_made)

    def _is_being_made(self, one: Listed, error: UnavailableError) -> bool:
        """Tell whether dockerd may just be at work on it: it answers nothing else meanwhile.

        When it still does not a while later, that is no reason any more.
        """
        first = one.container.id not in self._unread
        return first and one.state == CREATED and error.code == "docker.timeout"

    async def _inspect_listed(self, one: Listed) -> Container | None:
        """Inspect a container; None if it has gone meanwhile."""
        container_id = one.container.id
        self._changed.discard(container_id)
        raw = await self._call(lambda: self._client().inspect(container_id))
        self._unread.pop(container_id, None)
        if raw is None:
            return None
        inspected = parse_inspect(raw, one.container)
        # What changed while it was being asked for must be asked for again.
        if self._following and container_id not in self._changed:
            until = time.monotonic() + _KNOWN_SECONDS
            self._known[container_id] = Known(inspected, one.state, until)
        return inspected.container

    async def _inspect_now(self, container_id: str) -> Inspected | None:
        """Return what is known as long as no event says otherwise: a call less for a repair."""
        now = time.monotonic()
        known, unread = self._known.get(container_id), self._unread.get(container_id)
        if known is not None and self._is_current(container_id, known, known.state, now):
            return known.inspected
        if unread is not None and now < unread.until:  # it may hang, and threads are few
            raise UnavailableError("docker.error", unread.why)
        return await self._inspect_one(container_id)

    async def _inspect_one(self, container_id: str) -> Inspected | None:
        raw = await self._call(lambda: self._client().inspect(container_id))
        nameless = Container(id=container_id, name="", image="", running=False, cgroup_parent="")
        return None if raw is None else parse_inspect(raw, nameless)

    def _is_current(self, container_id: str, known: Known, state: str, now: float) -> bool:
        return (
            self._following
            and container_id not in self._changed
            and known.state == state
            and now < known.until
        )

    def _as_listed(self, one: Listed, why: str, *, being_made: bool = False) -> Container:
        known = self._known.get(one.container.id)
        container = one.container if known is None else known.inspected.container
        running = one.container.running
        starting = being_made and not running  # it may have come up since, and no event said so
        return replace(container, running=running, unread=why, starting=starting)

    def _client(self) -> DockerClient:
        """Return the library's side, from any of the threads.

        Its import takes a sixth of the daemon's start, so it is left to the first call.
        """
        from enforcer.adapters.dockerclient import DockerClient  # noqa: PLC0415 - as just said

        with self._making:
            if self._made is None:
                self._made = DockerClient(self._socket, self._timeout)
            return self._made

    async def _call(self, call: Callable[[], T]) -> T:
        """Call something that blocks, in a thread, within bounds."""
        loop = asyncio.get_running_loop()
        try:
            return await asyncio.wait_for(
                loop.run_in_executor(self._threads, call), self._timeout + _MARGIN_SECONDS
            )
        except TimeoutError as error:
            raise UnavailableError(
                "docker.timeout", f"dockerd did not answer within {self._timeout:g} s"
            ) from error
