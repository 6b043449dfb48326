"""What every kernel with a PID 1 does, in memory or real: the checks, and the real world.

Run as a program inside a machine, it holds the real adapters to them and prints what failed as one
JSON object, check → words; empty words for a check that passed. So nothing here needs pytest.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from enforcer.adapters.cgroupfs import CgroupFs
from enforcer.adapters.systemd import SystemdActuator
from enforcer.errors import UnavailableError
from enforcer.model import ContainerLimits, Limits, Usage
from enforcer.names import (
    ADOPTED,
    ROOT,
    WORKLOAD,
    UnitName,
    ancestors,
    cgroup_path,
    lease_slice,
    profile_slice,
    user_slice,
)
from enforcer.ports import Change, Kernel, SliceSpec, Systemd
from enforcer.quantities import CORE, MIB, Bytes, Cpus

USER = "a-b@c/d e"
LEAF = lease_slice("small", USER, "")
LIMITS = Limits(
    cpu_quota=Cpus(3 * CORE // 2),
    cpu_weight=321,
    memory_min=Bytes(16 * MIB),
    memory_high=Bytes(200 * MIB),
    memory_max=Bytes(256 * MIB),
    swap_max=Bytes(0),
    tasks_max=77,
    cpus="0",
)
FIELDS = (
    "cpu_quota",
    "cpu_period_usec",
    "cpu_weight",
    "memory_min",
    "memory_high",
    "memory_max",
    "swap_max",
    "tasks_max",
    "cpus",
)
"""All but io_weight: a kernel shows its default where nothing was wanted."""
ONE = "0123456789abcdef" * 4
WAIT_SECONDS = 20.0


class World(Protocol):
    """A machine: the two adapters, and the hands of somebody who meddles."""

    @property
    def kernel(self) -> Kernel: ...

    @property
    def systemd(self) -> Systemd: ...

    def write(self, unit: UnitName, field: str, value: int | None) -> None:
        """Write one of memory_max, tasks_max and cpu_weight behind everybody's back."""
        ...

    def write_scope(self, container_id: str, limits: ContainerLimits) -> None:
        """Write what narrows a container behind everybody's back; a throttle of None is left."""
        ...

    async def run(self, unit: UnitName, container_id: str) -> None:
        """Start a container's scope, with one process, in a slice."""
        ...

    async def end(self, container_id: str) -> None:
        """End what `run` started."""
        ...


Check = Callable[[World], Awaitable[None]]


def same(found: object, wanted: object) -> None:
    """Compare, and show both, also where no test framework looks into an assert."""
    if found != wanted:
        raise AssertionError(f"{found!r} is not {wanted!r}")


def limits_of(world: World, unit: UnitName) -> Limits:
    cgroup = world.kernel.slice(unit)
    assert cgroup is not None, f"{unit} is not there"
    same(world.kernel.limits(unit), cgroup.limits)
    return cgroup.limits


def differing(world: World, unit: UnitName, wanted: Limits) -> list[str]:
    return [name for name in limits_of(world, unit).changed_from(wanted) if name in FIELDS]


async def make(world: World, unit: UnitName = LEAF, limits: Limits = LIMITS) -> None:
    await world.systemd.create_slice(SliceSpec(unit=unit, limits=limits, description="a test"))


@contextlib.asynccontextmanager
async def following(world: World) -> AsyncIterator[list[Change]]:
    """What the kernel tells from now on."""
    seen: list[Change] = []

    async def follow() -> None:
        async for change in world.kernel.changes():
            seen.append(change)  # noqa: PERF401  # each as it comes: it never ends

    task = asyncio.create_task(follow())
    await asyncio.sleep(0.2)
    world.kernel.slices()
    await asyncio.sleep(0.2)
    seen.clear()
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(true: Callable[[], bool], what: str) -> None:
    for _ in range(int(WAIT_SECONDS / 0.02)):
        if true():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"never: {what}")


def told(seen: list[Change], unit: UnitName, file: str) -> Callable[[], bool]:
    return lambda: any(change.unit == unit and change.file == file for change in seen)


# --- the checks ----------------------------------------------------------------------------


async def a_slice_is_on_the_kernel_with_its_limits_when_the_call_returns(world: World) -> None:
    await make(world)
    same(world.kernel.limits(LEAF, ("memory_min",)), Limits(memory_min=LIMITS.memory_min))
    same(differing(world, LEAF, LIMITS), [])
    cgroup = world.kernel.slices()[LEAF]
    same((cgroup.unit, cgroup.populated), (LEAF, False))


