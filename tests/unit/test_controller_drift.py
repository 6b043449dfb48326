"""The world as it ought to be: put in force, left alone, and mended when somebody changed it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from enforcer.adapters.fakes import FakeWorld
from enforcer.adapters.fakes.docker import FakeDocker, Wanted
from enforcer.adapters.fakes.systemd import Call, FakeSystemd
from enforcer.adapters.fakes.tree import CgroupTree
from enforcer.model import ContainerLimits, LeaseState, Usage
from enforcer.names import ADOPTED, ENGINE, ROOT, WORKLOAD, UnitName
from enforcer.quantities import GIB, Bytes, Cpus
from tests.unit.configs import CAPACITY, VALID
from tests.unit.controllerlab import LEAF, TINY, Lab, placed, until

pytestmark = pytest.mark.asyncio


class Slow(FakeDocker):
    """Docker whose updates take until it is told."""

    def __init__(self, cgroups: CgroupTree, now: Callable[[], float]) -> None:
        FakeDocker.__init__(self, cgroups, now)
        self.done = asyncio.Event()

    async def update(self, container_id: str, limits: ContainerLimits) -> bool:
        await self.done.wait()
        return await FakeDocker.update(self, container_id, limits)


async def test_the_first_tick_puts_the_global_limits_in_force() -> None:
    lab = Lab()
    async with lab.running() as controller:
        config = controller.config
        assert lab.limits(ROOT).memory_max == config.quota.memory
        assert lab.limits(ROOT).cpu_quota == config.quota.cpu
        assert lab.limits(WORKLOAD).cpu_quota == config.quota.cpu - config.engine.cpu
        assert lab.limits(ENGINE).memory_min == config.engine.memory
        assert lab.limits(ADOPTED).memory_max == config.adopted.memory
        assert lab.world.cgroups.slices[ROOT].lasting


async def test_drift_is_undone_and_reported_with_its_time() -> None:
    lab = Lab()
    async with lab.running() as controller:
        await controller.claim(TINY)
        await controller.tick()
        lab.world.kernel.write(LEAF, "memory_max", None)
        await until(lambda: lab.limits(LEAF).memory_max == 2 * GIB)
        await until(lambda: bool(controller.published().repairs))
        repair = controller.published().repairs[-1]
        assert (repair.subject, repair.what) == (LEAF, "memory_max")
        assert repair.seconds is not None
        assert controller.published().counters["drift", "memory_max"] == 1


async def test_after_a_start_what_somebody_changes_is_drift_whatever_io_weight_there_is() -> None:
    lab = Lab()
    async with lab.running() as controller:
        await controller.claim(TINY)
        await controller.tick()
        for unit in controller.published().desired.slices:
            lab.world.kernel.write(unit, "io_weight", 100)  # as kernels do that have one at all
    after = Lab(lab.world)
    async with after.running() as controller:
        lab.world.kernel.write(LEAF, "memory_max", None)
        await controller.tick()
        assert lab.limits(LEAF).memory_max == 2 * GIB
        assert [(one.subject, one.what) for one in controller.published().repairs] == [
            (LEAF, "memory_max")
        ]


async def test_more_repairs_than_are_kept_are_counted_all() -> None:
    lab = Lab()
    async with lab.running() as controller:
        await controller.claim(TINY)
        await controller.tick()
        for _ in range(250):
            lab.world.kernel.write(LEAF, "memory_max", None)
            await controller.tick()
        picture = controller.published()
        assert len(picture.repairs) == 200
        assert sum(picture.repair_times.counts) == 250


async def test_a_limit_that_is_on_disk_no_longer_is_set_for_good_again() -> None:
    lab = Lab()
    async with lab.running() as controller:
        await controller.tick()
        lab.world.cgroups.slices[ROOT].lasting = False
        await controller.tick()
        assert lab.world.systemd.is_lasting(ROOT)
        (repair,) = controller.published().repairs
        assert (repair.subject, repair.what) == (ROOT, "on disk")


async def test_a_container_somebody_updated_is_mended_through_docker() -> None:
    lab = Lab()
    async with lab.running() as controller:
        _, container = await placed(lab, controller)
        wide = ContainerLimits(cpu=Cpus(8_000_000), memory=Bytes(9 * GIB), tasks=4096)
        lab.world.docker.change(container, wide)
        await until(lambda: bool(lab.world.docker.updates))
        assert lab.world.docker.updates[-1][1].memory == 2 * GIB
        # Docker takes its time, so PID 1 was asked first
        at_once = Call("set_scope_limits", UnitName(f"docker-{container}.scope"))
        assert at_once in lab.world.systemd.calls
        await until(lambda: len(controller.published().repairs) == 2)
        told = [(one.what, one.found, one.wanted) for one in controller.published().repairs]
        assert told == [("cpu", "8 cores", "1 core"), ("memory", "9 GiB", "2 GiB")]


async def test_what_somebody_changed_while_docker_was_silent_is_drift_once_it_answers() -> None:
    lab = Lab()
    async with lab.running() as controller:
        _, container = await placed(lab, controller)
        lab.world.docker.trouble.fail()
        lab.world.docker.restart()
        await until(lambda: not controller.published().docker_ok)
        scope = lab.world.cgroups.scopes[container]
        lab.world.kernel.write_scope(container, replace(scope.limits, memory=Bytes(9 * GIB)))
        lab.world.docker.trouble.recover()
        lab.world.docker.restart()
        await until(lambda: bool(controller.published().repairs))
        told = [(one.what, one.found, one.wanted) for one in controller.published().repairs]
        assert told == [("memory", "9 GiB", "2 GiB")]
        assert scope.limits.memory == 2 * GIB


@pytest.mark.parametrize(
    ("narrow", "told"),
    [
        ({"cpus": "0"}, ("cpus", "0", "0-39")),
        ({"memory_high": Bytes(GIB)}, ("memory_high", "1 GiB", "no limit")),
        ({"cpu_period_usec": 10_000}, ("cpu_period_usec", "10000", "100000")),
    ],
)
async def test_a_container_somebody_narrowed_has_all_of_its_lease_again(
    narrow: dict[str, Any], told: tuple[str, str, str]
) -> None:
    lab = Lab()
    async with lab.running() as controller:
        _, container = await placed(lab, controller)
        await controller.tick()
        scope = lab.world.cgroups.scopes[container]
        before = scope.limits
        lab.world.kernel.write_scope(container, replace(before, **narrow))
        await until(lambda: bool(controller.published().repairs))
        assert [(one.what, one.found, one.wanted) for one in controller.published().repairs] == [
            told
        ]
        assert replace(scope.limits, cpus="") == before
        # a list of all CPUs is told to whoever had another, and to nobody else
        wanted = "0-39" if "cpus" in narrow else ""
        assert scope.limits.cpus == lab.world.docker.updates[-1][1].cpus == wanted


async def test_what_changes_while_docker_mends_a_container_is_mended_at_once_too() -> None:
    lab = Lab()
    async with lab.running() as controller:
        _, container = await placed(lab, controller)
        at_once = Call("set_scope_limits", UnitName(f"docker-{container}.scope"))
        lab.world.docker.trouble.hang(60.0)
        for tasks in (7, 9):
            wide = ContainerLimits(cpu=Cpus(8_000_000), memory=Bytes(9 * GIB), tasks=tasks)
            lab.world.docker.change(container, wide)
            await controller.tick()
            await asyncio.sleep(0.1)
        assert lab.world.systemd.calls.count(at_once) == 2
        assert len(lab.world.docker.updates) == 1, "one call at a time"
        lab.world.docker.trouble.recover()
        await until(lambda: controller.published().counters.get(("drift", "tasks")) == 2)
        assert len(lab.world.docker.updates) == 2


async def test_a_container_that_was_never_right_is_no_drift_while_docker_takes_long() -> None:
    world = FakeWorld(capacity=CAPACITY)
    docker = Slow(world.cgroups, world.clock.now)
    world.docker, world.systemd = docker, FakeSystemd(world.cgroups, docker)
    lab = Lab(world)
    async with lab.running() as controller:
        container = docker.run("astray", Wanted(cgroup_parent=WORKLOAD))
        scope = world.cgroups.scopes[container]
        # PID 1 does not let it run without a limit until Docker is done
        await until(lambda: scope.limits.memory == controller.config.adopted.memory)
        for _ in range(3):
            await controller.tick()
        assert not docker.updates
        docker.done.set()
        await until(lambda: bool(docker.updates))
        await controller.tick()
        assert not controller.published().repairs
        docker.change(container, replace(scope.limits, tasks=7))
        await until(lambda: bool(controller.published().repairs))
        assert controller.published().repairs[-1].what == "tasks"


async def test_a_scope_is_left_alone_while_its_container_is_being_made() -> None:
    lab = Lab()
    async with lab.running() as controller:
        docker = lab.world.docker
        lease, _ = await controller.claim(TINY)
        half = Wanted(cgroup_parent=lease.unit, lease_id=lease.id)  # its limits come in a moment
        making = [docker.create("astray", Wanted(cgroup_parent=WORKLOAD)), docker.create("a", half)]
        await until(lambda: len(controller.published().observed.containers or {}) == 2)
        for container in making:
            docker.begin(container)
        for _ in range(3):
            lab.world.clock.advance(5)
            await controller.tick()
            await asyncio.sleep(0.01)  # what a tick begins
        assert lab.state(lease) is LeaseState.BOUND
        assert not docker.updates
        assert not [one for one in lab.world.systemd.calls if one.method == "set_scope_limits"]
        for container in making:
            docker.start(container)
        scopes = [lab.world.cgroups.scopes[container] for container in making]
        adopted = controller.config.adopted.memory
        await until(lambda: [one.limits.memory for one in scopes] == [adopted, 2 * GIB])


async def test_one_that_nobody_ever_calls_running_does_not_run_unlimited() -> None:
    lab = Lab()
    async with lab.running() as controller:
        container = lab.world.docker.create("astray", Wanted(cgroup_parent=WORKLOAD))
        lab.world.docker.begin(container)
        await until(lambda: len(controller.published().observed.containers or {}) == 1)
        scope = lab.world.cgroups.scopes[container]
        await controller.tick()
        assert scope.limits.memory is None
        lab.world.clock.advance(61)
        await controller.tick()
        await until(lambda: scope.limits.memory == controller.config.adopted.memory)


async def test_drift_that_a_claim_undoes_is_reported_with_its_time() -> None:
    lab = Lab(text=VALID + "[daemon]\ntick_seconds = 60\n")
    async with lab.running() as controller:
        await controller.claim(TINY)
        await controller.tick()
        before = lab.limits(WORKLOAD)
        lab.world.kernel.write(WORKLOAD, "memory_max", None)
        await asyncio.sleep(0.01)
        lab.world.clock.advance(0.25)
        await controller.claim(replace(TINY, server="other"))
        assert lab.limits(WORKLOAD).memory_max == before.memory_max
        await controller.tick()
        (repair,) = controller.published().repairs
        assert (repair.subject, repair.what, repair.seconds) == (WORKLOAD, "memory_max", 0.25)
        assert controller.published().counters["drift", "memory_max"] == 1


async def test_nothing_is_done_in_a_world_that_is_as_it_ought_to_be() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lease, _ = await controller.claim(TINY)
        lab.run(lease)
        await until(lambda: lab.state(lease) is LeaseState.BOUND)
        await controller.tick()
        before = list(lab.world.systemd.calls)
        for _ in range(5):
            lab.world.clock.advance(2)
            await controller.tick()
        assert lab.world.systemd.calls == before


async def test_a_slice_nobody_asked_for_does_not_run_unlimited() -> None:
    lab = Lab()
    async with lab.running() as controller:
        sneaky = UnitName("jupyter-workload-mine.slice")
        lab.world.docker.run("sneaky", Wanted(cgroup_parent=sneaky))
        await until(lambda: lab.limits(sneaky).memory_max == controller.config.adopted.memory)


async def test_a_limit_somebody_took_away_is_reported_until_it_can_be_put_back() -> None:
    lab = Lab()
    async with lab.running() as controller:
        await controller.claim(TINY)
        await controller.tick()
        lab.world.kernel.set_usage(LEAF, Usage(memory_current=Bytes(3 * GIB)))
        lab.world.kernel.write(LEAF, "memory_max", None)
        # what is set beside it meanwhile does not make "no limit" ours
        lab.world.kernel.write(LEAF, "tasks_max", 7)
        for _ in range(3):
            await controller.tick()
            assert lab.limits(LEAF).memory_max is None
            assert [one.subject for one in controller.published().open_drift] == [LEAF]
        assert lab.limits(LEAF).tasks_max != 7
        assert controller.published().counters["drift", "memory-raised"] == 1
        lab.world.kernel.set_usage(LEAF, Usage(memory_current=Bytes(2 * GIB)))
        await controller.tick()
        assert lab.limits(LEAF).memory_max == 2 * GIB
        await controller.tick()
        assert not controller.published().open_drift
        assert not controller.published().deferred
