"""What becomes of a claim, and what its lease has on the kernel meanwhile."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from enforcer.adapters.fakes.docker import Wanted
from enforcer.api.replies import placement_reply
from enforcer.controller import Controller
from enforcer.errors import ConflictError, EnforcerError, UnavailableError
from enforcer.model import Claim, EndReason, LeaseState, Resize, Usage
from enforcer.names import ROOT, WORKLOAD, ancestors, lease_slice, profile_slice, user_slice
from enforcer.quantities import GIB, Bytes, Cpus
from enforcer.slices import KERNELS_OWN
from tests.unit.configs import VALID
from tests.unit.controllerlab import LEAF, TINY, Lab, placed, until

pytestmark = pytest.mark.asyncio


async def test_a_claim_is_in_force_on_the_kernel_when_it_is_answered() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lease, new = await controller.claim(TINY)
        assert new
        assert lease.state is LeaseState.PENDING
        leaf = lab.limits(LEAF)
        assert leaf.memory_max == 2 * GIB
        assert leaf.memory_min == GIB
        assert leaf.swap_max == 0
        assert lab.limits(profile_slice("Tiny")).memory_min == GIB
        assert lab.limits(WORKLOAD).memory_min == GIB
        assert lab.limits(ROOT).memory_min >= GIB + controller.config.engine.memory
        assert controller.placement(lease).slice == LEAF


async def test_a_container_is_told_what_its_profile_says_beside_cpu_and_memory() -> None:
    more = 'mem_limit = 2\nswap_limit = "1 GiB"\ntasks_limit = 77\nshm_size = "25%"\n'
    lab = Lab(text=VALID.replace("mem_limit = 2\n", more))
    async with lab.running() as controller:
        found = []
        for claim in (TINY, replace(TINY, user="bob", profile="Large")):
            lease, _ = await controller.claim(claim)
            reply = placement_reply(controller.placement(lease))
            found.append((reply.shm_size, reply.pids_limit, reply.memory_swap - reply.memory))
        assert found == [(GIB // 2, 77, GIB), (None, 4096, 0)]


async def test_the_same_claim_again_is_the_same_lease() -> None:
    lab = Lab()
    async with lab.running() as controller:
        first, _ = await controller.claim(TINY)
        second, new = await controller.claim(TINY)
        assert second.id == first.id
        assert not new


async def test_a_users_total_holds_as_long_as_the_leaf_of_the_last_lease() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lease, _ = await placed(lab, controller)
        async with _anns_limits_stay(lab, controller):
            await controller.release(lease.id, EndReason.STOPPED)


async def test_a_lease_that_ends_before_a_tick_saw_its_leaf_lifts_no_limit_of_its_user() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lease, _ = await controller.claim(TINY)
        async with _anns_limits_stay(lab, controller):
            await controller.release(lease.id, EndReason.STOPPED)


async def test_nor_does_one_whose_leaf_was_made_and_not_found_as_promised() -> None:
    lab = Lab()
    async with lab.running() as controller:
        claim = asyncio.create_task(controller.claim(TINY))
        while lab.world.kernel.slice(LEAF) is None:  # noqa: ASYNC110 - it sets no event
            await asyncio.sleep(0)
        lab.world.kernel.write(LEAF, "tasks_max", 7)
        with pytest.raises(UnavailableError, match="tasks_max is 7"):
            await claim
        async with _anns_limits_stay(lab, controller):
            pass


async def test_the_same_claim_any_number_of_times_is_remembered_once() -> None:
    lab = Lab()
    async with lab.running() as controller:
        await placed(lab, controller)
        before = _most_times_in_a_list(LEAF)
        for _ in range(5):
            await controller.claim(TINY)
            await controller.tick()
        assert _most_times_in_a_list(LEAF) <= before


async def test_a_label_that_names_no_lease_is_not_remembered() -> None:
    lab, made_up = Lab(), f"{7:032x}"
    async with lab.running() as controller:
        lease, bound = await placed(lab, controller)
        other = lab.world.docker.run("other", Wanted(lease_id=made_up))
        await controller.release(lease.id, EndReason.STOPPED)
        await until(lambda: other in (controller.published().observed.containers or {}))
        for container in (bound, other):
            lab.world.docker.remove(container)
        await until(lambda: not controller.published().observed.containers)
        sets = [one for one in gc.get_objects() if type(one) is set]
        assert not [one for one in sets if made_up in one or lease.id in one]


async def test_no_floor_is_lowered_for_a_new_lease_before_the_old_leaf_has_none() -> None:
    lab = Lab()
    other = replace(TINY, server="b")
    async with lab.running() as controller:
        first, _ = await controller.claim(TINY)
        above = ancestors(first.unit)
        one = {unit: lab.limits(unit).memory_min for unit in above}
        await controller.release(first.id, EndReason.STOPPED)  # a tick comes, but not at once
        second, _ = await controller.claim(other)
        assert lab.limits(first.unit).memory_min == lab.limits(second.unit).memory_min == GIB
        for unit in above[:3]:
            assert lab.limits(unit).memory_min == one[unit] + GIB
        await controller.tick()
        assert lab.limits(second.unit).memory_min == GIB
        assert {unit: lab.limits(unit).memory_min for unit in above} == one


async def test_a_claim_does_not_build_on_a_floor_that_somebody_else_has_set() -> None:
    lab = Lab()
    async with lab.running() as controller:
        await placed(lab, controller)
        lab.world.kernel.write(WORKLOAD, "memory_min", Bytes(20 * GIB))
        await controller.claim(replace(TINY, server="b"))
        assert lab.limits(WORKLOAD).memory_min == 2 * GIB


async def test_of_two_claims_for_the_last_free_guarantee_one_wins() -> None:
    text = VALID + '[admission]\nmode = "refuse"\n'
    lab = Lab(text=text.replace("cpu_guarantee = 5", "cpu_guarantee = 10"))
    async with lab.running() as controller:
        room = controller.config.quota.cpu - controller.config.engine.cpu
        most = Cpus(min(room, 10_000_000))
        claims = [
            Claim(user=f"u{n}", profile="Large", cpu_guarantee=most, mem_guarantee=Bytes(0))
            for n in range(room // most + 1)
        ]
        results = await asyncio.gather(*map(controller.claim, claims), return_exceptions=True)
        assert sum(isinstance(one, EnforcerError) for one in results) == 1


async def test_a_lease_whose_container_just_starts_cannot_be_slipped_away_from_it() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lease, _ = await controller.claim(TINY)
        lab.run(lease)
        with pytest.raises(ConflictError, match="is starting"):
            await controller.release(lease.id, EndReason.CANCELLED, unless_running=True)
        with pytest.raises(ConflictError, match="is starting"):
            await controller.claim(replace(TINY, mem_guarantee=Bytes(0)))
        assert lab.state(lease) is LeaseState.PENDING
        assert (await controller.claim(TINY))[0].id == lease.id
        await until(lambda: lab.state(lease) is LeaseState.BOUND)


async def test_a_pending_lease_without_a_container_expires() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lease, _ = await controller.claim(TINY)
        lab.world.clock.advance(controller.config.admission.claim_seconds + 1)
        await controller.tick()
        assert lab.state(lease) is None
        (receipt,) = await controller.receipts("ann", 1)
        assert receipt.reason is EndReason.EXPIRED


async def test_a_queued_claim_is_placed_when_there_is_room() -> None:
    text = VALID.replace("cpu_guarantee = 5", "cpu_guarantee = 10")
    lab = Lab(text=text + '[admission]\nmode = "queue"\n')
    async with lab.running() as controller:
        room = controller.config.quota.cpu - controller.config.engine.cpu
        ask = Claim(
            user="", profile="Large", cpu_guarantee=Cpus(10_000_000), mem_guarantee=Bytes(0)
        )
        running = [
            (await controller.claim(replace(ask, user=f"u{n}")))[0]
            for n in range(room // 10_000_000)
        ]
        queued, _ = await controller.claim(replace(ask, user="late"))
        assert queued.state is LeaseState.QUEUED
        assert controller.queue_place(queued)[0] == 1
        waiting = asyncio.create_task(controller.wait(queued.id, LeaseState.QUEUED, 5.0))
        await controller.release(running[0].id, EndReason.STOPPED)
        assert (await waiting).state is LeaseState.PENDING
        await until(lambda: lab.world.kernel.slice(lease_slice("Large", "late", "")) is not None)


async def test_a_resize_changes_the_kernels_numbers_and_goes_back_in_time() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lease, _ = await controller.claim(TINY)
        await controller.resize(lease.id, Resize(mem_limit=Bytes(GIB), seconds=60))
        assert lab.limits(LEAF).memory_max == GIB
        lab.world.clock.advance(61)
        await controller.tick()
        assert lab.limits(LEAF).memory_max == 2 * GIB


async def test_a_lowered_limit_waits_until_usage_allows() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lease, _ = await controller.claim(TINY)
        lab.world.kernel.set_usage(LEAF, Usage(memory_current=Bytes(3 * GIB // 2)))
        await controller.resize(lease.id, Resize(mem_limit=Bytes(GIB)))
        assert lab.limits(LEAF).memory_max == 2 * GIB
        assert controller.published().deferred[0].subject == LEAF
        lab.world.kernel.set_usage(LEAF, Usage(memory_current=Bytes(GIB // 2)))
        await controller.tick()
        assert lab.limits(LEAF).memory_max == GIB


def _most_times_in_a_list(word: str) -> int:
    gc.collect()
    lists = (one for one in gc.get_objects() if type(one) is list)
    return max(sum(type(each) is str and each == word for each in one) for one in lists)


@asynccontextmanager
async def _anns_limits_stay(lab: Lab, controller: Controller) -> AsyncIterator[None]:
    """Whatever ends here: at the next tick her slice has what it had, but for what was promised."""
    before = lab.limits(user_slice("Tiny", "ann"))
    assert before.memory_max == 40 * GIB + KERNELS_OWN
    yield
    await controller.tick()
    after = lab.limits(user_slice("Tiny", "ann"))
    assert after == replace(before, memory_min=Bytes(0), cpu_weight=after.cpu_weight)
