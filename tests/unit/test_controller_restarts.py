"""A controller that starts on what an earlier one left, or on what a reboot left."""

from __future__ import annotations

from dataclasses import replace

import pytest

from enforcer.errors import UnavailableError
from enforcer.model import Claim, EndReason, LeaseState
from enforcer.names import WORKLOAD, profile_slice, user_slice
from enforcer.quantities import GIB, Bytes
from tests.unit.configs import VALID
from tests.unit.controllerlab import (
    HELD,
    LEAF,
    RENAMED,
    TINY,
    WITHOUT_LARGE,
    Lab,
    placed,
    until,
)
from tests.unit.worlds import lease

pytestmark = pytest.mark.asyncio


async def test_a_daemon_that_starts_anew_agrees_with_the_world_again() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lease, _ = await controller.claim(TINY)
        lab.run(lease)
        await until(lambda: lab.state(lease) is LeaseState.BOUND)
    after = Lab(lab.world)
    async with after.running() as controller:
        assert controller.lease(lease.id).state is LeaseState.BOUND
        assert after.limits(LEAF).memory_min == GIB


async def test_after_a_reboot_a_lease_whose_container_is_gone_was_lost() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lease, container = await placed(lab, controller)
    lab.world.reboot()
    after = Lab(lab.world)
    async with after.running() as controller:
        await until(lambda: controller.lease(lease.id).deadline is not None)
        lab.world.docker.remove(container)
        lab.world.clock.advance(controller.config.admission.release_seconds + 1)
        await controller.tick()
        (receipt,) = await controller.receipts("ann", 1)
        assert receipt.reason is EndReason.LOST


async def test_a_container_started_again_after_its_leaf_was_gone_gets_its_limits() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lease, container = await placed(lab, controller)
        lab.world.docker.stop(container)
        await controller.release(lease.id, EndReason.STOPPED)
    lab.world.reboot()
    after = Lab(lab.world)
    async with after.running():
        lab.world.docker.start(container)  # systemd makes the slice, without limits
        await until(lambda: after.limits(LEAF).memory_max == 2 * GIB)
        assert after.limits(LEAF).memory_min == 0


async def test_a_profile_that_went_while_no_daemon_ran_holds_what_runs_in_it() -> None:
    lab = Lab(text=HELD)
    async with lab.running() as controller:
        await placed(lab, controller)
        before = lab.limits(LEAF), lab.limits(profile_slice("Tiny"))
    for _ in range(2):
        after = Lab(lab.world, RENAMED)
        async with after.running():
            assert (after.limits(LEAF), after.limits(profile_slice("Tiny"))) == before
    again = Lab(lab.world, HELD.replace("tasks_limit = 100", "tasks_limit = 200"))
    async with again.running():
        assert again.limits(LEAF).tasks_max == 200
    last = Lab(lab.world, RENAMED)
    async with last.running():
        assert last.limits(LEAF).tasks_max == 200


async def test_a_lease_of_a_ledger_that_tells_of_no_profiles_keeps_what_was_granted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lab = Lab(text=RENAMED)
    await lab.world.ledger.store([replace(lease("ann", "Tiny"), created_at=lab.world.clock.now())])
    async with lab.running():
        assert lab.limits(LEAF).memory_max == 4 * GIB
        assert "nothing tells what profile Tiny was" in caplog.text


async def test_a_container_that_comes_back_is_held_to_a_profile_that_has_gone_meanwhile() -> None:
    lab = Lab(text=HELD)
    async with lab.running() as controller:
        lease, container = await placed(lab, controller)
        lab.world.docker.stop(container)
        await controller.release(lease.id, EndReason.STOPPED)
        lab.text = RENAMED
        await controller.reload()
    lab.world.reboot()
    after = Lab(lab.world, RENAMED)
    async with after.running():
        lab.world.docker.start(container)
        await until(lambda: after.limits(LEAF).tasks_max == 100)


async def test_what_a_full_disk_kept_from_being_written_is_written_with_the_next_lease() -> None:
    lab = Lab(text=VALID)
    async with lab.running():
        pass
    full = Lab(lab.world, HELD)
    lab.world.ledger.trouble.fail("unwritable")
    async with full.running() as controller:
        lab.world.ledger.trouble.recover()
        await controller.claim(TINY)
        before = full.limits(LEAF)
    after = Lab(lab.world, RENAMED)
    async with after.running():
        assert after.limits(LEAF) == before
        assert before.tasks_max == 100


async def test_guarantees_are_cut_to_a_quota_that_shrank_while_no_daemon_ran() -> None:
    lab = Lab()
    async with lab.running() as controller:
        ask = replace(TINY, profile="Large", mem_guarantee=Bytes(10 * GIB))
        for user in ("ann", "bob", "cid", "dan", "eve"):
            await controller.claim(replace(ask, user=user))
    small = VALID + '\n[machine]\nlimit = { cpu = 12, memory = "41 GiB" }\n'
    after = Lab(lab.world, small)
    async with after.running() as controller:
        floors = sum(lease.grant.mem_guarantee for lease in controller.published().leases)
        may_use = after.limits(WORKLOAD).memory_max
        assert may_use is not None
        assert 0 < floors <= may_use
        assert after.limits(WORKLOAD).memory_min == floors


async def test_a_restart_with_a_stricter_policy_cuts_leases_as_a_reload_does() -> None:
    lab = Lab()
    async with lab.running() as controller:
        await controller.claim(TINY)
    after = Lab(lab.world, VALID.replace("mem_guarantee = 10", 'mem_guarantee = "512 MiB"'))
    async with after.running() as controller:
        assert after.limits(LEAF).memory_min == GIB // 2
        (lease,) = controller.published().leases
        assert "from 1 GiB to 512 MiB" in lease.notes[-1]


async def test_a_restart_takes_nothing_from_what_runs_in_a_profile_that_has_gone() -> None:
    lab = Lab()
    async with lab.running() as controller:
        ask = Claim(user="ann", profile="Large", mem_guarantee=Bytes(10 * GIB))
        lease, _ = await controller.claim(ask)
        units = (lease.unit, user_slice("Large", "ann"))
        before = [lab.limits(unit) for unit in units]
    after = Lab(lab.world, WITHOUT_LARGE)
    async with after.running() as controller:
        assert controller.lease(lease.id) == lease
        assert [after.limits(unit) for unit in units] == before


async def test_a_start_that_fails_on_the_ledger_takes_nothing_from_what_runs() -> None:
    lab = Lab()
    async with lab.running() as controller:
        await placed(lab, controller)
    before = lab.limits(LEAF)
    lab.world.ledger.reading.fail("unwritable")
    after = Lab(lab.world)
    with pytest.raises(UnavailableError):
        await after.controller.start()
    await after.controller.stop()
    assert lab.limits(LEAF) == before
    assert before.memory_min == GIB
