"""The part of the hub's API that the service asks: whose is a token, and stop a server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

ACCESS = "access:services!service=enforcer"


@dataclass
class HubApi:
    """Who is who by token, and what it was asked to stop."""

    people: dict[str, dict[str, object]] = field(default_factory=dict)
    stopped: list[str] = field(default_factory=list)
    stop_status: int = 204
    user_status: int = 200
    port: int = 0

    @property
    def url(self) -> str:
        """The API's address."""
        return f"http://127.0.0.1:{self.port}/hub/api"

    def know(
        self, token: str, name: str, scopes: Sequence[str] = (ACCESS,), kind: str = "user"
    ) -> None:
        """Know a token."""
        self.people[token] = {
            "name": name,
            "kind": kind,
            "groups": ["ml"],
            "scopes": list(scopes),
            "admin": False,
        }

    async def user(self, request: web.Request) -> web.Response:
        """Tell whose token it is."""
        if self.user_status != 200:
            return web.json_response({}, status=self.user_status)
        model = self.people.get(request.headers["Authorization"].removeprefix("token "))
        return web.json_response(model or {}, status=200 if model else 403)

    async def stop(self, request: web.Request) -> web.Response:
        """Take note of what is to be stopped, and by whom."""
        token = request.headers["Authorization"].removeprefix("token ")
        self.stopped.append(f"{self.people[token]['name']}: {request.raw_path}")
        return web.Response(status=self.stop_status)


@asynccontextmanager
async def hub_api() -> AsyncIterator[HubApi]:
    """Serve it on the loopback."""
    hub = HubApi()
    app = web.Application()
    app.router.add_get("/hub/api/user", hub.user)
    app.router.add_delete("/hub/api/users/{name}/server", hub.stop)
    app.router.add_delete("/hub/api/users/{name}/servers/{server}", hub.stop)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    hub.port = runner.addresses[0][1]
    try:
        yield hub
    finally:
        await runner.cleanup()