async def the_slices_above_a_new_one_come_with_it_and_without_limits(world: World) -> None:
    await make(world)
    above = (ROOT, WORKLOAD, profile_slice("small"), user_slice("small", USER))
    same(set(world.kernel.slices()), {LEAF, *above})
    for unit in above:
        same(differing(world, unit, Limits()), [])


async def a_slice_that_exists_gets_the_limits_instead(world: World) -> None:
    await make(world)
    await make(world, limits=Limits(tasks_max=5))
    same(differing(world, LEAF, Limits(tasks_max=5)), [])
    await make(world, unit=WORKLOAD)
    same(differing(world, WORKLOAD, LIMITS), [])


async def only_the_named_fields_are_set(world: World) -> None:
    await make(world)
    other = Limits(memory_max=Bytes(300 * MIB), tasks_max=9, cpu_weight=1000)
    assert await world.systemd.set_limits(LEAF, other, ("memory_max", "tasks_max"), lasting=False)
    same(sorted(differing(world, LEAF, LIMITS)), ["memory_max", "tasks_max"])
    same(differing(world, LEAF, other).count("tasks_max"), 0)


async def every_limit_can_be_taken_away_again(world: World) -> None:
    await make(world)
    assert await world.systemd.set_limits(LEAF, Limits(), FIELDS, lasting=False)
    same(differing(world, LEAF, Limits()), [])


async def a_slice_that_is_not_there_cannot_be_given_limits(world: World) -> None:
    assert not await world.systemd.set_limits(LEAF, LIMITS, ("tasks_max",), lasting=False)
    same((world.kernel.slice(LEAF), world.kernel.limits(LEAF)), (None, None))


async def the_same_value_undoes_a_write_behind_systemds_back(world: World) -> None:
    await make(world)
    for field, value in (("memory_max", None), ("tasks_max", 5), ("cpu_weight", 7)):
        world.write(LEAF, field, value)
        same(differing(world, LEAF, LIMITS), [field])
        assert await world.systemd.set_limits(LEAF, LIMITS, (field,), lasting=False)
        same(differing(world, LEAF, LIMITS), [])


async def a_write_is_told_and_shown(world: World) -> None:
    await make(world)
    async with following(world) as seen:
        world.write(LEAF, "memory_max", 128 * MIB)
        await until(told(seen, LEAF, "memory.max"), "memory.max was told")
        assert seen[0].may_be_drift
        same(world.kernel.slices()[LEAF].limits.memory_max, 128 * MIB)


async def a_slice_that_comes_and_one_that_goes_are_told(world: World) -> None:
    async with following(world) as seen:
        await make(world)
        await until(told(seen, LEAF, ""), "its coming was told")
        seen.clear()
        await world.systemd.stop_slice(LEAF)
        await until(told(seen, LEAF, ""), "its end was told")


async def a_stopped_slice_is_gone_and_those_above_stay(world: World) -> None:
    await make(world)
    await world.systemd.stop_slice(LEAF)
    same(world.kernel.slice(LEAF), None)
    assert LEAF not in world.kernel.slices()
    assert user_slice("small", USER) in world.kernel.slices()
    await world.systemd.stop_slice(LEAF)
    await make(world)
    same(differing(world, LEAF, LIMITS), [])


async def what_is_set_for_good_is_on_disk_and_the_rest_is_not(world: World) -> None:
    await make(world)
    assert not world.systemd.is_lasting(LEAF)
    assert await world.systemd.set_limits(LEAF, LIMITS, ("tasks_max",), lasting=False)
    assert not world.systemd.is_lasting(LEAF)
    lasting = SliceSpec(unit=ADOPTED, limits=LIMITS, description="a test", lasting=True)
    await world.systemd.create_slice(lasting)
    assert world.systemd.is_lasting(ADOPTED)
    same(differing(world, ADOPTED, LIMITS), [])


async def a_slice_outlives_what_runs_in_it(world: World) -> None:
    await make(world)
    await world.run(LEAF, ONE)
    assert world.kernel.slices()[LEAF].populated
    assert world.kernel.slices()[ROOT].populated
    await world.end(ONE)
    await until(lambda: not world.kernel.slices()[LEAF].populated, "it is empty")
    same(differing(world, LEAF, LIMITS), [])


async def stopping_a_slice_kills_what_runs_in_it(world: World) -> None:
    await make(world)
    await world.run(LEAF, ONE)
    await world.systemd.stop_slice(LEAF)
    await until(lambda: world.kernel.scopes() == {}, "the scope is gone")


