"""The API on a real Unix socket in a test's own folder, with the peer's uid made up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from enforcer.adapters.fakes.host import FakeHost
from enforcer.api.connections import Bounds, Register
from enforcer.api.peers import Peers, peer_uid
from enforcer.api.routes import Api
from enforcer.api.server import Finishing, Server, api_app
from enforcer.metrics import Metrics
from enforcer.model import Config
from tests.fakes_operations import FakeOperations

ROOT, ALICE, BOB, HUB, STRANGER = 0, 1001, 1002, 900, 5555


class ApiUnderTest:
    """A running API; `uid` is whom the next connection is said to be from."""

    def __init__(self, config: Config, path: Path, bounds: Bounds) -> None:
        self.path = path
        self.uid: int | None = ROOT
        self.operations = FakeOperations(config)
        self.host = FakeHost(users={"root": 0, "alice": ALICE, "bob": BOB, "hub": HUB})
        self.peers = Peers(self.host, self.operations.clock, lambda: config.daemon.hub_users)
        self.register = Register(bounds, self.peers.exempt)
        self.finishing = Finishing()
        self.api = Api(self.operations, Metrics(self.operations.published))
        self.server = self._made()

    async def listen(self) -> None:
        """Begin to listen, after an end as well: what the operations know stays."""
        self.path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(self.path))
        listener.listen(512)
        self.server = self._made()
        await self.peers.learn()
        await self.server.start(listener)

    def _made(self) -> Server:
        app = api_app(self.api, self.peers, self.finishing)
        return Server(app, self.register, self._uid_of)

    def _uid_of(self, connection: socket.socket) -> int:
        return peer_uid(connection) if self.uid is None else self.uid

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection, to speak anything on."""
        return await asyncio.open_unix_connection(str(self.path))

    async def say(self, raw: bytes, *, end: bool = False) -> bytes:
        """Send bytes on a new connection; return what comes back until it is closed."""
        reader, writer = await self.connect()
        try:
            writer.write(raw)
            if end:
                writer.write_eof()
            async with asyncio.timeout(5):
                return await reader.read()
        finally:
            await hang_up(writer)


async def hang_up(*writers: asyncio.StreamWriter) -> None:
    """Close connections, whatever the other side did to them."""
    for writer in writers:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def serving(
    config: Config, folder: Path, bounds: Bounds | None = None
) -> AsyncIterator[ApiUnderTest]:
    """Serve on a socket in `folder`."""
    under_test = ApiUnderTest(config, folder / "api.sock", bounds or Bounds())
    await under_test.listen()
    try:
        yield under_test
    finally:
        await under_test.finishing.wait(1)
        await under_test.server.stop()
        await under_test.peers.close()
