"""Containers and leaves: which lease a container is of, and how long its leaf stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from enforcer.adapters.fakes.docker import FakeDocker, Wanted
from enforcer.model import EndReason, LeaseState, Usage
from enforcer.names import profile_slice
from enforcer.quantities import GIB, Bytes
from tests.unit.controllerlab import LEAF, TINY, Lab, placed, until

pytestmark = pytest.mark.asyncio


async def test_a_container_starts_with_the_oom_score_that_the_tick_wants() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lease, _ = await controller.claim(TINY)
        container = lab.run(lease)
        asked = controller.placement(lease).oom_score_adj
        assert asked < 0
        await until(lambda: lab.state(lease) is LeaseState.BOUND)
        await controller.tick()
        assert controller.published().desired.containers[container].oom_score_adj == asked


@pytest.mark.parametrize(
    ("end", "reason"), [(FakeDocker.exit, EndReason.EXITED), (FakeDocker.stop, EndReason.STOPPED)]
)
async def test_a_container_is_bound_to_its_lease_and_its_end_releases_it(
    end: Callable[[FakeDocker, str], None], reason: EndReason
) -> None:
    lab = Lab()
    async with lab.running() as controller:
        lease, container = await placed(lab, controller)
        lab.world.kernel.set_usage(LEAF, Usage(cpu_usec=7_000_000, memory_peak=Bytes(GIB)))
        await controller.tick()
        end(lab.world.docker, container)
        lab.world.docker.remove(container)
        await until(lambda: controller.lease(lease.id).deadline is not None)
        lab.world.clock.advance(controller.config.admission.release_seconds + 1)
        await controller.tick()
        assert lab.state(lease) is None
        (receipt,) = await controller.receipts("ann", 10)
        assert receipt.reason is reason
        assert receipt.cpu_seconds == 7.0
        assert receipt.memory_peak == GIB


async def test_a_leaf_goes_once_its_lease_ended_and_no_container_names_it() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lease, container = await placed(lab, controller)
        lab.world.docker.stop(container)
        await controller.release(lease.id, EndReason.STOPPED)
        lab.world.clock.advance(1)
        await controller.tick()
        assert lab.limits(LEAF).memory_max == 2 * GIB  # a stopped container names it still
        assert lab.limits(LEAF).memory_min == 0
        lab.world.docker.remove(container)
        await until(lambda: lab.world.kernel.slice(LEAF) is None)
        assert lab.world.kernel.slice(profile_slice("Tiny")) is not None


async def test_a_leaf_stays_for_a_container_made_since_the_last_list_though_one_had_gone() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lease, container = await placed(lab, controller)
        lab.world.docker.exit(container)
        lab.world.docker.remove(container)
        await until(lambda: controller.published().observed.containers == {})
        lab.world.clock.advance(1)
        lists = lab.world.docker.lists
        lab.world.docker.restart()  # listed once more, after that
        await until(lambda: lab.world.docker.lists > lists)
        await asyncio.sleep(0.02)
        lab.world.clock.advance(1)
        lab.world.docker.trouble.hang(60)
        lab.world.docker.exit(lab.run(lease, "again"))
        await controller.release(lease.id, EndReason.STOPPED)
        await controller.tick()
        assert lab.world.kernel.slice(LEAF) is not None
        lab.world.docker.trouble.recover()
        await controller.tick()
        assert lab.world.kernel.slice(LEAF) is not None


async def test_a_label_counts_only_in_the_slice_of_its_lease() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lease, _ = await controller.claim(TINY)
        lab.world.docker.run("forged", Wanted(lease_id=lease.id))
        await until(lambda: len(controller.published().observed.containers or {}) == 1)
        assert lab.state(lease) is LeaseState.PENDING