async def a_container_is_found_with_its_oom_score_which_can_be_set(world: World) -> None:
    await make(world)
    await world.run(LEAF, ONE)
    path = f"{cgroup_path(LEAF)}/docker-{ONE}.scope"
    same(dict(world.kernel.scopes()), {ONE: path})
    scope = world.kernel.scope(path)
    assert scope is not None
    assert scope[2] not in {None, -500}
    same(world.kernel.set_oom_score_adj(path, -500), 1)
    same(world.kernel.set_oom_score_adj(path, -500), 0)
    scope = world.kernel.scope(path)
    assert scope is not None
    same(scope[2], -500)


async def a_container_is_given_limits_of_its_own(world: World) -> None:
    await make(world)
    await world.run(LEAF, ONE)
    path = world.kernel.scopes()[ONE]
    wanted = ContainerLimits(
        cpu=Cpus(500_000), memory=Bytes(64 * MIB), swap=Bytes(8 * MIB), tasks=40, cpus="0-1"
    )
    assert await world.systemd.set_scope_limits(path, wanted)
    await until(in_force(world, wanted), "its limits are in force")
    # where no CPUs are named, those that it has are left
    assert await world.systemd.set_scope_limits(path, replace(wanted, tasks=41, cpus=""))
    await until(in_force(world, replace(wanted, tasks=41)), "its limit of tasks is in force")
    await world.end(ONE)
    await until(lambda: world.kernel.scopes() == {}, "the scope is gone")
    assert not await world.systemd.set_scope_limits(path, wanted)


async def what_narrows_a_container_is_told_and_can_be_undone(world: World) -> None:
    await make(world, limits=replace(LIMITS, cpus=""))
    await world.run(LEAF, ONE)
    path = world.kernel.scopes()[ONE]
    wanted = ContainerLimits(
        cpu=Cpus(500_000), memory=Bytes(64 * MIB), swap=Bytes(8 * MIB), tasks=40, cpus="0-1"
    )
    assert await world.systemd.set_scope_limits(path, wanted)
    await until(in_force(world, wanted), "its limits are in force")
    for narrow in (
        replace(wanted, cpus="0"),
        replace(wanted, memory_high=Bytes(MIB)),
        replace(wanted, swap=Bytes(0)),
        replace(wanted, cpu_period_usec=20_000),
    ):
        async with following(world) as seen:
            world.write_scope(ONE, narrow)
            same(in_force(world, narrow)(), True)
            await until(lambda seen=seen: any(one.may_be_drift for one in seen), "it was told")  # type: ignore[misc] # mypy#2608
        assert await world.systemd.set_scope_limits(path, wanted)
        await until(in_force(world, wanted), "its limits are in force again")


def in_force(world: World, wanted: ContainerLimits) -> Callable[[], bool]:
    def shown() -> bool:
        scope = world.kernel.scope(world.kernel.scopes()[ONE])
        return scope is not None and scope[0] == wanted

    return shown


async def a_container_outside_is_found_too(world: World) -> None:
    elsewhere = UnitName("elsewhere-else.slice")
    await world.run(elsewhere, ONE)
    same(dict(world.kernel.scopes()), {ONE: f"{cgroup_path(elsewhere)}/docker-{ONE}.scope"})
    await world.end(ONE)


async def a_container_that_is_gone_is_a_value(world: World) -> None:
    await make(world)
    await world.run(LEAF, ONE)
    path = world.kernel.scopes()[ONE]
    assert world.kernel.scope(path) is not None
    await world.end(ONE)
    await until(lambda: world.kernel.scopes() == {}, "the scope is gone")
    same(world.kernel.scope(path), None)
    same(world.kernel.set_oom_score_adj(path, -500), 0)


async def a_slice_made_by_a_container_has_no_limits_and_can_be_given_some(world: World) -> None:
    await world.run(LEAF, ONE)
    same(differing(world, LEAF, Limits()), [])
    assert await world.systemd.set_limits(LEAF, LIMITS, FIELDS, lasting=False)
    same(differing(world, LEAF, LIMITS), [])
    await world.systemd.stop_slice(LEAF)
    # and what it was given then is no trouble for the next one of that name
    await make(world, limits=Limits(tasks_max=5))
    same(differing(world, LEAF, Limits(tasks_max=5)), [])


