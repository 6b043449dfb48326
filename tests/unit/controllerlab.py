"""What the controller's tests share: a lab, a claim, and what the hub does with a placement."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from enforcer.adapters.fakes import FakeWorld
from enforcer.adapters.fakes.docker import Wanted
from enforcer.api.peers import Peer
from enforcer.api.table import Call
from enforcer.config import parse_config
from enforcer.controller import ConfigFile, Controller, World
from enforcer.errors import NotFoundError
from enforcer.model import Claim, ContainerLimits, Lease, LeaseState, Limits
from enforcer.names import UnitName, lease_slice
from enforcer.quantities import GIB, Bytes, Cpus
from tests.unit.configs import CAPACITY, VALID

TINY = Claim(user="ann", profile="Tiny", cpu_guarantee=Cpus(500_000), mem_guarantee=Bytes(GIB))
LEAF = lease_slice("Tiny", "ann", "")
HELD = VALID.replace(
    "mem_limit = 2\n",
    """mem_limit = 2
swap_limit = 1
mem_throttle = "1.5 GiB"
tasks_limit = 100
io_weight = 300
shm_size = "64 MiB"
cpu_total = 2
mem_total = 3
tasks_total = 300
""",
)
"""A profile Tiny that bounds all that a profile can."""
RENAMED = HELD.replace("Tiny", "Small").replace("tasks_limit = 100", "tasks_limit = 250")
WITHOUT_LARGE = VALID.replace(', "Large"]', "]").replace(
    '[resource_profiles.Large]\ncpu_limit = 10\nmem_limit = "40 GiB"\n', ""
)
SOON_SECONDS = 5.0


class Lab:
    """A controller at work on a world in memory."""

    def __init__(self, world: FakeWorld | None = None, text: str = VALID) -> None:
        self.world = FakeWorld(capacity=CAPACITY) if world is None else world
        self.text = text
        config = parse_config(text, self.world.host.capacity())
        parts = World(
            systemd=self.world.systemd,
            kernel=self.world.kernel,
            docker=self.world.docker,
            host=self.world.host,
            ledger=self.world.ledger,
            clock=self.world.clock,
        )
        file = ConfigFile(path=Path("enforcer.toml"), read=lambda: self.text)
        self.controller = Controller(parts, config, file)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Controller]:
        await self.controller.start()
        try:
            yield self.controller
        finally:
            await self.controller.stop()

    def limits(self, unit: UnitName) -> Limits:
        cgroup = self.world.kernel.slice(unit)
        assert cgroup is not None, unit
        return cgroup.limits

    def run(self, lease: Lease, name: str = "ann-lab") -> str:
        """What the hub does with a placement."""
        placement = self.controller.placement(lease)
        return self.world.docker.run(
            name,
            Wanted(
                cgroup_parent=placement.slice,
                lease_id=lease.id,
                limits=ContainerLimits(
                    cpu=Cpus(placement.nano_cpus // 1000),
                    memory=placement.memory,
                    swap=Bytes(placement.memory_swap - placement.memory),
                    tasks=placement.pids_limit,
                ),
                oom_score_adj=placement.oom_score_adj,
            ),
        )

    def state(self, lease: Lease) -> LeaseState | None:
        try:
            return self.controller.lease(lease.id).state
        except NotFoundError:
            return None


class NoMetrics:
    """A page without anything."""

    content_type = "text/plain"

    async def page(self) -> bytes:
        return b""


def call(*, lease_id: str = "", user: str = "", server: str = "") -> Call:
    """What root asks of the API: about a lease, or about a user and their server."""
    peer = Peer(uid=0, name="root", privileged=True)
    named = {"user": user, "server": server}
    return Call(
        peer=peer,
        path={"lease_id": lease_id},
        once={word: name for word, name in named.items() if name},
        many={"group": []},
        body=None,
    )


async def placed(lab: Lab, controller: Controller) -> tuple[Lease, str]:
    """Claim a lease, start its container, and see it bound; the lease and the container's id."""
    lease, _ = await controller.claim(TINY)
    container = lab.run(lease)
    await until(lambda: lab.state(lease) is LeaseState.BOUND)
    await controller.tick()
    return lease, container


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that background tasks bring about."""
    async with asyncio.timeout(SOON_SECONDS):
        while not holds():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.01)
