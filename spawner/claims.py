"""The lease of one start: claimed, waited for in the queue, and given back if it fails."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from enforcer.api.types import LeaseReply
from enforcer.asyncclient import AsyncClient
from enforcer.errors import EnforcerError, NotFoundError, RefusedError, UnavailableError
from enforcer.model import Claim, EndReason, LeaseState

_ASK_AGAIN_SECONDS: Final = 10.0
"""How old the place in line may be that is shown."""
_RESTART_SECONDS: Final = 90.0
"""How long the daemon may be away before a start that waits in its queue is given up."""
_RETRY_SECONDS: Final = 2.0
_RECEIPTS: Final = 50

_ENDED: Final = {
    EndReason.EXPIRED: ("your turn did not come in time", "try again, or ask for less"),
    EndReason.CANCELLED: ("your place in the queue was given up", "start again if you still want"),
    EndReason.REFUSED: ("what you asked for is not allowed any more", "choose again"),
}


class Holding:
    """What one start has of the daemon; `lease` as it was last told."""

    def __init__(self, client: AsyncClient, claim: Claim) -> None:
        self._client = client
        self._claim = claim
        self._asking: asyncio.Future[LeaseReply] | None = None
        self.lease: LeaseReply | None = None

    async def obtain(self, seconds: float, tell: Callable[[str], None]) -> LeaseReply:
        """Claim, and wait in the queue for at most `seconds`; `tell` gets the place in line.

        Raises:
            RefusedError: ``queue.timeout``, ``queue.ended``; and whatever the daemon answers.
        """
        # A claim that was sent may have been granted: whoever gives up has to learn of it.
        self._asking = asyncio.ensure_future(self._client.claim(self._claim))
        lease = self.lease = await asyncio.shield(self._asking)
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while lease.state is LeaseState.QUEUED:
            tell(waiting(lease))
            left = until - loop.time()
            if left <= 0:
                raise RefusedError(
                    "queue.timeout",
                    f"nothing came free in {seconds / 60:.0f} minutes",
                    "try again later, or ask for less",
                )
            lease = self.lease = await self._next(lease, min(left, _ASK_AGAIN_SECONDS), tell)
        if lease.state is LeaseState.RELEASED:
            raise await self._gone(lease.id)
        return lease

    @property
    def found(self) -> str:
        """The container that the lease has had from an earlier start; empty if there is none."""
        if self.lease is None or self.lease.state is not LeaseState.BOUND:
            return ""
        return self.lease.container_id or ""

    async def release(self) -> None:
        """Give the lease back, also one that is only now being granted.

        Raises:
            UnavailableError: the daemon does not answer; it may be tried again.
        """
        if self._asking is None:
            return
        await asyncio.wait([self._asking])
        if self._asking.cancelled() or isinstance(self._asking.exception(), UnavailableError):
            # Sent, perhaps, and perhaps granted.
            found = await lease_of(self._client, self._claim.user, self._claim.server)
            if found is not None and found.state is not LeaseState.BOUND:
                await release(self._client, found.id)
        elif self._asking.exception() is None:
            await release(self._client, self._asking.result().id)

    async def _next(
        self, lease: LeaseReply, seconds: float, tell: Callable[[str], None]
    ) -> LeaseReply:
        """Return the lease when it has moved on, or after `seconds`; a restart is waited for."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _RESTART_SECONDS
        while True:
            try:
                return await self._client.lease(lease.id, seconds, LeaseState.QUEUED)
            except NotFoundError:
                raise await self._gone(lease.id) from None
            except UnavailableError:
                if loop.time() >= until:
                    raise
            tell("Waiting in the queue: the machine's resource service is restarting")
            await asyncio.sleep(_RETRY_SECONDS)

    async def _gone(self, lease_id: str) -> EnforcerError:
        """Say why a lease ended before its turn came."""
        reason = None
        with contextlib.suppress(EnforcerError):
            receipts = await self._client.receipts(self._claim.user, _RECEIPTS)
            reason = next((one.reason for one in receipts if one.lease_id == lease_id), None)
        unknown = ("your place in the queue is gone", "try again")
        message, hint = unknown if reason is None else _ENDED.get(reason, unknown)
        return RefusedError("queue.ended", message, hint)


def waiting(lease: LeaseReply) -> str:
    """Say where a queued lease stands and what it waits for."""
    if lease.queue is None:
        return "Waiting in the queue"
    said = f"Waiting in the queue, number {lease.queue.place} in line"
    return f"{said}: {lease.queue.sentence}" if lease.queue.sentence else said


async def release(client: AsyncClient, lease_id: str) -> None:
    """Release a lease; one that is unknown has ended."""
    with contextlib.suppress(NotFoundError):
        await client.release(lease_id)


async def lease_of(client: AsyncClient, user: str, server: str) -> LeaseReply | None:
    """Return the lease a server has; without its placement."""
    leases = await client.leases(user)
    return next((one for one in leases if one.server == server), None)