async def names_that_would_collide_if_escaped_carelessly_are_two_slices(world: World) -> None:
    one, other = lease_slice("small", "a-b", "c"), lease_slice("small", "a", "b-c")
    long = lease_slice("small", "ü" * 255, "x" * 255)
    for tasks, unit in enumerate((one, other, long), start=10):
        await make(world, unit, Limits(tasks_max=tasks))
    slices = world.kernel.slices()
    same([slices[unit].limits.tasks_max for unit in (one, other, long)], [10, 11, 12])


async def the_machine_and_its_other_slices_are_shown(world: World) -> None:
    await make(world)
    _, weights = world.kernel.host()
    assert {"system.slice", "init.scope"} <= set(weights), weights
    assert ROOT not in weights
    same(await world.systemd.service_cgroup("enforcer-nothing.service"), None)


CHECKS: tuple[Check, ...] = (
    a_slice_is_on_the_kernel_with_its_limits_when_the_call_returns,
    the_slices_above_a_new_one_come_with_it_and_without_limits,
    a_slice_that_exists_gets_the_limits_instead,
    only_the_named_fields_are_set,
    every_limit_can_be_taken_away_again,
    a_slice_that_is_not_there_cannot_be_given_limits,
    the_same_value_undoes_a_write_behind_systemds_back,
    a_write_is_told_and_shown,
    a_slice_that_comes_and_one_that_goes_are_told,
    a_stopped_slice_is_gone_and_those_above_stay,
    what_is_set_for_good_is_on_disk_and_the_rest_is_not,
    a_slice_outlives_what_runs_in_it,
    stopping_a_slice_kills_what_runs_in_it,
    a_container_is_found_with_its_oom_score_which_can_be_set,
    a_container_is_given_limits_of_its_own,
    what_narrows_a_container_is_told_and_can_be_undone,
    a_container_outside_is_found_too,
    a_container_that_is_gone_is_a_value,
    a_slice_made_by_a_container_has_no_limits_and_can_be_given_some,
    names_that_would_collide_if_escaped_carelessly_are_two_slices,
    the_machine_and_its_other_slices_are_shown,
)


# --- the real world ------------------------------------------------------------------------


class RealWorld:
    """This machine. Nothing may run under jupyter.slice: it is stopped before each check."""

    FILES = {"memory_max": "memory.max", "tasks_max": "pids.max", "cpu_weight": "cpu.weight"}  # noqa: RUF012  # never written
    ROOT_DIRECTORY = Path("/sys/fs/cgroup")

    def __init__(self) -> None:
        self.kernel = CgroupFs()
        self.systemd = SystemdActuator(timeout_seconds=30)

    def write(self, unit: UnitName, field: str, value: int | None) -> None:
        file = self.ROOT_DIRECTORY / cgroup_path(unit) / self.FILES[field]
        file.write_text("max" if value is None else str(value))

    def write_scope(self, container_id: str, limits: ContainerLimits) -> None:
        scope = self.ROOT_DIRECTORY / self.kernel.scopes()[container_id]
        quota = (limits.cpu or 0) * limits.cpu_period_usec // CORE
        for file, value in (
            ("cpu.max", f"{quota} {limits.cpu_period_usec}"),
            ("cpuset.cpus", limits.cpus),
            ("memory.high", limits.memory_high),
            ("memory.swap.max", limits.swap),
        ):
            if value is not None:
                (scope / file).write_text(str(value))

    async def run(self, unit: UnitName, container_id: str) -> None:
        command = ["systemd-run", "--quiet", "--scope", "--unit", f"docker-{container_id}"]
        command.append("--property=Delegate=yes")  # as a container's is
        process = await asyncio.create_subprocess_exec(
            *command, "--slice", unit, "sleep", "1000", stderr=subprocess.DEVNULL
        )
        self._running = process
        scope = self.ROOT_DIRECTORY / cgroup_path(unit) / f"docker-{container_id}.scope"
        await until((scope / "cgroup.procs").exists, "the scope is there")
        await until(lambda: bool((scope / "cgroup.procs").read_text()), "it runs")

    async def end(self, container_id: str) -> None:
        await self.sh("systemctl", "kill", "--signal=KILL", f"docker-{container_id}.scope")

    async def clean(self) -> None:
        await self.sh("systemctl", "stop", "docker-*.scope", ROOT)

    async def sh(self, *words: str) -> None:
        process = await asyncio.create_subprocess_exec(*words, stderr=subprocess.DEVNULL)
        await process.wait()

    async def close(self) -> None:
        await self.systemd.close()
        self.kernel.close()


