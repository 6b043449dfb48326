"""What waits for usage or for a grace's end, and what was given: both outlive the daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from enforcer.adapters.fakes import FakeWorld
from enforcer.adapters.fakes.docker import Wanted
from enforcer.adapters.fakes.systemd import FakeSystemd
from enforcer.controller import Controller
from enforcer.errors import UnavailableError
from enforcer.model import Limits, Resize, Usage
from enforcer.names import UnitName
from enforcer.quantities import GIB, Bytes, Cpus
from tests.unit.configs import CAPACITY, VALID
from tests.unit.controllerlab import LEAF, TINY, Lab, placed, until

pytestmark = pytest.mark.asyncio

GRACE = VALID + "[daemon]\nresize_grace_seconds = 60\n"
FULL = Usage(memory_current=Bytes(3 * GIB // 2))
"""More than 1 GiB, less than 2 GiB."""


class Stubborn(FakeSystemd):
    """PID 1 that cannot set one limit."""

    stubborn = ""

    async def set_limits(
        self, unit: UnitName, limits: Limits, fields: Sequence[str], *, lasting: bool
    ) -> bool:
        if self.stubborn in fields:
            raise UnavailableError("systemd.unverified", f"{unit} does not have what it was given")
        return await FakeSystemd.set_limits(self, unit, limits, fields, lasting=lasting)


@asynccontextmanager
async def resized(lab: Lab) -> AsyncIterator[Controller]:
    """Lower a leaf's limit from 2 GiB to 1 GiB while more is used, so that it waits."""
    async with lab.running() as controller:
        lease, _ = await controller.claim(TINY)
        lab.world.kernel.set_usage(LEAF, FULL)
        await controller.resize(lease.id, Resize(mem_limit=Bytes(GIB)))
        assert lab.limits(LEAF).memory_max == 2 * GIB
        yield controller


def repaired(controller: Controller) -> list[tuple[str, str]]:
    return [(one.subject, one.what) for one in controller.published().repairs]


@pytest.mark.parametrize("grace_seconds", [0, 600])
async def test_a_limit_somebody_took_away_waits_on_after_a_restart(grace_seconds: int) -> None:
    text = VALID + f"[daemon]\nresize_grace_seconds = {grace_seconds}\n" * bool(grace_seconds)
    lab = Lab(text=text)
    async with lab.running() as controller:
        await controller.claim(TINY)
        await controller.tick()
        lab.world.kernel.set_usage(LEAF, Usage(memory_current=Bytes(3 * GIB)))
        lab.world.kernel.write(LEAF, "memory_max", None)
        await controller.tick()
        assert [one.what for one in controller.published().open_drift] == ["memory-raised"]
    for _ in range(2):
        after = Lab(lab.world, text)
        async with after.running() as controller:
            for _ in range(2):
                await controller.tick()
                assert after.limits(LEAF).memory_max is None
                assert [one.what for one in controller.published().open_drift] == ["memory-raised"]
    last = Lab(lab.world, text)
    async with last.running() as controller:
        lab.world.kernel.set_usage(LEAF, Usage(memory_current=Bytes(2 * GIB)))
        await controller.tick()
        assert last.limits(LEAF).memory_max == 2 * GIB
        assert repaired(controller) == [(LEAF, "memory_max")]
        assert await lab.world.ledger.load_waits() == ()


async def test_a_limit_somebody_took_away_just_before_a_restart_waits_too() -> None:
    lab = Lab()
    async with lab.running() as controller:
        await controller.claim(TINY)
        await controller.tick()
        lab.world.kernel.set_usage(LEAF, Usage(memory_current=Bytes(3 * GIB)))
        lab.world.kernel.write(LEAF, "memory_max", None)
    after = Lab(lab.world)
    async with after.running() as controller:
        assert after.limits(LEAF).memory_max is None
        assert [one.what for one in controller.published().open_drift] == ["memory-raised"]


async def test_a_swap_limit_somebody_took_away_waits_on_after_a_restart() -> None:
    text = VALID.replace("mem_limit = 2\n", 'mem_limit = 2\nswap_limit = "1 GiB"\n')
    lab = Lab(text=text)
    async with lab.running() as controller:
        await controller.claim(TINY)
        await controller.tick()
        lab.world.kernel.set_usage(LEAF, Usage(swap_current=Bytes(2 * GIB)))
        lab.world.kernel.write(LEAF, "swap_max", None)
        await controller.tick()
    after = Lab(lab.world, text)
    async with after.running() as controller:
        assert after.limits(LEAF).swap_max is None
        lab.world.kernel.set_usage(LEAF, Usage(swap_current=Bytes(GIB)))
        await controller.tick()
        assert after.limits(LEAF).swap_max == GIB
        assert repaired(controller) == [(LEAF, "swap_max")]


async def test_a_grace_that_ends_while_pid_1_fails_is_over_when_it_answers_again() -> None:
    lab = Lab(text=GRACE)
    async with resized(lab) as controller:
        lab.world.systemd.trouble.fail("timeout")
        for seconds in (61, 10):
            lab.world.clock.advance(seconds)
            await controller.tick()
            assert not controller.published().deferred
            assert await lab.world.ledger.load_waits()
        lab.world.systemd.trouble.recover()
        lab.world.clock.advance(10)
        await controller.tick()
        assert lab.limits(LEAF).memory_max == GIB
        assert await lab.world.ledger.load_waits() == ()


async def test_a_daemon_that_is_killed_as_a_grace_ends_applies_the_limit_at_its_next_start() -> (
    None
):
    lab = Lab(text=GRACE)
    async with resized(lab) as controller:
        lab.world.systemd.trouble.fail("timeout")
        lab.world.clock.advance(61)
        await controller.tick()
    lab.world.systemd.trouble.recover()
    after = Lab(lab.world, GRACE)
    async with after.running():
        assert after.limits(LEAF).memory_max == GIB


