"""The controller when something of the world fails, or when an answer comes at a bad moment."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest

from enforcer.adapters.fakes import FakeWorld
from enforcer.adapters.fakes.clock import FakeClock
from enforcer.adapters.fakes.host import FakeHost
from enforcer.adapters.fakes.systemd import FakeSystemd
from enforcer.api.peers import Peer
from enforcer.api.routes import Api
from enforcer.api.table import Call
from enforcer.api.types import LeaseReply
from enforcer.controller.rights import RightsBook
from enforcer.errors import UnavailableError
from enforcer.model import Claim, EndReason, Lease, LeaseState, Limits, Resize, Usage
from enforcer.names import WORKLOAD, UnitName, user_slice
from enforcer.quantities import GIB, Bytes
from tests.unit.configs import CAPACITY, VALID, parse
from tests.unit.test_controller import LEAF, TINY, Lab, placed, until

HANG_SECONDS = 5.0

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


async def test_a_running_server_whose_image_is_no_longer_allowed_can_be_resized() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lease, _ = await controller.claim(Claim(user="ann", profile="Tiny"))
        assert lease.image == "SingleUser"
        lab.text = VALID.replace('allowed_docker = ["SingleUser", ', "allowed_docker = [")
        await controller.reload()
        resized = await controller.resize(lease.id, Resize(mem_limit=Bytes(GIB)))
        assert resized.grant.mem_limit == GIB


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
        asked = asyncio.create_task(api.lease(_call(lease.id)))
        await asyncio.sleep(0.05)
        assert not asked.done()
        assert lab.world.kernel.slice(lease.unit) is None
        lab.world.systemd.trouble.recover()
        reply = (await asked).reply
        assert isinstance(reply, LeaseReply)
        assert reply.placement is not None
        assert lab.limits(lease.unit).memory_min == 10 * GIB


async def test_a_claim_that_pid_1_does_not_answer_shows_in_the_status() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lab.world.systemd.trouble.hang(0.05)
        with pytest.raises(UnavailableError):
            await controller.claim(TINY)
        await controller.tick()
        assert not controller.published().systemd_ok
        lab.world.systemd.trouble.recover()
        await controller.claim(TINY)
        await controller.tick()
        assert controller.published().systemd_ok


async def test_a_user_is_told_before_a_lowered_limit_is_applied() -> None:
    lab = Lab(text=VALID + "[daemon]\nresize_grace_seconds = 60\n")
    async with lab.running() as controller:
        api = Api(controller, NoMetrics())
        lease, _ = await controller.claim(TINY)
        lab.world.kernel.set_usage(LEAF, Usage(memory_current=Bytes(3 * GIB // 2)))
        await controller.resize(lease.id, Resize(mem_limit=Bytes(GIB)))
        reply = (await api.lease(_call(lease.id))).reply
        assert isinstance(reply, LeaseReply)
        assert "the memory limit of 1 GiB waits" in reply.notes[-1]
        assert "in 60 s it is applied anyway" in reply.notes[-1]


async def test_a_user_database_that_fails_lifts_no_users_limit() -> None:
    host = Directory()
    book = RightsBook(host, FakeClock())
    config = parse(VALID)
    await book.learn(["ann"])
    book.renew_totals(config, {"ann": TINY})
    before = book.totals
    assert "ann" in before
    host.fails = True
    book.expire()
    await book.learn(["ann"])
    book.renew_totals(config, {"ann": TINY})
    assert book.totals == before


async def test_no_tick_waits_for_a_slow_user_database() -> None:
    lab, host = _with_directory()
    async with lab.running() as controller:
        for number in range(10):
            await controller.claim(replace(TINY, user=f"user{number}"))
        host.members = {f"user{number}": ("ml",) for number in range(10)}
        lab.world.clock.advance(61)
        began, asked = time.monotonic(), host.asked
        with host.hanging():
            for _ in range(3):
                await controller.tick()
            assert time.monotonic() - began < HANG_SECONDS / 2
            assert len(controller.published().leases) == 10
        await until(lambda: host.asked == asked + 10)


async def test_a_claim_waits_for_a_slow_user_database_and_nobody_else_does() -> None:
    lab, host = _with_directory()
    async with lab.running() as controller:
        lease, _ = await controller.claim(TINY)
        with host.hanging():
            claiming = asyncio.create_task(controller.claim(replace(TINY, user="bob")))
            await asyncio.sleep(0.05)
            await controller.resize(lease.id, Resize(mem_limit=Bytes(GIB)))
            assert not claiming.done()
        assert (await claiming)[1]


async def test_users_with_leases_have_their_totals_from_the_first_tick_on() -> None:
    lab, host = _with_directory(
        VALID.replace("max_preallocate", "mem_total = 41\nmax_preallocate", 1)
    )
    async with lab.running() as controller:
        await controller.claim(replace(TINY, profile="Large"))
    unit = user_slice("Large", "ann")
    before = lab.limits(unit)
    after = Lab(lab.world, lab.text)
    with host.hanging():
        starting = asyncio.create_task(after.controller.start())
        await asyncio.sleep(0.05)
        assert not starting.done()
    await starting
    assert lab.limits(unit) == before
    await after.controller.stop()


async def test_who_the_user_database_does_not_tell_of_in_time_claims_nothing() -> None:
    lab, host = _with_directory()
    async with lab.running() as controller:
        host.fails = True
        with pytest.raises(UnavailableError, match="has not told yet who 'ann' is"):
            await controller.claim(TINY)
        host.fails = False
        lab.world.clock.advance(3)
        assert (await controller.claim(TINY))[1]


async def test_a_container_at_its_memory_limit_makes_no_storm_of_ticks() -> None:
    lab = Lab(text=VALID + "[daemon]\ntick_seconds = 60\n")
    async with lab.running() as controller:
        await controller.claim(TINY)
        await asyncio.sleep(0.3)
        before = controller.published().tick.ticks
        for _ in range(10):
            lab.world.cgroups.tell(LEAF, "memory.events")
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


class Directory(FakeHost):
    """A user database far away: it can fail, and it can hang."""

    def __init__(self) -> None:
        FakeHost.__init__(self, CAPACITY)
        self.fails = False
        self.asked = 0
        """How many questions were answered."""
        self._answers = threading.Event()
        self._answers.set()

    @contextmanager
    def hanging(self) -> Iterator[None]:
        self._answers.clear()
        try:
            yield
        finally:
            self._answers.set()

    def groups(self, user: str) -> tuple[str, ...]:
        if self.fails:
            raise UnavailableError("host.users", f"who is {user}?")
        self._answers.wait(HANG_SECONDS)
        self.asked += 1
        return FakeHost.groups(self, user)


def _with_directory(text: str = VALID) -> tuple[Lab, Directory]:
    world, host = FakeWorld(capacity=CAPACITY), Directory()
    world.host = host
    return Lab(world, text), host


class NoMetrics:
    """A page without anything."""

    content_type = "text/plain"

    async def page(self) -> bytes:
        return b""


def _call(lease_id: str) -> Call:
    peer = Peer(uid=0, name="root", privileged=True)
    return Call(peer=peer, path={"lease_id": lease_id}, once={}, many={}, body=None)
