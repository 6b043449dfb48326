"""A client of the API for asyncio. What it returns and raises is what `enforcer.client` does."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL

from enforcer.api import calls, types
from enforcer.api.calls import Ask
from enforcer.client import (
    DEFAULT_SECONDS,
    DEFAULT_SOCKET,
    FULL_SECONDS,
    ReplyT,
    unreachable,
)
from enforcer.model import Claim, LeaseState, Resize


class AsyncClient:
    """A client for asyncio; several calls at once are fine."""

    def __init__(
        self, socket_path: str = DEFAULT_SOCKET, timeout_seconds: float = DEFAULT_SECONDS
    ) -> None:
        self._path = socket_path
        self._seconds = timeout_seconds
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the next call opens another."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def status(self) -> types.StatusReply:
        """Return how the machine and the daemon are."""
        return await self.ask(calls.status())

    async def slices(self) -> types.SlicesReply:
        """Return the slice tree."""
        return await self.ask(calls.slices())

    async def catalogue(
        self, user: str | None = None, server: str = "", groups: Sequence[str] = ()
    ) -> types.CatalogueReply:
        """Return what a user may choose from."""
        return await self.ask(calls.catalogue(user, server, groups))

    async def explain(
        self, user: str | None = None, server: str = "", groups: Sequence[str] = ()
    ) -> types.ExplainReply:
        """Return why a server has what it has."""
        return await self.ask(calls.explain(user, server, groups))

    async def leases(self, user: str | None = None) -> tuple[types.LeaseReply, ...]:
        """Return the leases that are not finished."""
        return tuple((await self.ask(calls.leases(user))).leases)

    async def lease(
        self, lease_id: str, wait_seconds: float = 0.0, state: LeaseState | None = None
    ) -> types.LeaseReply:
        """Return a lease, after `wait_seconds` or as soon as it has left `state`."""
        return await self.ask(calls.lease(lease_id, wait_seconds, state))

    async def bounds(self, lease_id: str) -> types.BoundsReply:
        """Return the most that a resize of a lease may ask for."""
        return await self.ask(calls.bounds(lease_id))

    async def history(self, lease_id: str) -> types.HistoryReply:
        """Return the last samples of a lease."""
        return await self.ask(calls.history(lease_id))

    async def receipts(
        self, user: str | None = None, limit: int = 100
    ) -> tuple[types.ReceiptReply, ...]:
        """Return the newest receipts first."""
        return tuple((await self.ask(calls.receipts(user, limit))).receipts)

    async def claim(self, wanted: Claim) -> types.LeaseReply:
        """Claim a lease; it may have to wait in the queue."""
        return await self.ask(calls.claim(wanted))

    async def resize(self, lease_id: str, change: Resize) -> types.LeaseReply:
        """Give a live lease other numbers."""
        return await self.ask(calls.resize(lease_id, change))

    async def release(self, lease_id: str) -> None:
        """End a lease; one that has ended already is fine."""
        await self.ask(calls.release(lease_id))

    async def ask(self, ask: Ask[ReplyT]) -> ReplyT:
        """Send a request, once more if the kept connection turns out to be closed."""
        until = time.monotonic() + self._seconds
        try:
            try:
                status, body = await self._send_when_heard(ask, until)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                if isinstance(error, aiohttp.ClientConnectorError):
                    raise
                status, body = await self._send_when_heard(ask, until)
        except aiohttp.ClientConnectorError as error:
            raise unreachable(self._path, error.os_error) from error
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise unreachable(self._path, error) from error
        return ask.read(status, body)

    async def _send_when_heard(self, ask: Ask[ReplyT], until: float) -> tuple[int, bytes]:
        """Send, again and again while the queue before the daemon is full; see `enforcer.client`.

        asyncio takes EAGAIN for "soon", and finds a socket that is not connected.
        """
        while True:
            try:
                return await self._send(ask)
            except aiohttp.ClientOSError as error:
                if error.errno not in {errno.EAGAIN, errno.ENOTCONN}:
                    raise
                if time.monotonic() > until:
                    raise TimeoutError from error
            await asyncio.sleep(FULL_SECONDS)

    async def _send(self, ask: Ask[ReplyT]) -> tuple[int, bytes]:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(self._path), cookie_jar=aiohttp.DummyCookieJar()
            )
        url = URL(f"http://enforcer{ask.target}", encoded=True)
        limit = aiohttp.ClientTimeout(total=self._seconds + ask.wait_seconds)
        async with self._session.request(
            ask.method, url, data=ask.body, headers=ask.all_headers, timeout=limit
        ) as answer:
            return answer.status, await answer.read()
