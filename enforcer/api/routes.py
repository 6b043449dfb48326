"""What each route does with the controller's operations."""

from __future__ import annotations

import re
from collections import OrderedDict
from contextlib import suppress
from dataclasses import replace
from typing import Final, Protocol

from enforcer.api import types
from enforcer.api.openapi import CONTENT_TYPE as OPENAPI_TYPE
from enforcer.api.openapi import document
from enforcer.api.overview import bounds_reply, catalogue_reply, status_reply
from enforcer.api.paths import MOST_RECEIPTS, routes
from enforcer.api.replies import (
    explain_reply,
    lease_reply,
    planned_reply,
    receipt_reply,
    sample_reply,
)
from enforcer.api.table import MOST_WAIT_SECONDS, Answer, Call
from enforcer.api.tree import slices_reply
from enforcer.catalogue import resize_bounds
from enforcer.errors import InvalidError, NotFoundError
from enforcer.explain import deferral_notes, explain
from enforcer.model import EndReason, Lease, LeaseState
from enforcer.places import find
from enforcer.ports import Operations

_USUAL_RECEIPTS: Final = 100
_REMEMBERED: Final = 4096
_LEASE_ID: Final = re.compile(r"[0-9a-f]{32}")


class MetricsPage(Protocol):
    """Where the text of the metrics comes from."""

    @property
    def content_type(self) -> str:
        """Prometheus' text format with its version."""
        ...

    async def page(self) -> bytes:
        """Return the text of the last snapshot."""
        ...


