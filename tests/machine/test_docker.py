"""The adapter to dockerd on a real one: the contract, and what only a real one does."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from enforcer import machine
from enforcer.adapters.docker import DockerEngine
from enforcer.adapters.fakes.docker import Wanted
from enforcer.errors import UnavailableError
from enforcer.model import LEASE_LABEL, ContainerLimits
from enforcer.quantities import CORE, Bytes, Cpus
from tests.contract.docker_contract import (
    LIMITS,
    DockerContract,
    following,
    told,
)
from tests.machine.conftest import prepare


class GuestHands:
    """Docker's own command line in the guest; the adapter reaches dockerd's socket through ssh."""

    def __init__(self, guest: machine.Guest, docker: DockerEngine) -> None:
        self.guest = guest
        self.docker = docker

    async def sh(self, *words: str, check: bool = True) -> str:
        done = await asyncio.to_thread(self.guest.run, words, check=check)
        return done.stdout.strip()

    async def run(self, name: str, wanted: Wanted) -> str:
        options = ["--network", "none", "--name", name, *flags(wanted.limits)]
        if wanted.cgroup_parent:
            options += ["--cgroup-parent", wanted.cgroup_parent]
        if wanted.lease_id:
            options += ["--label", f"{LEASE_LABEL}={wanted.lease_id}"]
        command = (machine.DEMO_IMAGE, "sleep", "100000")
        return await self.sh("docker", "run", "--detach", "--init", *options, *command)

    async def start(self, container_id: str) -> None:
        await self.sh("docker", "start", container_id)

    async def stop(self, container_id: str) -> None:
        await self.sh("docker", "kill", container_id)
        await self.sh("docker", "wait", container_id)

    async def end(self, container_id: str) -> None:
        shown = "docker inspect --format '{{.State.Pid}}'"
        await self.sh("sh", "-c", f"kill -9 $({shown} {container_id})")
        await self.sh("docker", "wait", container_id)

    async def remove(self, container_id: str) -> None:
        await self.sh("docker", "rm", "--force", container_id)

    async def change(self, container_id: str, limits: ContainerLimits) -> None:
        await self.sh("docker", "update", *flags(limits), container_id)

    async def kernel(self, container_id: str) -> ContainerLimits:
        script = (
            f"cd $(find /sys/fs/cgroup -name 'docker-{container_id}.scope')"
            " && cat cpu.max cpuset.cpus memory.max memory.swap.max pids.max"
        )
        cpu, cpus, memory, swap, tasks = (await self.sh("sh", "-c", script)).splitlines()
        quota, period = cpu.split()
        numbers = [None if word == "max" else int(word) for word in (memory, swap, tasks)]
        return ContainerLimits(
            cpu=None if quota == "max" else Cpus(int(quota) * CORE // int(period)),
            cpu_period_usec=int(period),
            memory=None if numbers[0] is None else Bytes(numbers[0]),
            swap=None if numbers[1] is None else Bytes(numbers[1]),
            tasks=numbers[2],
            cpus=cpus,
        )


def flags(limits: ContainerLimits) -> list[str]:
    found = []
    if limits.cpu is not None:
        found += ["--cpus", str(limits.cpu / CORE)]
    if limits.memory is not None:
        swap = -1 if limits.swap is None else limits.memory + limits.swap
        found += ["--memory", str(limits.memory), "--memory-swap", str(swap)]
    if limits.tasks is not None:
        found += ["--pids-limit", str(limits.tasks)]
    if limits.cpus:
        found += ["--cpuset-cpus", limits.cpus]
    return found


@pytest.fixture(scope="module")
def dockerd(request: pytest.FixtureRequest) -> Iterator[tuple[machine.Guest, Path]]:
    """One machine for all: on a clean one the first container costs an emulated dockerd the most.

    And dockerd's socket, here.
    """
    with (
        machine.start(prepare(request, machine.DEFAULT_SUITE, None)) as guest,
        tempfile.TemporaryDirectory() as folder,  # ssh takes no long path
    ):
        socket = Path(folder) / "docker.sock"
        guest.forward_socket("/run/docker.sock", socket)
        yield guest, socket


@pytest_asyncio.fixture
async def hands(dockerd: tuple[machine.Guest, Path]) -> AsyncIterator[GuestHands]:
    """A dockerd that has no container."""
    guest, socket = dockerd
    docker = DockerEngine(socket)
    try:
        yield GuestHands(guest, docker)
    finally:
        await docker.close()
        guest.run("docker ps --all --quiet | xargs --no-run-if-empty docker rm --force")


class TestRealDocker(DockerContract):
    """The contract."""


@pytest.mark.asyncio
async def test_a_limit_that_was_given_as_a_quota_can_be_changed(hands: GuestHands) -> None:
    quota = ("--cpu-period", "50000", "--cpu-quota", "25000")
    detached = ("docker", "run", "--detach", "--network", "none")
    one = await hands.sh(*detached, *quota, machine.DEMO_IMAGE, "sleep", "1000")
    assert (await hands.docker.containers())[one].docker.cpu == CORE // 2
    assert await hands.docker.update(one, LIMITS)
    assert await hands.kernel(one) == LIMITS


@pytest.mark.long
@pytest.mark.asyncio
async def test_a_dockerd_that_hangs_and_one_that_restarts_are_survived(hands: GuestHands) -> None:
    one = await hands.run("survivor", Wanted(limits=LIMITS))
    async with following(hands.docker) as seen:
        await hands.docker.containers()
        pid = await hands.sh("systemctl", "show", "--property=MainPID", "--value", "docker")
        await hands.sh("kill", "-STOP", pid)
        began = time.monotonic()
        with pytest.raises(UnavailableError) as raised:
            await hands.docker.containers()
        assert raised.value.code == "docker.timeout"
        with pytest.raises(UnavailableError):
            await hands.docker.update(one, LIMITS)
        assert time.monotonic() - began < 15
        await hands.sh("kill", "-CONT", pid)
        assert one in await hands.docker.containers()
        seen.clear()
        await asyncio.gather(hands.sh("systemctl", "restart", "docker"), told(seen, ""))
        assert one in await hands.docker.containers()
    # a closed stream leaves nothing behind and the calls go on
    assert one in await hands.docker.containers()
