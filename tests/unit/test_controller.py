from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from enforcer.adapters.fakes import FakeWorld
from enforcer.adapters.fakes.docker import FakeDocker, Wanted
from enforcer.adapters.fakes.systemd import Call
from enforcer.config import parse_config
from enforcer.controller import ConfigFile, Controller, World
from enforcer.errors import EnforcerError, NotFoundError, UnavailableError
from enforcer.model import (
    Claim,
    ContainerLimits,
    EndReason,
    Lease,
    LeaseState,
    Limits,
    Resize,
    Usage,
)
from enforcer.names import ADOPTED, ENGINE, ROOT, WORKLOAD, UnitName, lease_slice, profile_slice
from enforcer.quantities import GIB, Bytes, Cpus
from tests.unit.configs import CAPACITY, VALID

TINY = Claim(user="ann", profile="Tiny", cpu_guarantee=Cpus(500_000), mem_guarantee=Bytes(GIB))
LEAF = lease_slice("Tiny", "ann", "")
SOON_SECONDS = 5.0


class Lab:
    """A controller at work on a world in memory."""

    def __init__(self, world: FakeWorld | None = None, text: str = VALID) -> None:
        self.world = FakeWorld(capacity=CAPACITY) if world is None else world
        self.text = text
        config = parse_config(text, self.world.host.capacity())
        parts = World(
            systemd=self.world.systemd,
            kernel=self.world.kernel,
            docker=self.world.docker,
            host=self.world.host,
            ledger=self.world.ledger,
            clock=self.world.clock,
        )
        file = ConfigFile(path=Path("enforcer.toml"), read=lambda: self.text)
        self.controller = Controller(parts, config, file)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Controller]:
        await self.controller.start()
        try:
            yield self.controller
        finally:
            await self.controller.stop()

    def limits(self, unit: UnitName) -> Limits:
        cgroup = self.world.kernel.slice(unit)
        assert cgroup is not None, unit
        return cgroup.limits

    def run(self, lease: Lease, name: str = "ann-lab") -> str:
        """What the hub does with a placement."""
        placement = self.controller.placement(lease)
        return self.world.docker.run(
            name,
            Wanted(
                cgroup_parent=placement.slice,
                lease_id=lease.id,
                limits=ContainerLimits(
                    cpu=Cpus(placement.nano_cpus // 1000),
                    memory=placement.memory,
                    swap=Bytes(placement.memory_swap - placement.memory),
                    tasks=placement.pids_limit,
                ),
                oom_score_adj=placement.oom_score_adj,
            ),
        )

    def state(self, lease: Lease) -> LeaseState | None:
        try:
            return self.controller.lease(lease.id).state
        except NotFoundError:
            return None


async def placed(lab: Lab, controller: Controller) -> tuple[Lease, str]:
    """Claim a lease, start its container, and see it bound; the lease and the container's id."""
    lease, _ = await controller.claim(TINY)
    container = lab.run(lease)
    await until(lambda: lab.state(lease) is LeaseState.BOUND)
    await controller.tick()
    return lease, container


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that background tasks bring about."""
    async with asyncio.timeout(SOON_SECONDS):
        while not holds():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.01)


pytestmark = pytest.mark.asyncio


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


async def test_the_same_claim_again_is_the_same_lease() -> None:
    lab = Lab()
    async with lab.running() as controller:
        first, _ = await controller.claim(TINY)
        second, new = await controller.claim(TINY)
        assert second.id == first.id
        assert not new


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
            for one in controller.history(lease.id)
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
        found = controller.history(lease.id)
        assert found
        assert not any(one.oom_kills or one.oom_own for one in found)


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


async def test_a_daemon_killed_at_any_moment_agrees_with_the_world_again() -> None:
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


async def test_a_slice_nobody_asked_for_does_not_run_unlimited() -> None:
    lab = Lab()
    async with lab.running() as controller:
        sneaky = UnitName("jupyter-workload-mine.slice")
        lab.world.docker.run("sneaky", Wanted(cgroup_parent=sneaky))
        await until(lambda: lab.limits(sneaky).memory_max == controller.config.adopted.memory)


async def test_a_label_counts_only_in_the_slice_of_its_lease() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lease, _ = await controller.claim(TINY)
        lab.world.docker.run("forged", Wanted(lease_id=lease.id))
        await until(lambda: len(controller.published().observed.containers or {}) == 1)
        assert lab.state(lease) is LeaseState.PENDING


async def test_without_docker_admission_and_enforcement_go_on() -> None:
    lab = Lab()
    lab.world.docker.trouble.hang(0.2)
    async with lab.running() as controller:
        lease, _ = await controller.claim(TINY)
        assert lease.state is LeaseState.PENDING
        lab.world.kernel.write(LEAF, "memory_max", None)
        await until(lambda: lab.limits(LEAF).memory_max == 2 * GIB)
        assert not controller.published().docker_ok


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


async def test_a_bad_file_changes_nothing_and_says_so() -> None:
    lab = Lab()
    async with lab.running() as controller:
        before = controller.config
        lab.text = "nonsense"
        with pytest.raises(EnforcerError):
            await controller.reload()
        assert controller.config is before
        assert controller.published().config_error


async def test_a_reload_cuts_running_leases_to_the_new_policy() -> None:
    lab = Lab()
    async with lab.running() as controller:
        await controller.claim(TINY)
        lab.text = VALID.replace("mem_limit = 2\n", 'mem_limit = "1 GiB"\n')
        changes = await controller.reload()
        assert changes
        assert lab.limits(LEAF).memory_max == GIB
        assert controller.published().config_error == ""


async def test_a_reload_changes_how_much_is_kept() -> None:
    kept = (
        "[daemon]\ntick_seconds = {tick}\nhistory_seconds = {history}\nreceipts_kept = {receipts}\n"
    )
    lab = Lab(text=VALID + kept.format(tick=2, history=4, receipts=5))
    async with lab.running() as controller:
        lease, _ = await controller.claim(TINY)
        await _sample(lab, controller, 6)
        assert len(controller.history(lease.id)) == 3
        lab.text = VALID + kept.format(tick=1, history=4, receipts=1)
        await controller.reload()
        await _sample(lab, controller, 6)
        assert len(controller.history(lease.id)) == 5
        for _ in range(2):
            await controller.release(lease.id, EndReason.STOPPED)
            lease, _ = await controller.claim(TINY)
        assert len(await controller.receipts("ann", 10)) == 1


async def test_a_reload_says_what_takes_a_restart() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lab.text = VALID + '[daemon]\nmetrics = "127.0.0.1:9800"\n'
        (change,) = await controller.reload()
        assert change == "daemon: metrics 127.0.0.1:9753 → 127.0.0.1:9800, at the next restart"


async def _sample(lab: Lab, controller: Controller, times: int) -> None:
    for _ in range(times):
        lab.world.clock.advance(controller.config.daemon.tick_seconds)
        await controller.tick()
