"""The service: its routes, its login through the hub, and its life."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from jupyterhub.httpclient import JupyterHubHTTPClient
from jupyterhub.services.auth import HubOAuth
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets, bind_unix_socket
from tornado.web import Application, RedirectHandler, StaticFileHandler

from enforcer.asyncclient import AsyncClient
from spawner.pages import SERVICE_NAME, endpoints
from spawner.pages.handlers import ACCESS, MOST_BODY, Callback, Service, set_headers
from spawner.pages.jinja import environment
from spawner.pages.settings import Settings
from spawner.pages.watch import Watch

STATIC: Final = Path(__file__).with_name("static")
_DAEMON_SECONDS: Final = 10.0
_KNOWN_SECONDS: Final = 60
"""How long the hub's word on a token is believed: a logout counts after that."""
_IDLE_SECONDS: Final = 120.0
_log: Final = logging.getLogger(__name__)


class Static(StaticFileHandler):
    """Scripts and styles: no secrets in them, so anyone may fetch them, as the hub's own."""

    def set_default_headers(self) -> None:
        """Set what every answer carries."""
        set_headers(self)

    def set_extra_headers(self, path: str) -> None:  # noqa: ARG002 - tornado's signature
        """Have browsers ask whether a file has changed: the modules' names carry no version."""
        self.set_header("Cache-Control", "no-cache")


def hub_auth(settings: Settings) -> HubOAuth:
    """Return the login through the hub."""
    return HubOAuth(
        api_token=settings.token,
        api_url=settings.api_url,
        base_url=settings.prefix,
        hub_prefix=settings.hub_prefix,
        oauth_client_id=f"service-{SERVICE_NAME}",
        oauth_redirect_uri=f"{settings.prefix}oauth_callback",
        access_scopes=set(ACCESS),
        cache_max_age=_KNOWN_SECONDS,
    )


def application(service: Service) -> Application:
    """Return the routes."""
    prefix = re.escape(service.settings.prefix)
    own = {"service": service}
    lease = r"([0-9a-f]{32})"
    return Application(
        [
            (prefix, endpoints.MachinePage, own),
            (f"{prefix}admin", endpoints.AdminPage, own),
            (f"{prefix}oauth_callback", Callback, own),
            (f"{prefix}api/mine", endpoints.Mine, own),
            (f"{prefix}api/catalogue", endpoints.Catalogue, own),
            (f"{prefix}api/machine", endpoints.Machine, own),
            (f"{prefix}api/leases/{lease}", endpoints.Lease, own),
            (f"{prefix}api/leases/{lease}/server", endpoints.Charts, own),
            (f"{prefix}api/everyone", endpoints.Everyone, own),
            (f"{prefix}api/stop", endpoints.Stop, own),
            (f"{prefix}api/.*", endpoints.NoEndpoint, own),
            (f"{prefix}static/(.*)", Static, {"path": str(STATIC)}),
            (prefix.removesuffix("/"), RedirectHandler, {"url": service.settings.prefix}),
        ],
        default_handler_class=endpoints.NoPage,
        default_handler_args=own,
        # the same after a restart, so that pages that are open go on
        cookie_secret=hmac.digest(service.settings.token.encode(), b"cookies", hashlib.sha256),
        compress_response=True,
    )


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[Service]:
    """Serve while the context lasts."""
    async with AsyncClient(settings.socket_path, _DAEMON_SECONDS) as client:
        watch = Watch(client, settings.poll_seconds)
        service = Service(
            settings=settings,
            auth=hub_auth(settings),
            client=client,
            watch=watch,
            views=environment(),
        )
        server = HTTPServer(
            application(service),
            max_body_size=MOST_BODY,
            max_buffer_size=4 * MOST_BODY,
            idle_connection_timeout=_IDLE_SECONDS,
            xheaders=True,
        )
        sockets = (
            [bind_unix_socket(settings.listen, mode=0o660)]
            if isinstance(settings.listen, str)
            else bind_sockets(settings.listen[1], settings.listen[0])
        )
        server.add_sockets(sockets)
        looking = asyncio.create_task(watch.run(), name="watch")
        try:
            yield service
        finally:
            server.stop()
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking
            await server.close_all_connections()
            # the hub's own client, by which it was asked whose a token is
            await JupyterHubHTTPClient.loop_instance().close()


async def run(settings: Settings) -> None:
    """Serve until told to stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with serving(settings):
        _log.info("serving %s on %s", settings.prefix, settings.listen)
        await stop.wait()
