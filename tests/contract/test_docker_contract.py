"""The contract of dockerd, on the one in memory; tests/machine has the real one."""

from __future__ import annotations

import pytest

from enforcer.adapters.fakes import FakeWorld
from enforcer.adapters.fakes.docker import Wanted
from enforcer.model import ContainerLimits
from tests.contract.docker_contract import DockerContract, Hands


class FakeHands:
    """The fake's own methods are the command line."""

    def __init__(self, world: FakeWorld) -> None:
        self._world = world
        self.docker = world.docker

    async def run(self, name: str, wanted: Wanted) -> str:
        return self.docker.run(name, wanted)

    async def start(self, container_id: str) -> None:
        self.docker.start(container_id)

    async def stop(self, container_id: str) -> None:
        self.docker.stop(container_id)

    async def end(self, container_id: str) -> None:
        self.docker.exit(container_id)

    async def remove(self, container_id: str) -> None:
        self.docker.remove(container_id)

    async def change(self, container_id: str, limits: ContainerLimits) -> None:
        self.docker.change(container_id, limits)

    async def kernel(self, container_id: str) -> ContainerLimits:
        return self._world.cgroups.scopes[container_id].limits


class TestFakeDocker(DockerContract):
    @pytest.fixture
    def hands(self) -> Hands:
        return FakeHands(FakeWorld())