class Api:
    """What the routes do. It checks the peer; the operations do the rest."""

    def __init__(self, operations: Operations, metrics: MetricsPage) -> None:
        self._operations = operations
        self._metrics = metrics
        self._ended: OrderedDict[str, str] = OrderedDict()
        """Leases ended through here, and their users: to end one again is no mistake."""
        self.routes: Final = routes(self)
        self._document: Final = document(self.routes)

    async def openapi(self, _: Call) -> Answer:
        """Answer this API's description."""
        return Answer(status=200, reply=self._document, content_type=OPENAPI_TYPE)

    async def metrics(self, call: Call) -> Answer:
        """Answer the metrics, which tell of every user."""
        call.peer.check_privileged("read the metrics", "GET /v1/slices tells of what is your own")
        text = await self._metrics.page()
        return Answer(status=200, reply=text, content_type=self._metrics.content_type)

    async def status(self, call: Call) -> Answer:
        """Answer how the machine and the daemon are."""
        published = self._operations.published()
        mine = self._list(call.peer.name)
        return Answer(status=200, reply=status_reply(published, call.peer, mine))

    async def slices(self, call: Call) -> Answer:
        """Answer the slice tree."""
        return Answer(status=200, reply=slices_reply(self._operations.published(), call.peer))

    async def catalogue(self, call: Call) -> Answer:
        """Answer what a user may choose from."""
        user = call.user()
        rights = await self._operations.rights(user, call.groups())
        reply = catalogue_reply(self._operations.published(), rights, call.server())
        return Answer(status=200, reply=reply)

    async def claim(self, call: Call) -> Answer:
        """Claim a lease."""
        body = call.body
        assert isinstance(body, types.ClaimRequest)  # noqa: S101 - the table says so
        call.peer.check_acts_for(body.user)
        if body.groups:
            call.peer.check_privileged("name groups")
        lease, new = await self._operations.claim(body.claim())
        status = 202 if lease.state is LeaseState.QUEUED else 201 if new else 200
        return Answer(status=status, reply=self._tell(lease))

    async def leases(self, call: Call) -> Answer:
        """Answer the leases the peer may see."""
        whose = None if call.peer.privileged and "user" not in call.once else call.user()
        return Answer(status=200, reply=types.LeasesReply(leases=self._list(whose)))

    async def lease(self, call: Call) -> Answer:
        """Answer one lease, at once or when it has left a state."""
        lease = self._find(call)
        seconds = call.number("wait_seconds", 0.0, MOST_WAIT_SECONDS)
        state = _state(call.once.get("state"), lease.state)
        if lease.state is LeaseState.PENDING:
            # its turn in the queue may have come just now: what is answered is in force
            lease = await self._operations.wait(lease.id, LeaseState.QUEUED, 0.0)
        if seconds and lease.state is state:
            lease = await self._operations.wait(lease.id, state, seconds)
        return Answer(status=200, reply=self._tell(lease))

    async def resize(self, call: Call) -> Answer:
        """Give a lease other numbers."""
        body = call.body
        assert isinstance(body, types.ResizeRequest)  # noqa: S101 - the table says so
        lease = await self._operations.resize(self._find(call).id, body.resize())
        return Answer(status=200, reply=self._tell(lease))

    async def bounds(self, call: Call) -> Answer:
        """Answer the most that a resize of a lease may ask for."""
        lease = self._find(call)
        rights = await self._operations.rights(lease.user, lease.claim.groups)
        config = self._operations.published().config
        lease = self._find(call)  # it may have ended meanwhile, or been cut by a reload
        return Answer(status=200, reply=bounds_reply(resize_bounds(config, rights, lease)))

    async def release(self, call: Call) -> Answer:
        """End a lease; one that has ended already is fine.

        A container that runs on without a lease counts against nobody's total, so only root and the
        hub, who remove containers, end that of one that runs.
        """
        try:
            lease = self._find(call)
        except NotFoundError:
            if await self._had(call, call.path["lease_id"]):
                return Answer(status=204)
            raise
        bound = lease.state is LeaseState.BOUND
        await self._operations.release(
            lease.id,
            EndReason.STOPPED if bound else EndReason.CANCELLED,
            unless_running=not call.peer.privileged,
        )
        self._ended[lease.id] = lease.user
        if len(self._ended) > _REMEMBERED:
            self._ended.popitem(last=False)
        return Answer(status=204)

    async def history(self, call: Call) -> Answer:
        """Answer the last samples of a lease, for a while after its end too."""
        daemon, lease_id = self._operations.published().config.daemon, call.path["lease_id"]
        found = None
        if _LEASE_ID.fullmatch(lease_id):
            with suppress(NotFoundError):
                found = self._operations.history(lease_id)
        if found is None or not call.peer.may_act_for(found.user):
            raise _not_found(
                lease_id,
                f"samples are kept for {daemon.history_seconds:g} s after its end, and lost when"
                " the daemon starts anew; GET /v1/receipts tells what it came to",
            )
        reply = types.HistoryReply(
            lease_id=lease_id,
            ended=found.ended,
            tick_seconds=daemon.tick_seconds,
            samples=[sample_reply(*one) for one in found.samples],
        )
        return Answer(status=200, reply=reply)

    async def receipts(self, call: Call) -> Answer:
        """Answer the receipts the peer may see."""
        whose = None if call.peer.privileged and "user" not in call.once else call.user()
        limit = int(call.number("limit", _USUAL_RECEIPTS, MOST_RECEIPTS))
        found = await self._operations.receipts(whose, limit)
        reply = types.ReceiptsReply(receipts=[receipt_reply(one) for one in found])
        return Answer(status=200, reply=reply)

    async def explain(self, call: Call) -> Answer:
        """Answer why a server has what it has; no group named: in those it was claimed with."""
        user, server, groups = call.user(), call.server(), call.groups()
        found = find(self._operations.published().leases, user, server)
        if found is not None and not groups:
            groups = found.claim.groups
        rights = await self._operations.rights(user, groups)
        told = explain(self._operations.published(), rights, user, server)
        lease = None if told.lease is None else self._tell(told.lease, placed=False)
        return Answer(status=200, reply=explain_reply(told, lease))

    async def reload(self, call: Call) -> Answer:
        """Read the configuration again."""
        call.peer.check_root("reload the configuration")
        changes = await self._operations.reload()
        return Answer(status=200, reply=types.ReloadReply(changes=list(changes)))

    async def plan(self, call: Call) -> Answer:
        """Answer what a configuration would change."""
        call.peer.check_root("plan a configuration")
        assert isinstance(call.body, str)  # noqa: S101 - the table says so
        changes = self._operations.plan(call.body)
        reply = types.PlanReply(changes=[planned_reply(one) for one in changes])
        return Answer(status=200, reply=reply)

    def _find(self, call: Call) -> Lease:
        """Return the lease of the path; another's is answered like one that is not there."""
        lease_id = call.path["lease_id"]
        if _LEASE_ID.fullmatch(lease_id):
            # another's is answered in the very words of one that is not there
            with suppress(NotFoundError):
                lease = self._operations.lease(lease_id)
                if call.peer.may_act_for(lease.user):
                    return lease
        raise _not_found(
            lease_id, "GET /v1/leases lists those there are, GET /v1/receipts those that ended"
        )

    async def _had(self, call: Call, lease_id: str) -> bool:
        """Tell whether a lease has ended that was the peer's to end."""
        user = self._ended.get(lease_id)
        if user is not None:
            return call.peer.may_act_for(user)
        if not _LEASE_ID.fullmatch(lease_id):
            return False
        whose = None if call.peer.privileged else call.peer.name
        receipts = await self._operations.receipts(whose, MOST_RECEIPTS)
        return any(one.lease_id == lease_id for one in receipts)

    def _list(self, user: str | None) -> list[types.LeaseReply]:
        """Tell of the leases of one user or of all, without where their containers go."""
        told = []
        for one in self._operations.published().leases:
            if user is not None and one.user != user:
                continue
            with suppress(NotFoundError):  # it has ended since that tick
                told.append(self._tell(self._operations.lease(one.id), placed=False))
        return told

    def _tell(self, lease: Lease, *, placed: bool = True) -> types.LeaseReply:
        operations = self._operations
        queued = lease.state is LeaseState.QUEUED
        published = operations.published()
        used = published.rates.get(lease.unit) if lease.live else None
        return lease_reply(
            replace(lease, notes=(*lease.notes, *deferral_notes(published, lease))),
            usage=None if used is None else (published.rates_at, used),
            placement=operations.placement(lease) if lease.live and placed else None,
            queue=operations.queue_place(lease) if queued else None,
        )


def _not_found(lease_id: str, hint: str) -> NotFoundError:
    """Make what is answered for another's lease too: nothing is to be learned from it."""
    text = ascii(lease_id)[1:-1][:40]
    return NotFoundError("lease.not-found", f"there is no lease {text}", hint)


def _state(text: str | None, default: LeaseState) -> LeaseState:
    if text is None:
        return default
    try:
        return LeaseState(text)
    except ValueError:
        known = ", ".join(LeaseState)
        raise InvalidError(
            "query.invalid", f"{ascii(text)[:60]} is no state of a lease", f"write one of {known}"
        ) from None
