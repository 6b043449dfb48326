"""Connections: taken from a listening socket, counted, and closed when they dawdle.

aiohttp bounds neither the number of connections nor the time a peer takes for its header. So the
door accepts by itself, and between each transport and aiohttp's protocol stands a guard.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from enforcer.api.problems import CONTENT_TYPE, problem

NOBODY: Final = -1
"""The uid of a peer that is not asked for one: TCP."""

_EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_PAUSE_SECONDS: Final = 0.1
_LOBBY_SECONDS: Final = 1.0
_MOST_IN_LOBBY: Final = 128

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How many connections, and how long each may be silent, in seconds.

    reserved: of the `total`, so many are for root and the hub alone.
    """

    total: int = 256
    per_uid: int = 32
    reserved: int = 64
    header_seconds: float = 10.0
    idle_seconds: float = 60.0


class Register:
    """Counts connections, by uid. root and the hub are exempt from all but the total."""

    def __init__(self, bounds: Bounds, exempt: Callable[[int], bool]) -> None:
        self.bounds = bounds
        self._exempt = exempt
        self._by_uid: Counter[int] = Counter()
        self.refused = 0

    @property
    def total(self) -> int:
        """How many there are."""
        return self._by_uid.total()

    def enter(self, uid: int) -> bool:
        """Take a place; False if there is none."""
        bounds = self.bounds
        most = bounds.total
        allowed = True
        if not self._exempt(uid):
            most -= bounds.reserved
            allowed = self._by_uid[uid] < bounds.per_uid
        if not allowed or self.total >= most:
            self.refused += 1
            return False
        self._by_uid[uid] += 1
        return True

    def leave(self, uid: int) -> None:
        """Give a place back."""
        self._by_uid[uid] -= 1
        if self._by_uid[uid] <= 0:
            del self._by_uid[uid]


class Guard(asyncio.Protocol):
    """Stands before aiohttp's protocol: closes a silent connection, gives its place back.

    The place is kept while a request of it is still being answered: who hangs up in the middle and
    calls again gets no second place.
    """

    def __init__(
        self, uid: int, inner: asyncio.Protocol, bounds: Bounds, leave: Callable[[int], None]
    ) -> None:
        self.uid = uid
        self._inner = inner
        self._bounds = bounds
        self._leave = leave
        self._transport: asyncio.BaseTransport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._active = 0
        self._idle = False
        self._gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: the first header has to come in time."""
        self._transport = transport
        self._inner.connection_made(transport)
        self._close_after(self._bounds.header_seconds)

    def data_received(self, data: bytes) -> None:
        """Pass on; the first byte after a pause begins a header."""
        if self._idle:
            self._idle = False
            self._close_after(self._bounds.header_seconds)
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass on."""
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        """Pass on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass on."""
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._stop_timer()
        self._transport = None
        self._gone = True
        self._inner.connection_lost(exc)
        if not self._active:
            self._leave(self.uid)

    def begin(self) -> None:
        """Note that a whole header is there and its request is being answered."""
        self._active += 1
        self._idle = False
        self._stop_timer()

    def end(self) -> None:
        """Note that the answer has been made; the next header may take its time to begin."""
        self._active -= 1
        if self._gone:
            if not self._active:
                self._leave(self.uid)
        else:
            self._idle = True
            self._close_after(self._bounds.idle_seconds)

    def _close_after(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self) -> None:
        # abort, not close: who reads nothing would hold a transport that waits to be drained
        if isinstance(self._transport, asyncio.WriteTransport):
            self._transport.abort()


class Door:
    """Accepts from one listening socket for as long as it is open. It owns the socket."""

    def __init__(
        self,
        listener: socket.socket,
        make_inner: Callable[[], asyncio.Protocol],
        register: Register,
        uid_of: Callable[[socket.socket], int] = lambda _: NOBODY,
    ) -> None:
        self._listener = listener
        self._make_inner = make_inner
        self._register = register
        self._uid_of = uid_of
        self._task: asyncio.Task[None] | None = None
        self._lobby: dict[socket.socket, asyncio.TimerHandle] = {}

    def open(self) -> None:
        """Begin to accept."""
        self._listener.setblocking(False)
        self._task = asyncio.create_task(self._accept_all(), name="api-accept")

    async def close(self) -> None:
        """Accept no more; connections that are there stay."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        for connection in tuple(self._lobby):
            self._forget(connection)
        self._listener.close()

    async def _accept_all(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except OSError as error:
                # ECONNABORTED: it hung up in the queue; no descriptors: others will close theirs
                if error.errno in _EXHAUSTED:
                    _log.warning("cannot accept a connection: %s", error)
                    await asyncio.sleep(_PAUSE_SECONDS)
                elif error.errno != errno.ECONNABORTED:
                    raise
                continue
            try:
                await self._take(connection)
            except Exception:  # noqa: BLE001 - one connection's trouble must not shut the door
                _log.exception("cannot take a connection")
                connection.close()
            # where the next one waits already, accepting it does not give way to anybody: a crowd
            # that comes again as fast as it is turned away would be all that the daemon does
            await asyncio.sleep(0)

    async def _take(self, connection: socket.socket) -> None:
        try:
            uid = self._uid_of(connection)
        except OSError:
            connection.close()  # gone already
            return
        if not self._register.enter(uid):
            self._turn_away(connection)
            return
        guard = Guard(uid, self._make_inner(), self._register.bounds, self._register.leave)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: guard, connection)
        except OSError:
            connection.close()
            self._register.leave(uid)

    def _turn_away(self, connection: socket.socket) -> None:
        """Say why, and hang up a little later.

        At once, the peer's request would find nobody, and its error would hide what was said.
        """
        with suppress(OSError):  # it has hung up itself, or does not read
            connection.setblocking(False)
            connection.send(_too_many())
            connection.shutdown(socket.SHUT_WR)
        if len(self._lobby) >= _MOST_IN_LOBBY:
            self._forget(next(iter(self._lobby)))  # it had the most time to read
        later = asyncio.get_running_loop().call_later(_LOBBY_SECONDS, self._forget, connection)
        self._lobby[connection] = later

    def _forget(self, connection: socket.socket) -> None:
        self._lobby.pop(connection).cancel()
        connection.close()


def _too_many() -> bytes:
    said = problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "connections.too-many",
        "too many connections are open",
        "close some, or use one for several requests",
    )
    body = said.model_dump_json().encode()
    head = (
        f"HTTP/1.1 503 {HTTPStatus.SERVICE_UNAVAILABLE.phrase}\r\n"
        f"Content-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n"
        "Retry-After: 2\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
