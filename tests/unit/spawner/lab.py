"""A hub's user with the real spawner, the daemon's real API and a dockerd of sorts.

The user is the hub's own class on a database in memory: what the hub does around a start (options
stored, hooks, stop after a failure, waiting for the server) is the hub's own code.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import ClassVar

from aiohttp import ThreadedResolver
from jupyterhub import orm, roles
from jupyterhub.auth import DummyAuthenticator
from jupyterhub.httpclient import JupyterHubHTTPClient
from jupyterhub.objects import Hub
from jupyterhub.user import User
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool
from traitlets.config import Config as HubConfig

from enforcer.config import parse_config
from enforcer.model import LEASE_LABEL, EndReason, LeaseState
from spawner import DockerSystemProfileSpawner
from spawner.backends import Backends
from tests.apiserver import ApiUnderTest, serving
from tests.unit.configs import CAPACITY
from tests.unit.spawner.dockerd import Dockerd, Json

POLICY = """\
volumes_ro = ["/media/references"]

[resource_profiles.Small]
cpu_limit = 2
mem_limit = 4

[resource_profiles.Large]
cpu_limit = 10
mem_limit = 40

[resource_profiles.Secret]
cpu_limit = 30
mem_limit = 100

[docker_profiles]
Base = "lab/base:1"
Science = "lab/science:2"
Private = "lab/private:1"

[user_profiles.default]
allowed_resources = ["Small", "Large"]
allowed_docker = ["Base", "Science"]
host_homedir_format_string = "/home/{username}"
max_preallocate = { cpu_guarantee = 4, mem_guarantee = 20 }
cpu_total = 20
mem_total = 80

[user_profiles.games]
allowed_resources = ["Secret"]
allowed_docker = ["Private"]
cpu_total = 30
mem_total = 100
"""

ONE_AT_A_TIME = POLICY.replace(
    "mem_limit = 4\n", 'mem_limit = 4\nmem_total = 4\nadmission = "queue"\n'
)
"""The profile Small has room for one guarantee at a time; whoever comes next waits."""


class Lab:
    """docker, api: what the spawners talk to. Users are accounts that every Debian has."""

    def __init__(
        self, docker: Dockerd, api: ApiUnderTest, folder: Path, traits: dict[str, object]
    ) -> None:
        self.docker = docker
        self.api = api
        self.folder = folder
        self.traits = traits
        self._engine = create_engine("sqlite://", poolclass=StaticPool)
        orm.Base.metadata.create_all(self._engine)
        self.db = Session(self._engine)
        for role in roles.get_default_roles():
            roles.create_role(self.db, role)
        self.db.add(orm.OAuthClient(identifier="jupyterhub"))
        self.db.commit()
        self._hubs = [new_hub()]
        self._dockerd = AsyncExitStack()
        docker.on_started, docker.on_gone = self._bind, self._end

    def restart_hub(self) -> None:
        """Begin a hub that knows its database only."""
        self._hubs.append(new_hub())

    def user(self, name: str = "daemon", groups: tuple[str, ...] = ()) -> User:
        """Return the hub's user of that name, as a hub that just started knows it."""
        found = self.db.query(orm.User).filter_by(name=name).first()
        if found is None:
            found = orm.User(name=name)
            self.db.add(found)
            self.db.commit()
            roles.assign_default_roles(self.db, found)
        for group in groups:
            found.groups.append(orm.Group(name=group))
        self.db.commit()
        return User(
            found,
            {
                "authenticator": DummyAuthenticator(),
                "spawner_class": self._hubs[-1],
                "config": HubConfig({"DockerSystemProfileSpawner": HubConfig(self.traits)}),
                "hub": Hub(ip="127.0.0.1", port=1, base_url="/hub/"),
                "base_url": "/",
                "allow_named_servers": True,
                "internal_ssl": False,
            },
            self.db,
        )

    async def start_docker(self) -> None:
        """Let dockerd listen."""
        await self._dockerd.enter_async_context(self.docker.serving(self.folder / "docker.sock"))

    async def stop_docker(self) -> None:
        """Let dockerd end; its containers live on."""
        await self._dockerd.aclose()

    async def stop_daemon(self) -> None:
        """Let the daemon end."""
        await self.api.server.stop()

    async def start_daemon(self) -> None:
        """Let it listen again, with what its ledger has."""
        await self.api.listen()

    async def restart_daemon(self) -> None:
        """Let it end and come back."""
        await self.stop_daemon()
        await self.start_daemon()

    def leases(self) -> list[LeaseState]:
        """Return the states of the leases there are."""
        return [one.state for one in self.api.operations.book.leases]

    def nothing_is_left(self) -> bool:
        """Tell whether there is neither a container nor a lease."""
        return not self.docker.containers and not self.api.operations.book.leases

    async def close_hubs(self) -> None:
        """Close what the spawners of every hub share."""
        for kind in self._hubs:
            await close_hub(kind)

    async def close(self) -> None:
        """Close what the spawners opened."""
        await self.close_hubs()
        await self.stop_docker()
        self.db.close()
        self._engine.dispose()

    def _bind(self, container: Json) -> None:
        lease_id = container["Config"]["Labels"][LEASE_LABEL]
        if self.api.operations.book.get(lease_id) is not None:
            self.api.operations.bind(lease_id, container["Id"])

    def _end(self, container: Json) -> None:
        lease_id = container["Config"]["Labels"][LEASE_LABEL]
        oom = container["State"]["OOMKilled"]
        self.api.operations.end(lease_id, EndReason.OOM_LIMIT if oom else EndReason.EXITED)


def new_hub() -> type[DockerSystemProfileSpawner]:
    """Return the spawner as a hub of its own has it: what spawners share belongs to their class."""

    class Spawner(DockerSystemProfileSpawner):
        shared: ClassVar[Backends | None] = None

    return Spawner


async def close_hub(kind: type[DockerSystemProfileSpawner]) -> None:
    """Close what the spawners of one hub share."""
    backends, kind.shared = kind.shared, None
    if backends is not None:
        await backends.close()


@asynccontextmanager
async def a_lab(folder: Path, policy: str = POLICY, **traits: object) -> AsyncIterator[Lab]:
    """Serve everything for as long as the context lasts. traits: the spawner's."""
    docker, config = Dockerd(), parse_config(policy, CAPACITY)
    for image in ("lab/base:1", "lab/science:2", "lab/private:1"):
        docker.add_image(image, ["start-notebook.py"])
    async with serving(config, folder) as api:
        all_traits = {
            "socket_path": str(api.path),
            "client_kwargs": {"base_url": f"unix://{folder / 'docker.sock'}"},
            "docker_timeout": 2.0,
            "poll_timeout": 0.2,
            "form_timeout": 1.0,
            "cleanup_timeout": 5.0,
            "http_timeout": 5,
            **traits,
        }
        # The usual resolver keeps descriptors for longer than a test.
        http = JupyterHubHTTPClient.instance(connector_options={"resolver": ThreadedResolver()})
        lab = Lab(docker, api, folder, all_traits)
        try:
            await lab.start_docker()
            yield lab
        finally:
            await lab.close()
            await http.close()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


async def until(reached: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(seconds):
        while not reached():  # noqa: ASYNC110 - what is waited for knows nothing of tests
            await asyncio.sleep(0.01)
