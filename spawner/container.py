"""DockerSpawner's part in it: the container, made with its settings and our placement.

Everything the hub's configuration can say to DockerSpawner holds on (networks, devices, links,
ports), but for what is the enforcer's: limits, image, home and shared directories.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import docker
from docker.constants import DEFAULT_DOCKER_API_VERSION
from docker.tls import TLSConfig
from docker.utils import kwargs_from_env
from dockerspawner import DockerSpawner, SystemUserSpawner
from traitlets import default

from enforcer.api.types import LeaseReply
from enforcer.errors import UnavailableError
from spawner import engine as docker_engine
from spawner.backends import Backends
from spawner.containernames import container_name
from spawner.engine import Dockerd, Lane
from spawner.homes import Account
from spawner.leftovers import remove
from spawner.placement import Arguments, sealed
from spawner.settings import HubSettings


class PlacedContainer(HubSettings, SystemUserSpawner):  # type: ignore[misc]  # it has no types
    """A spawner whose container is made as its lease's placement says.

    `lease` has a placement while a start goes on; `account` is whom the server runs as.
    """

    shared: ClassVar[Backends | None] = None

    def __init__(self, **named: Any) -> None:  # noqa: ANN401 - traits
        self.lease: LeaseReply | None = None
        self.account: Account | None = None
        self._jobs: set[asyncio.Future[Any]] = set()
        self._creation: asyncio.Future[Any] | None = None
        self._sealing = False
        self._none_there = False
        self._image_there = ""
        super().__init__(**named)

    # --- what all spawners share ---------------------------------------------------------------

    @property
    def backends(self) -> Backends:
        """The hub's one connection to everything; made by whoever needs it first."""
        kind = type(self)
        if kind.shared is None:
            kind.shared = Backends.make(self.socket_path, self._dockerd(), self.seconds(), self.log)
        return kind.shared

    @property
    def client(self) -> docker.APIClient:
        """What DockerSpawner builds a host configuration with, and no more: it never connects."""
        return self._dockerd().client(version=DEFAULT_DOCKER_API_VERSION)

    def docker(self, method: str, *arguments: object, **named: Any) -> Awaitable[Any]:  # noqa: ANN401 - Docker's
        """Call Docker. Whoever waits may give up; the call goes on, and is waited for later."""
        creating = self._sealing and method == "create_container"
        if creating:
            named = self._sealed(named)
        call = self.backends.engine.call(Lane.CALLS, method, *arguments, **named)
        job = asyncio.ensure_future(call)
        if creating:
            self._creation = job
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return asyncio.shield(job)

    def _dockerd(self) -> Dockerd:
        options: dict[str, Any] = {"version": "auto"}
        if self.tls_config:
            options["tls"] = TLSConfig(**self.tls_config)
        return Dockerd({**options, **kwargs_from_env(), **self.client_kwargs})

    # --- the container -------------------------------------------------------------------------

    @default("name_template")
    def _default_name_template(self) -> str:
        return ""

    @default("object_name")
    def _object_name_default(self) -> str:
        """Return a name no other server's container has; an admin's own template is respected."""
        if self.name_template:
            return str(super()._object_name_default())
        return container_name(self.prefix, self.user.name, self.name)

    @property
    def will_resume(self) -> bool:
        """A container never starts twice: it would have the limits of the first time."""
        return False

    async def check_allowed(self, image: str) -> str:  # noqa: ARG002 - DockerSpawner's own check
        """Return the placement's image: which images there are is not the hub's to say."""
        return str(self.image)

    async def pull_image(self, image: str) -> None:
        """Fetch an image, unless that was seen to already."""
        if image != self._image_there:
            await self.fetch_image(image, self.pull_timeout, lambda _: None)

    async def fetch_image(self, image: str, seconds: float, tell: Callable[[str], None]) -> None:
        """Fetch an image as pull_policy says; others may wait for the same pull."""
        await self.backends.pulls.ensure(image, self.pull_policy, seconds, tell)
        self._image_there = image

    async def get_object(self) -> Any:  # noqa: ANN401 - Docker's JSON
        """Return the container as Docker shows it; None only if Docker says that it is gone."""
        if self._none_there:
            self._none_there = False
            return None
        try:
            found = await self.docker("inspect_container", self.object_id or self.object_name)
        except Exception as error:
            if docker_engine.is_gone(error):
                return None
            raise
        self.object_id = found["Id"]
        return found

    async def get_command(self) -> list[str] | None:
        """Return the command; None leaves it to an image that has an entry point only."""
        if self.cmd:
            return [*self.cmd, *self.get_args()]
        image = await self.docker("inspect_image", self.image)
        command = (image.get("Config") or {}).get("Cmd") or ()
        return [*command, *self.get_args()] or None

    async def create_object(self) -> Any:  # noqa: ANN401 - Docker's JSON
        """Make the container with DockerSpawner's arguments, sealed."""
        self._sealing = True
        try:
            return await super().create_object()
        except Exception as error:
            if not docker_engine.is_taken(error):
                raise
        finally:
            self._sealing = False
        raise UnavailableError(
            "docker.error",
            f"the name {self.object_name} is taken by another container",
            "try again in a moment",
        )

    async def start_object(self) -> None:
        """Start the container; once more if that is all it needs."""
        try:
            await super().start_object()
        except Exception as error:
            if not docker_engine.lost_a_race(error):
                raise
            self.log.warning("%s is started once more: %s", self.object_name, error)
            await super().start_object()

    async def place_container(self) -> tuple[str, int]:
        """Make and start the container of `lease`; return where the server listens."""
        lease = self.lease
        if lease is None or lease.placement is None:
            raise UnavailableError("daemon.unintelligible", "the lease came without a placement")
        self.image = lease.placement.image
        # Where the hub, and so the server's environment, has them: MEM_LIMIT and the others.
        for number in ("mem_limit", "cpu_limit", "mem_guarantee", "cpu_guarantee"):
            setattr(self, number, getattr(lease, number))
        # Not SystemUserSpawner's: it notes one user's home in settings that outlive the start.
        address: tuple[str, int] = await DockerSpawner.start(self)
        return address

    async def clear_the_way(self) -> bool:
        """Remove whatever has this server's name; tell whether there was something."""
        self.object_id = ""
        found = await self.get_object()
        if found is not None:
            self.log.warning("removing %s, left by an earlier start", self.object_name)
            await remove(self.backends.engine, str(found["Id"]))
            self.object_id = ""
        self._none_there = True
        return found is not None

    def forget_placement(self) -> None:
        """Leave nothing of one start to the next."""
        self.lease = self.account = None
        self._none_there = False
        self._image_there = ""
        self.object_id = ""
        for number in ("mem_limit", "cpu_limit", "mem_guarantee", "cpu_guarantee"):
            setattr(self, number, None)

    def _sealed(self, arguments: Arguments) -> Arguments:
        lease = self.lease
        if lease is None or lease.placement is None:
            raise UnavailableError("daemon.unintelligible", "the lease came without a placement")
        done = sealed(arguments, lease.placement, lease, self.homedir_bind_propagation)
        if lease.placement.home:
            done.setdefault("working_dir", lease.placement.home)
        if self.run_as_root:
            done.setdefault("user", "0")
        elif self.account is not None:
            done.setdefault("user", self.account.ids)
        return done

    # --- home, environment ---------------------------------------------------------------------

    @property
    def homedir(self) -> str:
        """The home, on the host and in the container: one path, or shebangs would not work."""
        placement = None if self.lease is None else self.lease.placement
        return "" if placement is None else placement.home or ""

    host_homedir = homedir

    @property
    def volume_mount_points(self) -> Any:  # noqa: ANN401 - DockerSpawner's
        """DockerSpawner's: the home is mounted by the placement."""
        return DockerSpawner.volume_mount_points.fget(self)

    @property
    def volume_binds(self) -> Any:  # noqa: ANN401 - DockerSpawner's
        """DockerSpawner's: the home is mounted by the placement."""
        return DockerSpawner.volume_binds.fget(self)

    def _user_id_default(self) -> int:
        return -1  # looked up when a server starts, where it may take its time

    def _group_id_default(self) -> int:
        return -1

    def get_env(self) -> dict[str, Any]:
        """Return the server's environment; what the admin set in `environment` stays as it is."""
        env: dict[str, Any] = DockerSpawner.get_env(self)
        own: dict[str, str] = {"USER": self.user.name, "NB_USER": self.user.name}
        if self.account is not None:
            own["NB_UID"] = f"{self.account.uid}"
            if self.account.gid >= 0:
                own["NB_GID"] = f"{self.account.gid}"
        if self.homedir:
            own["HOME"] = self.homedir
        return env | {key: value for key, value in own.items() if key not in self.environment}
