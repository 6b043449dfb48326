"""The pages, and the JSON behind them."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

from pydantic import Field

from enforcer.api.types import LeaseReply, Request, ResizeRequest
from enforcer.errors import EnforcerError, ForbiddenError, NotFoundError
from spawner.pages import hub, overview, told
from spawner.pages.documents import ChartsDocument, LeaseDocument, MineDocument, ServerDocument
from spawner.pages.handlers import Endpoint, Page

_RECEIPTS: Final = 20
_ADMIN_RECEIPTS: Final = 100
_USUAL_TICK_SECONDS: Final = 2.0


class MachinePage(Page):
    """The machine, for everyone."""

    async def get(self) -> None:
        """Answer the page."""
        self.render_view("machine.html")


class AdminPage(Page):
    """Everyone, for admins."""

    async def get(self) -> None:
        """Answer the page, or say that it is for admins."""
        if not self.person.admin:
            self.set_status(403)
            self.render_view("error.html", status=403, message="This page is for the hub's admins.")
            return
        self.render_view("admin.html")


class NoPage(Page):
    """Any other address."""

    async def get(self) -> None:
        """Answer that there is nothing."""
        self.send_error(404)


class NoEndpoint(Endpoint):
    """Any other address below api/."""

    async def get(self) -> None:
        """Answer that there is nothing."""
        self.send_error(404)


class _ServerEndpoint(Endpoint):
    """What tells of servers."""

    async def server(self, lease: LeaseReply, since: float) -> tuple[ServerDocument, float]:
        """Return a server with its samples after `since`, and how many seconds a tick has.

        Raises:
            NotFoundError: it has ended since.
        """
        client, named = self.service.client, lease.user != self.person.name
        history = await client.history(lease.id)
        why = await client.explain(lease.user, lease.server)
        if why.lease is None or why.lease.id != lease.id:
            raise NotFoundError("lease.not-found", "the server has ended", "its receipt tells why")
        found = told.server(lease, history.samples, why, since, named=named)
        return found, history.tick_seconds


class Mine(_ServerEndpoint):
    """The user's own servers."""

    async def get(self) -> None:
        """Answer them, with the samples after ``?since=``."""
        client, user, since = self.service.client, self.person.name, self.since()
        status = await client.status()
        leases = await client.leases(user)
        receipts = await client.receipts(user, _RECEIPTS)
        servers = [self._running(one, since) for one in leases if one.user == user]
        found = [one for one in await asyncio.gather(*servers) if one is not None]
        self.reply(
            MineDocument(
                at=status.at,
                tick_seconds=next((seconds for _, seconds in found), _USUAL_TICK_SECONDS),
                servers=[one for one, _ in found],
                receipts=[told.receipt(one) for one in receipts if one.user == user],
            )
        )

    async def _running(
        self, lease: LeaseReply, since: float
    ) -> tuple[ServerDocument, float] | None:
        try:
            return await self.server(lease, since)
        except NotFoundError:  # it has ended since
            return None


class Catalogue(Endpoint):
    """What fits now."""

    async def get(self) -> None:
        """Answer it for the user's server ``?server=``."""
        person, client = self.person, self.service.client
        server = self.get_query_argument("server", "")
        found = await client.catalogue(person.name, server, person.groups)
        status = await client.status()
        since = self.service.waits.look(found, server, status.at)
        self.reply(told.catalogue(found, status, since))


class _LeaseEndpoint(Endpoint):
    """What tells of one lease: the user's own, or anybody's for an admin."""

    async def find(self, lease_id: str) -> LeaseReply:
        """Return the lease; another's is answered like one that is not there.

        Raises:
            NotFoundError: ``lease.not-found``.
        """
        try:
            lease = await self.service.client.lease(lease_id)
        except NotFoundError:
            lease = None
        if lease is None or not (lease.user == self.person.name or self.person.admin):
            # in the same words, whatever the daemon's are: nothing is to be learned from them
            raise NotFoundError("lease.not-found", "there is no such lease", "it may have ended")
        return lease.model_copy(update={"placement": None})


class Lease(_LeaseEndpoint):
    """One lease's numbers."""

    async def get(self, lease_id: str) -> None:
        """Answer it with its bounds."""
        self.reply(await self._told(await self.find(lease_id)))

    async def post(self, lease_id: str) -> None:
        """Give it other numbers; the daemon says whether it may have them."""
        wanted = self.read(ResizeRequest)
        lease = await self.find(lease_id)
        changed = await self.service.client.resize(lease.id, wanted.resize())
        await self.service.watch.look()
        self.reply(await self._told(changed))

    async def _told(self, lease: LeaseReply) -> LeaseDocument:
        bounds = await self.service.client.bounds(lease.id)
        return LeaseDocument(lease=lease.model_copy(update={"placement": None}), bounds=bounds)


class Charts(_LeaseEndpoint, _ServerEndpoint):
    """One lease's server, by itself."""

    async def get(self, lease_id: str) -> None:
        """Answer it, with the samples after ``?since=``."""
        since = self.since()
        lease = await self.find(lease_id)
        status = await self.service.client.status()
        server, tick_seconds = await self.server(lease, since)
        self.reply(ChartsDocument(at=status.at, tick_seconds=tick_seconds, server=server))


class Machine(Endpoint):
    """The machine, nobody named."""

    async def get(self) -> None:
        """Answer it, with the samples after ``?since=``."""
        person, since = self.person, self.since()
        profiles = None if person.admin else await self._profiles()
        self.reply(overview.machine(self.service.watch, person.name, since, profiles))

    async def _profiles(self) -> list[str]:
        """Return the reader's profiles; while the daemon is away, none."""
        if self.service.watch.trouble is not None:
            return []
        try:
            found = await self.service.client.catalogue(self.person.name, groups=self.person.groups)
        except EnforcerError:  # the watch will tell of it
            return []
        return [one.name for one in found.profiles]


class _AdminEndpoint(Endpoint):
    """What only an admin gets."""

    async def prepare(self) -> None:
        """Refuse everybody else."""
        await super().prepare()
        if not self.person.admin:
            raise ForbiddenError("pages.not-admin", "this is for the hub's admins")


class Everyone(_AdminEndpoint):
    """Everyone by name."""

    async def get(self) -> None:
        """Answer leases, receipts, and what an operator has to mend."""
        watch = self.service.watch
        receipts = (
            await self.service.client.receipts(limit=_ADMIN_RECEIPTS)
            if watch.trouble is None
            else ()
        )
        self.reply(overview.admin(watch, receipts))


class ServerRequest(Request):
    """Names a server."""

    user: Annotated[str, Field(min_length=1, max_length=255)]
    server: Annotated[str, Field(max_length=255)] = ""


class Stop(_AdminEndpoint):
    """Stops somebody's server, with the admin's own rights in the hub."""

    async def post(self) -> None:
        """Have the hub stop it; 202 if it is still at it."""
        wanted = self.read(ServerRequest)
        token = self.hub_auth.get_token(self)
        done = await hub.stop_server(
            self.service.settings.api_url, token, wanted.user, wanted.server
        )
        self.set_status(204 if done else 202)
        self.finish()
