"""The whole hub, as a process of its own: its handlers, its database, its REST API and its pages.

Only the proxy is left out, which needs Node: nobody visits a server here.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

from tests.unit.spawner.lab import Lab, free_port

TOKEN = "a-token-of-the-tests"

_CONFIG = """\
import json, sys
sys.path.insert(0, {checkout!r})
from jupyterhub.proxy import Proxy

class NoProxy(Proxy):
    should_start = False
    routes = {{}}
    async def add_route(self, routespec, target, data):
        self.routes[routespec] = {{"routespec": routespec, "target": target, "data": data}}
    async def delete_route(self, routespec):
        self.routes.pop(routespec, None)
    async def get_all_routes(self):
        return dict(self.routes)

c = get_config()
c.JupyterHub.proxy_class = NoProxy
c.JupyterHub.spawner_class = "spawner.DockerSystemProfileSpawner"
c.JupyterHub.authenticator_class = "dummy"
c.JupyterHub.hub_port = {port}
c.JupyterHub.bind_url = "http://127.0.0.1:{public}"
c.JupyterHub.db_url = "sqlite:///hub.sqlite"
c.JupyterHub.cleanup_servers = False
c.JupyterHub.allow_named_servers = True
c.JupyterHub.tornado_settings = {{"slow_spawn_timeout": 5}}
c.Authenticator.allow_all = True
c.Authenticator.admin_users = {{"backup"}}
c.JupyterHub.services = [{{"name": "tester", "api_token": {token!r}}}]
c.JupyterHub.load_roles = [
    {{"name": "tester", "scopes": ["admin:users", "admin:servers", "admin:server_state"],
      "services": ["tester"]}}
]
c.Spawner.consecutive_failure_limit = 2
for name, value in json.loads({traits!r}).items():
    setattr(c.DockerSystemProfileSpawner, name, value)
"""


class RunningHub:
    """A hub that answers; `api` speaks as a service, `browser` as whoever logged in."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def api(
        self, method: str, path: str, body: object = None, *, raw: bytes | None = None
    ) -> tuple[int, Any]:
        """Call the REST API; return the status and what it says."""
        content = raw if raw is not None else None if body is None else json.dumps(body).encode()
        async with self._session.request(
            method,
            f"{self._url}/hub/api{path}",
            data=content,
            headers={"Authorization": f"token {TOKEN}"},
        ) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text.startswith(("{", "[")) else text

    async def start(self, user: str, body: object = None, server: str = "") -> tuple[int, str]:
        """Start a server by REST; return the status and the message."""
        where = f"/servers/{server}" if server else "/server"
        status, said = await self.api("POST", f"/users/{user}{where}", body)
        return status, said["message"] if isinstance(said, dict) else str(said)

    async def log_in(self, user: str) -> Browser:
        """Log a user in."""
        browser = Browser(self._url)
        await browser.log_in(user)
        return browser


class Browser:
    """One user's cookies."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))

    async def close(self) -> None:
        """Forget the cookies."""
        await self._session.close()

    async def log_in(self, user: str) -> None:
        """Fill in the login form."""
        status, page = await self.get("/hub/login")
        assert status == 200
        await self.post("/hub/login", page, username=user, password="x")

    async def get(self, path: str) -> tuple[int, str]:
        """Open a page."""
        async with self._session.get(self._url + path) as answer:
            return answer.status, await answer.text()

    async def post(self, path: str, page: str, **fields: str) -> tuple[int, str]:
        """Send a form that a page holds."""
        found = re.search(r'_xsrf=([^"&]+)"|name="_xsrf" value="([^"]*)"', page)
        assert found is not None
        token = found[1] or found[2]
        async with self._session.post(
            f"{self._url}{path}?_xsrf={token}", data={**fields, "_xsrf": token}
        ) as answer:
            return answer.status, await answer.text()


@asynccontextmanager
async def a_hub(lab: Lab, **more: object) -> AsyncIterator[RunningHub]:
    """Run a hub in the lab's folder for as long as the context lasts; its database stays."""
    port = free_port()
    traits: Mapping[str, object] = {**lab.traits, **more}
    text = _CONFIG.format(
        checkout=str(Path(__file__).parents[2]),
        port=port,
        public=free_port(),
        token=TOKEN,
        traits=json.dumps(traits),
    )
    config = lab.folder / "jupyterhub_config.py"
    await asyncio.to_thread(config.write_text, text)
    with open(lab.folder / "hub.log", "ab") as log:  # noqa: ASYNC230, PTH123 - a file of ours
        hub = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "jupyterhub", "-f", str(config),
            cwd=lab.folder, stdout=log, stderr=log,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession() as session:
            await _answers(session, f"{url}/hub/health", hub)
            yield RunningHub(url, session)
    finally:
        with suppress(ProcessLookupError):
            hub.terminate()
        await hub.wait()


async def _answers(
    session: aiohttp.ClientSession, url: str, hub: asyncio.subprocess.Process
) -> None:
    async with asyncio.timeout(60):
        while True:
            with suppress(aiohttp.ClientConnectionError):
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return
            assert hub.returncode is None, "the hub has ended: see hub.log"
            await asyncio.sleep(0.1)