async def output(*words: str) -> str:
    process = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE)
    out, _ = await process.communicate()
    return out.decode()


async def pid_1_may_execute_itself_anew_in_the_middle_of_calls(world: World) -> None:
    reexec = await asyncio.create_subprocess_exec("systemctl", "daemon-reexec")
    for _ in range(8):
        await make(world)
        same(differing(world, LEAF, LIMITS), [])
        await world.systemd.stop_slice(LEAF)
    same(await reexec.wait(), 0)


async def a_hung_bus_costs_a_timeout_and_nothing_else(world: World) -> None:
    await make(world)
    hasty = SystemdActuator(timeout_seconds=3)
    await hasty.service_cgroup("dbus.service")
    pid = int(await output("systemctl", "show", "-P", "MainPID", "dbus.service"))
    os.kill(pid, signal.SIGSTOP)
    try:
        begin = time.monotonic()
        with contextlib.suppress(UnavailableError):
            await hasty.create_slice(SliceSpec(unit=WORKLOAD, limits=LIMITS, description="x"))
            raise AssertionError("PID 1 answered without a bus")
        assert time.monotonic() - begin < 6
        same(differing(world, LEAF, LIMITS), [])
        world.write(LEAF, "tasks_max", 4)
        same(limits_of(world, LEAF).tasks_max, 4)
    finally:
        os.kill(pid, signal.SIGCONT)
    for _ in range(5):  # what was asked for in between is carried out first
        with contextlib.suppress(UnavailableError):
            await hasty.create_slice(SliceSpec(unit=WORKLOAD, limits=LIMITS, description="x"))
            break
    same(differing(world, WORKLOAD, LIMITS), [])
    await hasty.close()


async def the_process_that_talks_to_systemd_may_be_killed(world: World) -> None:
    await make(world)
    found = await output("pgrep", "--full", "--oldest", "enforcer.adapters.actuator")
    os.kill(int(found), signal.SIGKILL)
    with contextlib.suppress(UnavailableError):  # whether it is noticed in time is chance
        await make(world)
    await make(world, limits=Limits(tasks_max=6, cpus="0"))
    same(limits_of(world, LEAF).tasks_max, 6)


async def what_is_taken_to_rest_says_what_its_files_say(world: World) -> None:
    leaves = [LEAF, lease_slice("small", USER, "other"), lease_slice("large", "b", "")]
    for leaf in leaves:
        await make(world, leaf)
    counters = dict[UnitName, Usage]()

    def all_are_told() -> bool:
        fresh = CgroupFs()
        found, true = world.kernel.slices(), fresh.slices()
        fresh.close()
        counters.update({unit: cgroup.usage for unit, cgroup in found.items()})
        # a quota's periods go on for a moment after the last run: whoever rests need not tell
        return {unit: replace(one, periods=0) for unit, one in counters.items()} == {
            unit: replace(true[unit].usage, periods=0) for unit in true
        }

    for turn in range(12):
        leaf = leaves[turn % 3]
        before = world.kernel.slices()[leaf].usage
        procs = RealWorld.ROOT_DIRECTORY / cgroup_path(leaf) / "cgroup.procs"
        command = (
            f"echo $$ > {shlex.quote(str(procs))}; i=0; while [ $i -lt 999 ]; do i=$((i+1)); done"
        )
        same(await (await asyncio.create_subprocess_exec("sh", "-c", command)).wait(), 0)
        for unit in (ROOT, WORKLOAD, *(() if turn % 2 else ancestors(leaf))):
            world.kernel.slice(unit, afresh=False)
        await until(all_are_told, f"every slice says what its files say, turn {turn}")
        assert counters[leaf].cpu_usec > before.cpu_usec


REAL_CHECKS: tuple[Check, ...] = (
    pid_1_may_execute_itself_anew_in_the_middle_of_calls,
    a_hung_bus_costs_a_timeout_and_nothing_else,
    the_process_that_talks_to_systemd_may_be_killed,
    what_is_taken_to_rest_says_what_its_files_say,
)


async def main() -> dict[str, str]:
    """Run every check; what went wrong with each, empty for nothing."""
    results: dict[str, str] = {}
    for check in CHECKS + REAL_CHECKS:
        world = RealWorld()
        await world.clean()
        try:
            await check(world)
            results[check.__name__] = ""
        except Exception:  # noqa: BLE001  # whatever it is, the next check is another
            results[check.__name__] = traceback.format_exc()
        finally:
            await world.close()
    return results


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main())))
