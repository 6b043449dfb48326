"""The controller when the host's user database fails or hangs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from enforcer.adapters.fakes import FakeWorld
from enforcer.adapters.fakes.clock import FakeClock
from enforcer.adapters.fakes.host import FakeHost
from enforcer.api.routes import Api
from enforcer.controller.rights import RightsBook
from enforcer.errors import NotFoundError, UnavailableError
from enforcer.model import Claim, EndReason, Resize
from enforcer.names import user_slice
from enforcer.quantities import CORE, GIB, Bytes, Cpus
from enforcer.slices import KERNELS_OWN
from tests.unit.configs import CAPACITY, VALID, parse
from tests.unit.controllerlab import LEAF, TINY, Lab, NoMetrics, call, placed, until
from tests.unit.worlds import lease

HANG_SECONDS = 5.0
GROUPED = f"""{VALID}
[admission]
claim_seconds = 3600

[daemon]
tick_seconds = 0.2

[group_profiles.ml]
max_preallocate = {{ cpu_guarantee = 5, mem_guarantee = 20 }}
"""
ML = Claim(
    user="ann",
    profile="Large",
    cpu_limit=Cpus(4 * CORE),
    mem_limit=Bytes(18 * GIB),
    cpu_guarantee=Cpus(CORE),
    mem_guarantee=Bytes(15 * GIB),
)
"""What the group ml may have of it: that of a second one is cut to 5 GiB."""

OF_ANN = (lease("ann", "Tiny"),)

pytestmark = pytest.mark.asyncio


async def test_a_user_database_that_fails_lifts_no_users_limit() -> None:
    host = Directory()
    book = RightsBook(host, FakeClock())
    config = parse(VALID)
    await book.learn(["ann"])
    book.renew_totals(config, OF_ANN)
    before = book.totals
    assert "ann" in before
    host.fails = True
    book.expire()
    await book.learn(["ann"])
    book.renew_totals(config, OF_ANN)
    assert book.totals == before


async def test_a_claim_has_its_own_users_total_reckoned_and_leaves_the_others() -> None:
    book, config = RightsBook(Directory(), FakeClock()), parse(VALID)
    await book.learn(["ann", "bob"])
    book.renew_totals(config, (*OF_ANN, lease("bob", "Tiny")))
    both = book.totals
    assert both.keys() == {"ann", "bob"}
    book.renew_totals(config, OF_ANN, only={"ann"})
    assert book.totals is both
    book.renew_totals(config, (), only={"ann"})
    assert book.totals == {"bob": both["bob"]}


async def test_who_asks_has_what_the_host_says_now_and_who_has_a_lease_some_minutes_later() -> None:
    host, clock = Directory(), FakeClock()
    book = RightsBook(host, clock)
    await book.learn(["ann", "bob"])
    clock.advance(61)
    book.renew(["ann", "bob"])
    await asyncio.sleep(0)
    assert host.asked == 2
    await book.learn(["ann"])
    assert host.asked == 3
    clock.advance(241)
    book.renew(["ann", "bob"])
    await until(lambda: host.asked == 4)
    book.expire()
    book.renew(["ann", "bob"])
    await until(lambda: host.asked == 6)
    await book.close()


async def test_no_tick_waits_for_a_slow_user_database() -> None:
    lab, host = _with_directory(f"{VALID}\n[admission]\nclaim_seconds = 600\n")
    async with lab.running() as controller:
        for number in range(10):
            await controller.claim(replace(TINY, user=f"user{number}"))
        host.members = {f"user{number}": ("ml",) for number in range(10)}
        lab.world.clock.advance(301)
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


async def test_what_a_resize_may_ask_for_is_told_of_the_lease_as_it_is_by_then() -> None:
    lab, host = _with_directory()
    async with lab.running() as controller:
        lease, _ = await controller.claim(TINY)
        lab.world.clock.advance(61)
        with host.hanging():
            asking = asyncio.create_task(
                Api(controller, NoMetrics()).bounds(call(lease_id=lease.id))
            )
            await asyncio.sleep(0.05)
            await controller.release(lease.id, EndReason.CANCELLED)
            assert not asking.done()
        with pytest.raises(NotFoundError):
            await asking


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


async def test_whom_the_host_does_not_tell_of_at_a_start_keeps_the_total_in_force() -> None:
    lab, host = _with_directory()
    async with lab.running() as controller:
        await controller.claim(TINY)
        await controller.claim(replace(ML, server="large", mem_guarantee=Bytes(GIB)))
    units = user_slice("Tiny", "ann"), user_slice("Large", "ann")
    before = [lab.limits(unit) for unit in units]
    assert [one.memory_max for one in before] == [40 * GIB + KERNELS_OWN] * 2
    host.fails = True
    after = Lab(lab.world, lab.text.replace('mem_limit = "40 GiB"', 'mem_limit = "30 GiB"'))
    async with after.running() as controller:
        await controller.tick()
        assert [lab.limits(unit) for unit in units] == before
        host.fails = False
        lab.world.clock.advance(3)
        await until(lambda: lab.limits(units[0]).memory_max == 30 * GIB + KERNELS_OWN)


async def test_a_restart_lifts_no_total_of_whose_leaf_is_only_kept() -> None:
    lab, _ = _with_directory()
    async with lab.running() as controller:
        lease, container = await placed(lab, controller)
        lab.world.docker.stop(container)
        await controller.release(lease.id, EndReason.STOPPED)
        await controller.tick()
    before = lab.limits(user_slice("Tiny", "ann"))
    assert before.memory_max == 40 * GIB + KERNELS_OWN
    after = Lab(lab.world, lab.text.replace('mem_limit = "40 GiB"', 'mem_limit = "30 GiB"'))
    async with after.running() as controller:
        await controller.tick()
        lowered = lab.limits(user_slice("Tiny", "ann")).memory_max
        assert lowered == 30 * GIB + KERNELS_OWN


@pytest.mark.parametrize("after", ["nothing", "a reboot"])
async def test_who_has_a_container_back_has_their_total_back(after: str) -> None:
    lab, _ = _with_directory(f"{VALID}\n[daemon]\ntick_seconds = 0.2\n")
    unit = user_slice("Tiny", "ann")
    async with lab.running() as controller:
        lease, container = await placed(lab, controller)
        before = lab.limits(unit)
        lab.world.docker.stop(container)
        await controller.release(lease.id, EndReason.STOPPED)
        await controller.tick()
        lab.world.cgroups.remove(LEAF)
        await controller.tick()
        if after == "nothing":
            lab.world.docker.start(container)
            await controller.tick()
            assert replace(lab.limits(unit), memory_min=before.memory_min) == before
    if after == "a reboot":
        lab.world.reboot()
        async with Lab(lab.world, lab.text).running():
            lab.world.docker.start(container)
            await until(lambda: lab.limits(unit).memory_max == before.memory_max)


async def test_a_restart_takes_nothing_that_the_same_configuration_granted() -> None:
    lab, host = _with_directory(GROUPED)
    host.members = {"ann": ("ml",)}
    async with lab.running() as controller:
        for claim in (ML, replace(ML, user="bob", groups=("ml",)), replace(TINY, user="cid")):
            await controller.claim(claim)
            await controller.claim(replace(claim, server="second"))
        before = controller.published().leases
        assert [one.grant.mem_guarantee // GIB for one in before] == [15, 5, 15, 5, 1, 1]
    host.members = {}  # soon after a boot it may know nobody yet
    after = Lab(lab.world, GROUPED)
    async with after.running() as controller:
        await controller.tick()
        assert controller.published().leases == before
        host.members = {"ann": ("ml",)}
        for _ in range(2):
            asked = host.asked
            lab.world.clock.advance(301)
            await controller.tick()
            await until(lambda: host.asked == asked + 3)  # noqa: B023 - it is called at once
            await asyncio.sleep(0.05)
            await controller.tick()
            assert controller.published().leases == before


@pytest.mark.parametrize(("groups", "promised"), [(("ml",), 12), ((), 10)])
async def test_who_the_host_knows_late_or_never_is_cut_to_a_stricter_policy_then(
    groups: tuple[str, ...], promised: int
) -> None:
    lab, host = _with_directory(GROUPED)
    host.members = {"ann": ("ml",)}
    async with lab.running() as controller:
        lease, _ = await controller.claim(ML)
    host.members = {}
    after = Lab(lab.world, GROUPED.replace("mem_guarantee = 20", "mem_guarantee = 12"))
    async with after.running() as controller:
        await controller.tick()
        assert controller.lease(lease.id).grant == lease.grant
        host.members = {"ann": groups}
        lab.world.clock.advance(301)
        await until(lambda: controller.lease(lease.id).grant.mem_guarantee == promised * GIB)


async def test_whom_the_host_does_not_tell_of_at_a_start_is_cut_once_it_does() -> None:
    lab, host = _with_directory(GROUPED)
    async with lab.running() as controller:
        lease, _ = await controller.claim(TINY)
    host.fails = True
    strict = GROUPED.replace("mem_guarantee = 10", 'mem_guarantee = "512 MiB"')
    strict = strict.partition("[group_profiles")[0]
    after = Lab(lab.world, strict)
    async with after.running() as controller:
        await controller.tick()
        assert controller.lease(lease.id).grant == lease.grant
        host.fails = False
        lab.world.clock.advance(3)
        await until(lambda: controller.lease(lease.id).grant.mem_guarantee == GIB // 2)


async def test_who_the_user_database_does_not_tell_of_in_time_claims_nothing() -> None:
    lab, host = _with_directory()
    async with lab.running() as controller:
        host.fails = True
        with pytest.raises(UnavailableError, match="has not told yet who 'ann' is"):
            await controller.claim(TINY)
        host.fails = False
        lab.world.clock.advance(3)
        assert (await controller.claim(TINY))[1]


@pytest.mark.parametrize("first", [("ml",), ()])
async def test_of_groups_that_differ_between_servers_the_most_generous_count_in_all(
    first: tuple[str, ...],
) -> None:
    ml = "[group_profiles.ml]\ncpu_total = 20\nmem_total = 60\nservers_max = 2\n"
    lab = Lab(text=VALID + ml)
    large = Claim(user="ann", profile="Large", groups=first)
    second = replace(large, server="b", groups=() if first else ("ml",))
    unit = user_slice("Large", "ann")
    async with lab.running() as controller:
        ask = replace(large, mem_limit=Bytes(35 * GIB), mem_guarantee=Bytes(GIB))
        one, _ = await controller.claim(ask)
        # with groups there is room for another beside it, without there is none in 40 GiB
        two, _ = await controller.claim(replace(second, mem_limit=Bytes(15 * GIB)))
        await controller.tick()
        assert lab.limits(unit).memory_max == 60 * GIB + KERNELS_OWN
        assert lab.limits(unit).cpu_quota == 20 * CORE
        assert controller.plan(lab.text) == ()
        found = await controller.rights("ann")
        assert (found.mem_total, found.servers_max) == (60 * GIB, None)
        assert found.sources["mem_total"] == "group ml"
        for lease in (one, two):
            resized = await controller.resize(lease.id, Resize(mem_limit=Bytes(22 * GIB)))
            assert resized.grant.mem_limit == 22 * GIB
        assert await controller.reload() == []
        # what nobody's claim told the groups for is over with the server that they were told for
        await controller.release((one if first else two).id, EndReason.CANCELLED)
        await controller.tick()
        assert (await controller.rights("ann")).mem_total == 40 * GIB


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