async def test_usage_that_allowed_a_limit_while_pid_1_failed_gives_no_new_grace() -> None:
    lab = Lab(text=GRACE)
    async with resized(lab) as controller:
        (before,) = controller.published().deferred
        lab.world.systemd.trouble.fail("timeout")
        lab.world.clock.advance(30)
        lab.world.kernel.set_usage(LEAF, Usage())
        await controller.tick()
        assert not controller.published().deferred
        lab.world.kernel.set_usage(LEAF, FULL)
        await controller.tick()
        assert controller.published().deferred == (before,)


async def test_what_somebody_raises_right_after_a_grace_has_ended_waits_for_itself() -> None:
    lab = Lab(text=GRACE)
    async with resized(lab) as controller:
        lab.world.clock.advance(61)
        await controller.tick()
        assert lab.limits(LEAF).memory_max == GIB
        lab.world.kernel.write(LEAF, "memory_max", None)
        await controller.tick()
        assert lab.limits(LEAF).memory_max is None
        (waits,) = controller.published().deferred
        assert waits.deadline == pytest.approx(lab.world.clock.monotonic() + 60)


@pytest.mark.parametrize("weight", [None, 9])
async def test_after_a_restart_what_somebody_changes_where_something_waits_is_drift(
    weight: int | None,
) -> None:
    lab = Lab()
    async with resized(lab):
        pass
    if weight is not None:  # then the first tick has something of its own to set
        lab.world.kernel.write(LEAF, "cpu_weight", weight)
    after = Lab(lab.world)
    async with after.running() as controller:
        assert not controller.published().repairs
        lab.world.kernel.write(LEAF, "memory_max", Bytes(50 * GIB))
        lab.world.kernel.write(LEAF, "tasks_max", 5)
        await controller.tick()
        assert after.limits(LEAF).memory_max == 2 * GIB
        assert after.limits(LEAF).tasks_max != 5
        assert sorted(repaired(controller)) == [(LEAF, "memory_max"), (LEAF, "tasks_max")]
        assert [one.wanted for one in controller.published().deferred] == [GIB]


async def test_after_a_restart_what_somebody_raises_further_is_put_back_to_what_was_given() -> None:
    lab = Lab()
    async with resized(lab):
        pass
    lab.world.kernel.write(LEAF, "memory_max", Bytes(50 * GIB))
    lab.world.kernel.write(LEAF, "cpu_weight", 9)
    lab.world.kernel.set_usage(LEAF, Usage(memory_current=Bytes(3 * GIB)))
    after = Lab(lab.world)
    async with after.running() as controller:
        lab.world.kernel.set_usage(LEAF, FULL)
        await controller.tick()
        assert after.limits(LEAF).memory_max == 2 * GIB
        assert repaired(controller) == [(LEAF, "memory_max")]


async def test_after_a_restart_what_pid_1_did_not_set_at_once_is_no_drift() -> None:
    world = FakeWorld(capacity=CAPACITY)
    systemd = Stubborn(world.cgroups, world.docker)
    world.systemd = systemd
    async with Lab(world).running() as controller:
        await controller.claim(TINY)
    world.kernel.write(LEAF, "tasks_max", None)
    world.kernel.write(LEAF, "cpu_weight", 9)
    systemd.stubborn = "tasks_max"
    after = Lab(world)
    async with after.running() as controller:
        assert after.limits(LEAF).cpu_weight != 9
        assert after.limits(LEAF).tasks_max is None
        systemd.stubborn = ""
        await controller.tick()
        assert after.limits(LEAF).tasks_max is not None
        assert not controller.published().repairs


async def test_after_a_restart_a_container_in_a_leaf_that_waits_is_mended_as_drift() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lease, container = await placed(lab, controller)
        lab.world.kernel.set_usage(LEAF, FULL)
        await controller.resize(lease.id, Resize(mem_limit=Bytes(GIB)))
    after = Lab(lab.world)
    async with after.running() as controller:
        await until(lambda: controller.published().observed.containers is not None)
        await controller.tick()
        scope = lab.world.cgroups.scopes[container]
        lab.world.kernel.write_scope(container, replace(scope.limits, cpu=Cpus(8_000_000)))
        await until(lambda: bool(controller.published().repairs))
        assert repaired(controller) == [("container ann-lab", "cpu")]
        assert scope.limits.memory == 2 * GIB


async def test_a_container_outside_has_its_grace_once_whenever_docker_answers() -> None:
    lab = Lab(text=GRACE)
    outside = Wanted(cgroup_parent="system.slice")
    async with lab.running() as controller:
        container = lab.world.docker.run("outside", outside)
        lab.world.kernel.set_scope_usage(container, Usage(memory_current=Bytes(100 * GIB)))
        await until(lambda: bool(controller.published().deferred))
        (before,) = controller.published().deferred
        assert before.subject == container
    lab.world.docker.trouble.fail()
    after = Lab(lab.world, GRACE)
    async with after.running() as controller:
        lab.world.clock.advance(50)
        await controller.tick()
        assert controller.published().deferred == (before,)
        assert await lab.world.ledger.load_waits()
        lab.world.clock.advance(50)
        await controller.tick()
        assert not controller.published().deferred
        assert lab.world.docker.updates[-1][1].memory is None
        lab.world.docker.trouble.recover()
        lab.world.docker.restart()
        await until(lambda: lab.world.docker.updates[-1][1].memory == before.wanted)
        await controller.tick()
        assert await lab.world.ledger.load_waits() == ()
