"""The controller when something of the world fails, or when an answer comes at a bad moment."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from enforcer.adapters.fakes import FakeWorld
from enforcer.adapters.fakes.systemd import FakeSystemd
from enforcer.api.overview import machine_reply
from enforcer.api.routes import Api
from enforcer.api.types import LeaseReply
from enforcer.errors import UnavailableError
from enforcer.model import EndReason, Lease, LeaseState, Limits, Resize, Usage
from enforcer.names import ENGINE, ROOT, WORKLOAD, UnitName, lease_slice
from enforcer.quantities import GIB, Bytes
from tests.unit.configs import CAPACITY, VALID
from tests.unit.controllerlab import LEAF, TINY, Lab, NoMetrics, call, placed, until

pytestmark = pytest.mark.asyncio


class Stubborn(FakeSystemd):
    """PID 1 that cannot give one unit what it is told."""

    stubborn: UnitName | None = None

    async def set_limits(
        self, unit: UnitName, limits: Limits, fields: Sequence[str], *, lasting: bool
    ) -> bool:
        if unit == self.stubborn:
            raise UnavailableError("systemd.unverified", f"{unit} does not have what it was given")
        return await FakeSystemd.set_limits(self, unit, limits, fields, lasting=lasting)


async def test_a_unit_that_cannot_be_set_keeps_no_other_from_being_mended() -> None:
    world = FakeWorld(capacity=CAPACITY)
    systemd = Stubborn(world.cgroups, world.docker)
    world.systemd = systemd
    lab = Lab(world)
    async with lab.running() as controller:
        await controller.claim(TINY)
        bobs = (await controller.claim(replace(TINY, user="bob")))[0].unit
        systemd.stubborn = LEAF
        for unit in (LEAF, bobs):
            world.cgroups.write(unit, replace(lab.limits(unit), cpu_quota=None))
        await controller.tick()
        assert lab.limits(LEAF).cpu_quota is None
        assert lab.limits(bobs).cpu_quota is not None
        assert (await controller.claim(replace(TINY, user="cid")))[1]


async def test_without_docker_admission_and_enforcement_go_on() -> None:
    lab = Lab()
    lab.world.docker.trouble.hang(0.2)
    async with lab.running() as controller:
        lease, _ = await controller.claim(TINY)
        assert lease.state is LeaseState.PENDING
        lab.world.kernel.write(LEAF, "memory_max", None)
        await until(lambda: lab.limits(LEAF).memory_max == 2 * GIB)
        assert not controller.published().docker_ok


async def test_a_container_that_cannot_be_inspected_gets_its_lease_by_where_it_runs() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lease, _ = await controller.claim(TINY)
        container = lab.run(lease)
        lab.world.docker.unread[container] = "layer does not exist"
        lab.world.clock.advance(controller.config.admission.claim_seconds + 1)
        await until(lambda: lab.state(lease) is LeaseState.BOUND)
        await controller.tick()
        (told,) = controller.published().open_drift
        assert (told.what, told.subject) == ("container-unread", container)
        assert told.message == "container ann-lab cannot be inspected: layer does not exist"
        assert controller.published().docker_ok
        lab.world.docker.unread.clear()
        lab.world.docker.restart()
        await until(lambda: not controller.published().open_drift)


async def test_the_limits_of_a_container_that_docker_cannot_inspect_are_mended_all_the_same() -> (
    None
):
    lab = Lab()
    async with lab.running() as controller:
        lease, _ = await controller.claim(TINY)
        container = lab.run(lease)
        lab.world.docker.unread[container] = "layer does not exist"
        scope = lab.world.cgroups.scopes[container]
        scope.limits = replace(scope.limits, memory=Bytes(9 * GIB))
        await until(lambda: lab.state(lease) is LeaseState.BOUND)
        await until(lambda: scope.limits.memory == 2 * GIB)


async def test_a_leaf_stays_while_a_stopped_container_that_may_name_it_cannot_be_inspected() -> (
    None
):
    lab = Lab()
    async with lab.running() as controller:
        lease, container = await placed(lab, controller)
        lab.world.docker.unread[container] = "layer does not exist"
        lab.world.docker.stop(container)
        await controller.release(lease.id, EndReason.STOPPED)
        await until(lambda: bool(controller.published().open_drift))
        lists = lab.world.docker.lists
        lab.world.clock.advance(1)
        lab.world.docker.restart()
        await until(lambda: lab.world.docker.lists > lists)
        await asyncio.sleep(0.02)
        lab.world.clock.advance(1)
        await controller.tick()
        await controller.tick()
        assert lab.world.kernel.slice(LEAF) is not None
        lab.world.docker.remove(container)
        await until(lambda: lab.world.kernel.slice(LEAF) is None)


async def test_containers_that_docker_is_silent_about_keep_their_part_of_the_engines_floor() -> (
    None
):
    lab = Lab()
    async with lab.running() as controller:
        for number in range(20):
            lab.world.docker.run(f"other-{number}")
        await until(lambda: len(controller.published().observed.containers or {}) == 20)
        await placed(lab, controller)
        units = ROOT, ENGINE, WORKLOAD
        before = [lab.limits(unit) for unit in units]
        free = machine_reply(controller.published()).free
        lab.world.docker.trouble.fail()
        lab.world.docker.restart()
        await until(lambda: not controller.published().docker_ok)
        assert [lab.limits(unit) for unit in units] == before
        assert machine_reply(controller.published()).free == free
        await controller.claim(replace(TINY, server="b"))
        with_two = [lab.limits(unit).memory_max for unit in units]
    after = Lab(lab.world)
    async with after.running() as controller:
        assert not controller.published().docker_ok
        assert [lab.limits(unit).memory_max for unit in units] == with_two
        assert controller.plan(lab.text) == ()


async def test_when_pid_1_hangs_a_claim_fails_and_leaves_no_lease() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lab.world.systemd.trouble.fail("timeout")
        with pytest.raises(UnavailableError):
            await controller.claim(TINY)
        assert controller.published().leases == ()
        lab.world.systemd.trouble.recover()
        lab.world.clock.advance(60)
        lease, _ = await controller.claim(TINY)
        assert lab.limits(LEAF).memory_max == 2 * GIB
        assert lab.state(lease) is LeaseState.PENDING


async def test_with_a_full_disk_nothing_is_admitted_and_nothing_is_lost() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lease, _ = await controller.claim(TINY)
        lab.world.ledger.trouble.fail("unwritable")
        with pytest.raises(UnavailableError):
            await controller.claim(replace(TINY, user="bob"))
        await controller.tick()
        assert lab.state(lease) is LeaseState.PENDING
        assert lab.world.kernel.slice(lease_slice("Tiny", "bob", "")) is None


async def test_a_lease_whose_turn_has_just_come_is_told_when_its_slices_are_there() -> None:
    lab = Lab(text=VALID + '[admission]\nmode = "queue"\n')
    async with lab.running() as controller:
        api = Api(controller, NoMetrics())
        held: list[Lease] = []
        while True:
            lease, _ = await controller.claim(
                replace(TINY, user=f"u{len(held)}", profile="Large", mem_guarantee=Bytes(10 * GIB))
            )
            held.append(lease)
            if lease.state is LeaseState.QUEUED:
                break
        lab.world.systemd.trouble.hang(1.0)
        await controller.release(held[0].id, EndReason.STOPPED)
        await until(lambda: lab.state(lease) is LeaseState.PENDING)
        asked = asyncio.create_task(api.lease(call(lease_id=lease.id)))
        await asyncio.sleep(0.05)
        assert not asked.done()
        assert lab.world.kernel.slice(lease.unit) is None
        lab.world.systemd.trouble.recover()
        reply = (await asked).reply
        assert isinstance(reply, LeaseReply)
        assert reply.placement is not None
        assert lab.limits(lease.unit).memory_min == 10 * GIB


async def test_a_claim_that_pid_1_does_not_answer_shows_in_the_status_at_once() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lab.world.systemd.trouble.hang(0.05)
        with pytest.raises(UnavailableError):
            await controller.claim(TINY)
        assert not controller.published().systemd_ok
        lab.world.systemd.trouble.recover()
        await controller.claim(TINY)
        assert controller.published().systemd_ok


async def test_a_resize_that_pid_1_has_not_done_is_none_and_is_done_once_it_can_be() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lease, _ = await controller.claim(TINY)
        lab.world.systemd.trouble.fail("timeout")
        with pytest.raises(UnavailableError, match=rf"{LEAF}: memory_max is {2 * GIB}") as caught:
            await controller.resize(lease.id, Resize(mem_limit=Bytes(GIB)))
        assert caught.value.code == "resize.not-in-force"
        lab.world.systemd.trouble.recover()
        lab.world.clock.advance(60)
        await controller.tick()
        assert lab.limits(LEAF).memory_max == GIB
        assert controller.lease(lease.id).grant.mem_limit == GIB


async def test_a_user_is_told_before_a_lowered_limit_is_applied() -> None:
    lab = Lab(text=VALID + "[daemon]\nresize_grace_seconds = 60\n")
    async with lab.running() as controller:
        api = Api(controller, NoMetrics())
        lease, _ = await controller.claim(TINY)
        lab.world.kernel.set_usage(LEAF, Usage(memory_current=Bytes(3 * GIB // 2)))
        await controller.resize(lease.id, Resize(mem_limit=Bytes(GIB)))
        reply = (await api.lease(call(lease_id=lease.id))).reply
        assert isinstance(reply, LeaseReply)
        assert "the memory limit of 1 GiB waits" in reply.notes[-1]
        assert "in 60 s it is applied anyway" in reply.notes[-1]


async def test_a_restart_of_the_daemon_gives_a_lowered_limit_no_new_grace() -> None:
    lab = Lab(text=VALID + "[daemon]\nresize_grace_seconds = 60\n")
    async with lab.running() as controller:
        lease, _ = await controller.claim(TINY)
        lab.world.kernel.set_usage(LEAF, Usage(memory_current=Bytes(3 * GIB // 2)))
        await controller.resize(lease.id, Resize(mem_limit=Bytes(GIB)))
    lab.world.clock.advance(50)
    again = Lab(lab.world, lab.text)
    async with again.running() as controller:
        assert again.limits(LEAF).memory_max == 2 * GIB
        lab.world.clock.advance(9)
        await controller.tick()
        assert again.limits(LEAF).memory_max == 2 * GIB
        lab.world.clock.advance(2)
        await controller.tick()
        assert again.limits(LEAF).memory_max == GIB
    assert await lab.world.ledger.load_waits() == ()


async def test_a_user_is_told_of_a_lowered_swap_limit_too() -> None:
    swapping = VALID.replace("mem_limit = 2\n", 'mem_limit = 2\nswap_limit = "1 GiB"\n')
    lab = Lab(text=swapping)
    async with lab.running() as controller:
        api = Api(controller, NoMetrics())
        lease, _ = await controller.claim(TINY)
        usage = Usage(memory_current=Bytes(GIB), swap_current=Bytes(GIB // 2))
        lab.world.kernel.set_usage(LEAF, usage)
        lab.text = swapping.replace("1 GiB", "256 MiB")
        await controller.reload()
        await controller.tick()
        assert lab.limits(LEAF).swap_max == GIB
        reply = (await api.lease(call(lease_id=lease.id))).reply
        assert isinstance(reply, LeaseReply)
        assert reply.notes[-1] == "the swap limit of 256 MiB waits until less is used"
        again, new = await controller.claim(TINY)
        assert (again.id, new) == (lease.id, False)


@pytest.mark.parametrize("file", ["memory.events", "pids.events", "pids.events.local"])
async def test_a_container_at_its_limit_makes_no_storm_of_ticks(file: str) -> None:
    lab = Lab(text=VALID + "[daemon]\ntick_seconds = 60\n")
    async with lab.running() as controller:
        await controller.claim(TINY)
        await asyncio.sleep(0.3)
        before = controller.published().tick.ticks
        for _ in range(10):
            lab.world.cgroups.tell(LEAF, file)
            await asyncio.sleep(0.03)
        assert controller.published().tick.ticks == before


async def test_a_container_that_a_hung_docker_does_not_tell_of_keeps_its_lease() -> None:
    lab = Lab()
    async with lab.running() as controller:
        await until(lambda: controller.published().observed.containers is not None)
        lease, _ = await controller.claim(TINY)
        lab.world.docker.trouble.hang(0.01)
        lab.run(lease)
        await until(lambda: controller.published().observed.containers is None)
        lab.world.clock.advance(controller.config.admission.claim_seconds + 1)
        await controller.tick()
        assert lab.state(lease) is LeaseState.PENDING
        lab.world.docker.trouble.recover()
        lab.world.docker.restart()
        await until(lambda: lab.state(lease) is LeaseState.BOUND)


async def test_a_container_that_docker_has_not_listed_yet_keeps_its_lease() -> None:
    lab = Lab()
    async with lab.running() as controller:
        await until(lambda: controller.published().observed.containers is not None)
        lease, _ = await controller.claim(TINY)
        lab.world.docker.trouble.hang(60)  # what was listed before is all that is known
        lab.run(lease)
        lab.world.clock.advance(controller.config.admission.claim_seconds + 1)
        await controller.tick()
        assert controller.published().observed.containers == {}
        assert lab.state(lease) is LeaseState.PENDING


async def test_a_claim_whose_container_never_came_expires_without_docker_too() -> None:
    lab = Lab()
    lab.world.docker.trouble.fail()
    async with lab.running() as controller:
        lease, _ = await controller.claim(TINY)
        lab.world.clock.advance(controller.config.admission.claim_seconds + 1)
        await controller.tick()
        assert lab.state(lease) is None
        (receipt,) = await controller.receipts("ann", 10)
        assert receipt.reason is EndReason.EXPIRED


async def test_a_container_that_a_reboot_ended_gets_its_lease_back_when_docker_is_there() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lease, container = await placed(lab, controller)
        lab.world.docker.exit(container)
        await until(lambda: controller.lease(lease.id).deadline is not None)
        release_seconds = controller.config.admission.release_seconds
    lab.world.docker.trouble.fail()
    lab.world.clock.advance(release_seconds + 60)
    after = Lab(lab.world)
    async with after.running() as controller:
        assert after.state(lease) is LeaseState.BOUND
        await controller.tick()
        assert after.state(lease) is LeaseState.BOUND
        lab.world.docker.start(container)  # as --restart=always does
        lab.world.docker.trouble.recover()
        lab.world.docker.restart()
        await until(lambda: controller.lease(lease.id).deadline is None)


async def test_a_lease_whose_container_has_gone_ends_as_soon_as_docker_says_so() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lease, container = await placed(lab, controller)
        lab.world.docker.exit(container)
        await until(lambda: controller.lease(lease.id).deadline is not None)
        lab.world.docker.trouble.fail()
        lab.world.docker.restart()
        await until(lambda: controller.published().observed.containers is None)
        lab.world.clock.advance(controller.config.admission.release_seconds + 1)
        await controller.tick()
        assert lab.state(lease) is LeaseState.BOUND
        lab.world.docker.trouble.recover()
        lab.world.docker.restart()
        await until(lambda: lab.state(lease) is None)
