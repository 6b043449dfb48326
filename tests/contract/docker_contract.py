"""What every dockerd does: the tests, collected where there is one, in memory or in a machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Protocol

import pytest

from enforcer.adapters.fakes.docker import Wanted
from enforcer.model import ContainerLimits
from enforcer.ports import Docker
from enforcer.quantities import CORE, MIB, Bytes, Cpus

LEASE_ID = "0123456789abcdef" * 2
PARENT = "contract-a\\x2db.slice"
LIMITS = ContainerLimits(
    cpu=Cpus(CORE // 2), memory=Bytes(64 * MIB), swap=Bytes(16 * MIB), tasks=50
)
WAIT_SECONDS = 60.0


class Hands(Protocol):
    """A dockerd, the adapter to it, and what a person does at its command line."""

    @property
    def docker(self) -> Docker: ...

    async def run(self, name: str, wanted: Wanted) -> str: ...

    async def start(self, container_id: str) -> None: ...

    async def stop(self, container_id: str) -> None: ...

    async def end(self, container_id: str) -> None: ...

    async def remove(self, container_id: str) -> None: ...

    async def change(self, container_id: str, limits: ContainerLimits) -> None: ...

    async def kernel(self, container_id: str) -> ContainerLimits: ...


@asynccontextmanager
async def following(docker: Docker) -> AsyncIterator[list[str]]:
    """What the events tell, from the first "" on."""
    seen: list[str] = []
    begun = asyncio.Event()

    async def follow() -> None:
        async for event in docker.events():
            seen.append(event)
            begun.set()

    task = asyncio.create_task(follow())
    try:
        await asyncio.wait_for(begun.wait(), WAIT_SECONDS)
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def told(seen: list[str], event: str) -> None:
    """Wait for an event, and forget those until then."""
    for _ in range(int(WAIT_SECONDS / 0.05)):
        if event in seen:
            seen.clear()
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"no event {event!r}")


@pytest.mark.asyncio
class DockerContract:
    """The tests; `hands` is the world's."""

    async def test_a_container_is_seen_from_its_start_to_its_end(self, hands: Hands) -> None:
        assert await hands.docker.containers() == {}
        wanted = Wanted(cgroup_parent=PARENT, lease_id=LEASE_ID, limits=LIMITS)
        one = await hands.run("alice-1.x_y", wanted)
        container = (await hands.docker.containers())[one]
        assert container.id == one
        assert container.name == "alice-1.x_y"
        assert container.cgroup_parent == PARENT
        assert container.lease_id == LEASE_ID
        assert container.docker == LIMITS
        assert container.created_at > 0
        assert container.running
        assert container.pid
        await hands.stop(one)
        stopped = (await hands.docker.containers())[one]
        assert not stopped.running
        assert stopped.pid is None
        assert (stopped.cgroup_parent, stopped.docker) == (PARENT, LIMITS)
        await hands.start(one)
        assert (await hands.docker.containers())[one].running
        await hands.remove(one)
        assert await hands.docker.containers() == {}

    async def test_a_container_that_was_stopped_is_told_from_one_that_ended(
        self, hands: Hands
    ) -> None:
        async with following(hands.docker) as seen:
            stopped = await hands.run("stopped", Wanted())
            ended = await hands.run("ended", Wanted())
            await hands.end(ended)
            await told(seen, ended)
            await hands.stop(stopped)
            while stopped not in hands.docker.stopped():
                await told(seen, stopped)
            assert ended not in hands.docker.stopped()
            await hands.start(stopped)
            while stopped in hands.docker.stopped():
                await told(seen, stopped)

    async def test_a_container_without_parent_limits_or_label_has_none(self, hands: Hands) -> None:
        one = await hands.run("plain", Wanted())
        container = (await hands.docker.containers())[one]
        assert container.cgroup_parent == ""
        assert container.lease_id is None
        assert container.docker == ContainerLimits()

    async def test_limits_are_given_grown_shrunk_and_taken_away(self, hands: Hands) -> None:
        one = await hands.run("limited", Wanted(limits=LIMITS))
        grown = ContainerLimits(cpu=Cpus(CORE), memory=Bytes(256 * MIB), swap=Bytes(0), tasks=100)
        shrunk = ContainerLimits(
            cpu=Cpus(CORE // 4), memory=Bytes(32 * MIB), swap=Bytes(8 * MIB), tasks=20
        )
        for limits in (grown, shrunk):
            assert await hands.docker.update(one, limits)
            assert (await hands.docker.containers())[one].docker == limits
            assert await hands.kernel(one) == limits
        assert await hands.docker.update(one, ContainerLimits())
        unlimited = replace(shrunk, tasks=None)
        assert (await hands.docker.containers())[one].docker == unlimited
        assert await hands.kernel(one) == unlimited

    async def test_swap_without_limit_is_noted_but_the_kernel_keeps_what_it_had(
        self, hands: Hands
    ) -> None:
        one = await hands.run("swapping", Wanted(limits=LIMITS))
        wanted = replace(LIMITS, swap=None)
        assert await hands.docker.update(one, wanted)
        assert (await hands.docker.containers())[one].docker == wanted
        assert await hands.kernel(one) == LIMITS

    async def test_a_container_without_limits_can_be_given_some(self, hands: Hands) -> None:
        one = await hands.run("unlimited", Wanted())
        assert await hands.docker.update(one, LIMITS)
        assert await hands.kernel(one) == LIMITS

    async def test_the_cpus_are_set_where_any_are_named_and_else_left(self, hands: Hands) -> None:
        one = await hands.run("pinned", Wanted(limits=LIMITS))
        assert await hands.docker.update(one, LIMITS)
        assert await hands.kernel(one) == LIMITS
        await hands.change(one, replace(LIMITS, cpus="0"))
        assert await hands.kernel(one) == replace(LIMITS, cpus="0")
        assert await hands.docker.update(one, LIMITS)
        assert await hands.kernel(one) == replace(LIMITS, cpus="0")
        everywhere = replace(LIMITS, cpus="0-1")
        assert await hands.docker.update(one, everywhere)
        assert await hands.kernel(one) == everywhere
        assert (await hands.docker.containers())[one].docker == everywhere

    async def test_what_does_not_run_cannot_be_updated(self, hands: Hands) -> None:
        one = await hands.run("short", Wanted())
        await hands.stop(one)
        assert not await hands.docker.update(one, LIMITS)
        await hands.remove(one)
        assert not await hands.docker.update(one, LIMITS)
        assert not await hands.docker.update("0" * 64, LIMITS)

    async def test_every_change_of_a_container_is_told(self, hands: Hands) -> None:
        async with following(hands.docker) as seen:
            assert seen == [""]
            one = await hands.run("told", Wanted(limits=LIMITS))
            await told(seen, one)
            assert (await hands.docker.containers())[one].running
            changed = ContainerLimits(
                cpu=LIMITS.cpu, memory=Bytes(80 * MIB), swap=Bytes(0), tasks=60
            )
            await asyncio.sleep(0.2)
            seen.clear()
            await hands.change(one, changed)
            await told(seen, one)
            assert (await hands.docker.containers())[one].docker == changed
            await hands.stop(one)
            await told(seen, one)
            assert not (await hands.docker.containers())[one].running
            await hands.remove(one)
            await told(seen, one)
            assert await hands.docker.containers() == {}
