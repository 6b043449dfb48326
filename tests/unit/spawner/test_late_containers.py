"""A container that Docker makes after its start has been given up: removed, and no other."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from enforcer.model import LEASE_LABEL, LeaseState
from tests.unit.spawner.lab import Lab, a_lab, close_hub, until
from tests.unit.spawner.starts import refused

pytestmark = pytest.mark.asyncio


def a_slow_lab(folder: Path, seconds: float = 0.4) -> AbstractAsyncContextManager[Lab]:
    """Return a lab that waits so long for Docker; long, where Docker is to do something in time."""
    return a_lab(folder, docker_timeout=seconds, poll_timeout=seconds, cleanup_timeout=5 * seconds)


class Slowness:
    """A dockerd that takes its time over what it is asked to make, until `go_on` is set."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.go_on = asyncio.Event()
        lab.docker.before["create"] = self.go_on.wait

    async def makes_it(self) -> None:
        """Let Docker make what it was asked for."""
        made = len(self._lab.docker.created)
        self._lab.docker.before.clear()
        self.go_on.set()
        await until(lambda: len(self._lab.docker.created) > made)


def lookouts() -> list[str]:
    """Return what is looked out for."""
    names = [task.get_name() for task in asyncio.all_tasks()]
    return [name for name in names if name.startswith("look out for ")]


async def test_what_docker_makes_after_a_start_has_failed_is_removed(tmp_path: Path) -> None:
    async with a_slow_lab(tmp_path) as lab:
        docker = Slowness(lab)
        await refused(lab.user())
        assert lab.nothing_is_left()
        await docker.makes_it()
        assert lab.docker.containers
        await until(lab.nothing_is_left)
        await until(lambda: not lookouts())


async def test_what_docker_makes_after_a_start_was_cancelled_is_removed(tmp_path: Path) -> None:
    async with a_slow_lab(tmp_path) as lab:
        docker, user = Slowness(lab), lab.user()
        start = asyncio.create_task(user.spawn(options={}))
        await until(lambda: lab.docker.asked["create"])
        start.cancel()
        await asyncio.wait([start], timeout=1)
        await user.stop()
        assert lab.nothing_is_left()
        await docker.makes_it()
        await until(lab.nothing_is_left)


async def test_a_look_that_docker_does_not_answer_is_not_the_last(tmp_path: Path) -> None:
    async with a_slow_lab(tmp_path) as lab:
        docker = Slowness(lab)
        await refused(lab.user())
        await docker.makes_it()
        lab.docker.faults["remove"] = 500
        removals = lab.docker.asked["remove"]
        await until(lambda: lab.docker.asked["remove"] > removals)
        assert lab.docker.containers
        lab.docker.faults.clear()
        await until(lab.nothing_is_left)


async def test_a_newer_start_keeps_its_container_and_ends_the_lookout(tmp_path: Path) -> None:
    async with a_slow_lab(tmp_path, 2.0) as lab:
        docker, user = Slowness(lab), lab.user()
        await refused(user)
        assert lookouts()
        lab.docker.before.clear()
        await user.spawn(options={})
        kept = lab.docker.only()
        # as it is for a moment in every start
        kept["State"].update(Running=False, Status="created")
        await until(lambda: not lookouts())
        docker.go_on.set()
        assert lab.docker.only() is kept
        assert lab.leases() == [LeaseState.BOUND]


async def test_a_late_container_in_the_way_of_a_newer_start_is_removed(tmp_path: Path) -> None:
    async with a_slow_lab(tmp_path) as lab:
        docker, user = Slowness(lab), lab.user()
        await refused(user)
        lab.docker.before["create"] = docker.makes_it
        error = await refused(user)
        assert "is taken by another container" in error.jupyterhub_message
        assert lab.nothing_is_left()


async def test_a_late_container_that_somebody_started_is_not_killed(tmp_path: Path) -> None:
    async with a_slow_lab(tmp_path) as lab:
        docker = Slowness(lab)
        await refused(lab.user())
        await docker.makes_it()
        late = lab.docker.only()

        async def start() -> None:
            late["State"].update(Running=True, Status="running")

        # between the look and the removal
        lab.docker.before["remove"] = start
        await until(lambda: late["State"]["Running"])
        await until(lambda: not lookouts())
        assert lab.docker.only() is late
        assert LEASE_LABEL in late["Config"]["Labels"]


async def test_a_hub_that_ends_looks_no_more(tmp_path: Path) -> None:
    async with a_slow_lab(tmp_path) as lab:
        docker, user = Slowness(lab), lab.user()
        await refused(user)
        assert lookouts()
        await close_hub(type(user.spawner))
        assert not lookouts()
        await docker.makes_it()


@pytest.mark.parametrize("fault", [400, 404, 500])
async def test_nothing_is_looked_out_for_when_docker_has_refused(
    tmp_path: Path, fault: int
) -> None:
    async with a_slow_lab(tmp_path) as lab:
        lab.docker.faults["create"] = fault
        await refused(lab.user())
        assert lab.nothing_is_left()
        assert not lookouts()
