"""OOM kills: what a lease's history and its receipt say of them."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest

from enforcer.controller import Controller
from enforcer.model import EndReason, Lease, Resize, Usage
from enforcer.names import profile_slice
from enforcer.quantities import GIB, Bytes
from tests.unit.configs import VALID
from tests.unit.controllerlab import LEAF, TINY, Lab, placed, until

USED = Usage(cpu_usec=7_000_000, memory_peak=Bytes(GIB), oom_kills=2, oom_events=2)

pytestmark = pytest.mark.asyncio


async def test_a_container_that_an_oom_kill_ended_leaves_a_receipt_that_says_so() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lease, container = await placed(lab, controller)
        lab.world.oom_kill(container, own=True)
        await until(lambda: controller.lease(lease.id).deadline is not None)
        lab.world.clock.advance(controller.config.admission.release_seconds + 1)
        await controller.tick()
        (receipt,) = await controller.receipts("ann", 10)
        assert receipt.reason is EndReason.OOM_LIMIT
        assert (receipt.oom_kills, receipt.oom_kills_as_victim) == (1, 0)


async def test_a_kill_is_told_with_the_limit_it_was_at_and_whose_that_was() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lease, container = await placed(lab, controller)
        kill = lab.world.kernel.kill

        async def resized(limit: int) -> None:
            await controller.resize(lease.id, Resize(mem_limit=Bytes(limit)))
            await until(lambda: lab.world.cgroups.scopes[container].limits.memory == limit)
            await ticked()

        async def ticked() -> None:
            lab.world.clock.advance(controller.config.daemon.tick_seconds)
            await controller.tick()

        await resized(GIB)
        kill(container, own=True)  # at the limit of the container's scope
        await ticked()
        kill(container, profile_slice("Tiny"))
        await ticked()
        await resized(2 * GIB)
        kill(container, LEAF)
        await ticked()
        kill(container)
        kill(container, LEAF)
        await controller.tick()
        await resized(GIB)  # within the same sample
        told = [
            (one.mem_limit, one.oom_kills, one.oom_own)
            for _, one in controller.history(lease.id).samples
            if one.oom_kills
        ]
        assert told == [(GIB, 1, 1), (GIB, 1, 0), (2 * GIB, 1, 1), (2 * GIB, 2, 1)]
        await controller.release(lease.id, EndReason.STOPPED)
        (receipt,) = await controller.receipts("ann", 1)
        assert (receipt.oom_kills, receipt.oom_kills_as_victim) == (3, 2)
        assert (receipt.limit_at_kill, receipt.grant.mem_limit) == (2 * GIB, GIB)


async def test_kills_from_before_a_start_of_the_daemon_are_no_news() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lease, container = await placed(lab, controller)
        lab.world.kernel.kill(container, own=True)
        await controller.tick()
    after = Lab(lab.world)
    async with after.running() as controller:
        for _ in range(3):
            lab.world.clock.advance(controller.config.daemon.tick_seconds)
            await controller.tick()
        found = controller.history(lease.id).samples
        assert found
        assert not any(one.oom_kills or one.oom_own for _, one in found)


async def test_what_an_earlier_lease_used_is_on_no_other_receipt_though_the_daemon_is_killed() -> (
    None
):
    lab = Lab()
    async with lab.running() as controller:
        lease = await _claim_a_used_leaf(lab, controller)
        as_on_disk = deepcopy(lab.world.ledger)
    lab.world.ledger = as_on_disk
    async with Lab(lab.world).running() as controller:
        await controller.release(lease.id, EndReason.STOPPED)
        (receipt, _) = await controller.receipts("ann", 10)
        assert (receipt.lease_id, receipt.reason) == (lease.id, EndReason.STOPPED)
        assert (receipt.cpu_seconds, receipt.memory_peak) == (0, 0)
        assert (receipt.oom_kills, receipt.oom_kills_as_victim) == (0, 0)


async def test_what_was_seen_of_a_lease_just_before_a_stop_is_on_its_receipt() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lease = await _claim_a_used_leaf(lab, controller)
        await controller.tick()
        for current in (GIB // 2, 0):
            usage = replace(USED, memory_current=Bytes(current))
            lab.world.kernel.set_usage(LEAF, usage)
            await controller.tick()
    async with Lab(lab.world).running() as controller:
        await controller.release(lease.id, EndReason.STOPPED)
        (receipt, _) = await controller.receipts("ann", 10)
        assert receipt.memory_peak == GIB // 2


async def _claim_a_used_leaf(lab: Lab, controller: Controller) -> Lease:
    """Claim a lease whose leaf an earlier one has used, and a stopped container still names."""
    earlier, container = await placed(lab, controller)
    lab.world.kernel.set_usage(LEAF, USED)
    await controller.tick()
    lab.world.docker.stop(container)
    await controller.release(earlier.id, EndReason.STOPPED)
    return (await controller.claim(TINY))[0]


async def test_a_receipt_tells_the_moment_and_the_cause_though_the_release_comes_late() -> None:
    lab = Lab(text=VALID + "[admission]\nrelease_seconds = 600\n")
    async with lab.running() as controller:
        lease, container = await placed(lab, controller)
        killed_at = lab.world.clock.now()
        lab.world.oom_kill(container, own=True)
        await until(lambda: controller.lease(lease.id).deadline is not None)
        lab.world.clock.advance(601)
        await controller.tick()
        (receipt,) = await controller.receipts("ann", 10)
        assert (receipt.reason, receipt.ended_at) == (EndReason.OOM_LIMIT, killed_at)
