from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import shutil
from pathlib import Path

import pytest

from enforcer.adapters.cgroupfs import CgroupFs
from enforcer.adapters.inotify import Inotify, Mask
from enforcer.adapters.oomscore import UNEVEN
from enforcer.model import ContainerLimits, HostUsage, Limits, Usage
from enforcer.names import (
    ADOPTED,
    ENGINE,
    ROOT,
    WORKLOAD,
    UnitName,
    ancestors,
    cgroup_path,
    lease_slice,
    profile_slice,
    user_slice,
)
from enforcer.ports import Change
from enforcer.quantities import Bytes, Cpus
from tests.unit.cgrouptrees import (
    ALICE,
    ALICE_PATH,
    ID,
    LEAF,
    LEAF_FILES,
    LEAF_PATH,
    OTHER_ID,
    SCOPE_PATH,
    SMALL,
    build,
    process,
)


def test_every_file_of_a_slice_becomes_its_field(kernel: CgroupFs) -> None:
    leaf = kernel.slices()[LEAF]
    assert leaf.populated
    assert leaf.limits == Limits(
        cpu_quota=Cpus(1_500_000),
        cpu_weight=300,
        memory_min=Bytes(4096),
        memory_high=None,
        memory_max=Bytes(1 << 30),
        swap_max=Bytes(0),
        tasks_max=100,
        io_weight=200,
        cpus="2-3",
    )
    assert leaf.usage == Usage(
        cpu_usec=5000,
        throttled_usec=700,
        periods=20,
        periods_throttled=3,
        memory_current=Bytes(40960),
        memory_peak=Bytes(81920),
        memory_inactive_file=Bytes(4096),
        swap_current=Bytes(8192),
        tasks=7,
        forks_refused=9,
        forks_refused_local=8,
        oom_kills=1,
        oom_events=2,
        oom_local=1,
        memory_high_local=4,
        cpu_pressure_usec=111,
        memory_pressure_usec=222,
        memory_pressure_full_usec=22,
        io_pressure_usec=333,
    )


def test_all_slices_below_the_top_are_found_and_no_others(kernel: CgroupFs) -> None:
    assert set(kernel.slices()) == {ROOT, ENGINE, WORKLOAD, ADOPTED, SMALL, ALICE, LEAF}


def test_a_directory_whose_name_does_not_tell_its_place_is_no_slice_of_ours(
    root: Path, kernel: CgroupFs
) -> None:
    build(root / ROOT / "elsewhere.slice", LEAF_FILES)
    assert "elsewhere.slice" not in kernel.slices()


def test_controllers_that_are_not_there_leave_defaults(kernel: CgroupFs) -> None:
    engine = kernel.slices()[ENGINE]
    assert engine.limits == Limits()
    assert engine.usage == Usage(cpu_usec=1)
    assert not engine.populated


def test_a_tree_without_the_top_slice_is_empty_until_it_comes(tmp_path: Path, proc: Path) -> None:
    root = build(tmp_path / "cgroup", {"system.slice": {}})
    kernel = CgroupFs(root, proc)
    try:
        assert kernel.slices() == {}
        assert kernel.slice(ROOT) is None
        build(root / ROOT, LEAF_FILES)
        assert set(kernel.slices()) == {ROOT}
    finally:
        kernel.close()


def use(root: Path, unit: UnitName, cpu_usec: int) -> None:
    """Have it used so much CPU, itself and all that it is in, as the kernel counts."""
    for one in (unit, *ancestors(unit)):
        path = root / cgroup_path(one) / "cpu.stat"
        path.write_text(LEAF_FILES["cpu.stat"].replace("5000", str(cpu_usec)))


def test_counters_are_read_anew_each_time(root: Path, kernel: CgroupFs) -> None:
    kernel.slices()
    for one in (LEAF, *ancestors(LEAF)):
        (root / cgroup_path(one) / "memory.current").write_text("12288\n")
    (root / LEAF_PATH / "memory.stat").write_text("anon 1\ninactive_file 8192\nslab 9\n")
    leaf = kernel.slices()[LEAF]
    assert leaf.usage.memory_current == 12288
    assert leaf.usage.memory_inactive_file == 8192
    assert leaf.usage.cpu_usec == 5000


def test_what_is_in_a_slice_that_rests_is_not_read(root: Path, kernel: CgroupFs) -> None:
    before = kernel.slices()
    (root / LEAF_PATH / "pids.current").write_text("8\n")  # the kernel would count it above, too
    after = kernel.slices()
    assert all(after[unit] is before[unit] for unit in before)
    use(root, WORKLOAD, 6000)
    assert kernel.slices()[LEAF] is before[LEAF], "in a user's slice, which rests"
    use(root, ALICE, 7000)
    assert kernel.slices()[LEAF].usage.tasks == 8


def test_what_the_kernel_told_of_a_slice_that_rests_is_read(root: Path, kernel: CgroupFs) -> None:
    before = kernel.slices()
    (root / LEAF_PATH / "pids.events").write_text("max 12\n")
    (root / ALICE_PATH / "pids.events.local").write_text("max 11\n")
    (root / LEAF_PATH / "memory.events.local").write_text("high 6\noom 1\n")
    after = kernel.slices()
    usage = after[LEAF].usage
    assert (usage.forks_refused, usage.memory_high_local) == (12, 6)
    assert after[ALICE].usage.forks_refused_local == 11
    assert after[SMALL] is before[SMALL]
    (root / SCOPE_PATH / "pids.events").write_text("max 13\n")
    kernel.slices()
    scope = kernel.scope(SCOPE_PATH)
    assert scope is not None
    assert scope[1].forks_refused == 13


def test_a_container_in_a_slice_that_rests_is_not_read(root: Path, kernel: CgroupFs) -> None:
    kernel.slices()
    before = kernel.scope(SCOPE_PATH)
    (root / SCOPE_PATH / "pids.current").write_text("8\n")  # the kernel would count it above, too
    kernel.slices()
    assert kernel.scope(SCOPE_PATH) == before
    use(root, LEAF, 6000)
    kernel.slices()
    after = kernel.scope(SCOPE_PATH)
    assert after is not None
    assert after[1].tasks == 8


def test_what_moved_is_seen_though_what_is_above_was_read_alone_meanwhile(
    root: Path, kernel: CgroupFs
) -> None:
    kernel.slices()
    for cpu_usec, alone in enumerate((ROOT, WORKLOAD, SMALL, ALICE, LEAF), start=6000):
        use(root, LEAF, cpu_usec)
        kernel.slice(alone, afresh=False)
        found = kernel.slices()
        assert {found[unit].usage.cpu_usec for unit in (LEAF, *ancestors(LEAF))} == {cpu_usec}


def test_a_slice_that_is_read_alone_is_read(root: Path, kernel: CgroupFs) -> None:
    kernel.slices()
    (root / LEAF_PATH / "pids.current").write_text("8\n")
    leaf = kernel.slice(LEAF, afresh=False)
    assert leaf is not None
    assert leaf.usage.tasks == 8
    assert kernel.slices()[LEAF] is leaf


def test_a_written_limit_is_seen_at_the_next_reading(root: Path, kernel: CgroupFs) -> None:
    kernel.slices()
    (root / LEAF_PATH / "memory.max").write_text("max\n")
    assert kernel.slices()[LEAF].limits.memory_max is None


def test_a_notification_is_seen_at_the_next_reading(root: Path, kernel: CgroupFs) -> None:
    kernel.slices()
    (root / LEAF_PATH / "cgroup.events").write_text("populated 0\nfrozen 0\n")
    (root / LEAF_PATH / "memory.events.local").write_text("high 0\noom 4\noom_kill 3\n")
    leaf = kernel.slices()[LEAF]
    assert not leaf.populated
    assert leaf.usage.oom_local == 4


def test_an_unchanged_slice_is_the_very_same_value(kernel: CgroupFs) -> None:
    before = kernel.slices()[LEAF]
    after = kernel.slices()[LEAF]
    assert after.usage is before.usage
    assert after.limits is before.limits


def test_slices_come_and_go(root: Path, kernel: CgroupFs) -> None:
    bob = UnitName("jupyter-workload-small-bob.slice")
    kernel.slices()
    build(root / ROOT / WORKLOAD / SMALL / bob, LEAF_FILES)
    assert bob in kernel.slices()
    shutil.rmtree(root / ROOT / WORKLOAD / SMALL / ALICE)
    assert set(kernel.slices()) == {ROOT, ENGINE, WORKLOAD, ADOPTED, SMALL, bob}
    assert kernel.scopes() == {}


def test_a_slice_made_anew_under_the_same_name_is_read_anew(root: Path, kernel: CgroupFs) -> None:
    kernel.slices()
    shutil.rmtree(root / LEAF_PATH)
    build(root / LEAF_PATH, {"memory.current": "1\n", "memory.max": "4096\n"})
    leaf = kernel.slices()[LEAF]
    assert leaf.usage == Usage(memory_current=Bytes(1))
    assert leaf.limits == Limits(memory_max=Bytes(4096))


def test_a_slice_that_comes_goes_and_comes_between_two_readings_is_there(
    root: Path, kernel: CgroupFs
) -> None:
    kernel.slices()
    for _ in range(2):
        shutil.rmtree(root / LEAF_PATH)
        build(root / LEAF_PATH, LEAF_FILES)
    assert LEAF in kernel.slices()
    (root / LEAF_PATH / "memory.max").write_text("4096\n")
    assert kernel.slices()[LEAF].limits.memory_max == 4096


def test_one_slice_can_be_read_afresh(root: Path, kernel: CgroupFs) -> None:
    kernel.slices()
    (root / LEAF_PATH / "pids.max").write_text("5\n")
    leaf = kernel.slice(LEAF)
    assert leaf is not None
    assert leaf.limits.tasks_max == 5
    assert kernel.slice(UnitName("jupyter-nobody.slice")) is None


def test_a_file_nobody_understands_counts_as_absent_and_is_told_once(
    root: Path, kernel: CgroupFs, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        for nonsense in ("nonsense\n", "other nonsense\n"):
            (root / LEAF_PATH / "memory.max").write_text(nonsense)
            (root / LEAF_PATH / "cpu.stat").write_text(nonsense)
            leaf = kernel.slices()[LEAF]
            assert leaf.limits.memory_max is None
            assert leaf.limits.cpu_quota == 1_500_000
            assert leaf.usage.cpu_usec == 0
    assert len(caplog.records) == 2


def test_a_container_is_found_wherever_its_slice_is(root: Path, kernel: CgroupFs) -> None:
    outside = f"system.slice/docker-{OTHER_ID}.scope"
    assert kernel.scopes() == {ID: SCOPE_PATH}
    build(root / outside, LEAF_FILES)
    assert kernel.scopes() == {ID: SCOPE_PATH, OTHER_ID: outside}


def test_what_lies_in_a_service_is_not_taken_for_a_container(kernel: CgroupFs) -> None:
    assert OTHER_ID not in kernel.scopes()


def test_a_scope_tells_its_limits_counters_and_oom_score(
    root: Path, proc: Path, kernel: CgroupFs
) -> None:
    process(proc, 42, SCOPE_PATH, 0)
    (root / SCOPE_PATH / "cgroup.procs").write_text("42\n43\n")
    assert kernel.scope(SCOPE_PATH) == (
        ContainerLimits(
            cpu=Cpus(1_500_000), memory=Bytes(1 << 30), swap=Bytes(0), tasks=100, cpus="2-3"
        ),
        Usage(
            cpu_usec=5000,
            throttled_usec=700,
            periods=20,
            periods_throttled=3,
            memory_current=Bytes(40960),
            memory_inactive_file=Bytes(4096),
            tasks=7,
            forks_refused=9,
            forks_refused_local=8,
            oom_kills=1,
            oom_events=2,
            oom_local=1,
            memory_high_local=4,
        ),
        UNEVEN,
    )


def test_a_scope_that_vanished_meanwhile_is_a_value(root: Path, kernel: CgroupFs) -> None:
    assert kernel.scope(f"{LEAF_PATH}/docker-{OTHER_ID}.scope") is None
    kernel.scope(SCOPE_PATH)
    shutil.rmtree(root / SCOPE_PATH)
    kernel.scopes()
    assert kernel.scope(SCOPE_PATH) is None


def test_a_scope_without_processes_has_no_oom_score(kernel: CgroupFs) -> None:
    scope = kernel.scope(SCOPE_PATH)
    assert scope is not None
    assert scope[2] is None


def test_the_host_tells_its_counters_and_its_slices_weights(
    root: Path, proc: Path, kernel: CgroupFs
) -> None:
    some = "some avg10=0.00 avg60=0.00 avg300=0.00 total={}\n"
    build(
        proc,
        {
            "meminfo": "MemTotal: 100 kB\nMemFree: 1 kB\nMemAvailable: 40 kB\n"
            "SwapTotal: 10 kB\nSwapFree: 4 kB\nHugePages_Total: 0\n",
            "stat": "cpu  7 1 5 300 20 0 1 0 0 0\ncpu0 7 1 5 300 20 0 1 0 0 0\nintr 1\n",
            "pressure": {"cpu": some.format(1), "memory": some.format(2), "io": some.format(3)},
        },
    )
    build(root / "system.slice", {"cpu.pressure": some.format(40)})
    build(root / "user.slice", {"cpu.pressure": some.format(5)})
    build(root / ROOT, {"cpu.pressure": some.format(700)})
    usage, weights = kernel.host()
    assert usage == HostUsage(
        cpu_usec=9000,
        idle_usec=320 * 1_000_000 // os.sysconf("SC_CLK_TCK"),
        memory_current=Bytes(60 * 1024),
        swap_current=Bytes(6 * 1024),
        cpu_pressure_usec=1,
        memory_pressure_usec=2,
        io_pressure_usec=3,
        waiting_usec=45,
    )
    assert weights == {"system.slice": 250, "init.scope": 100}


def test_a_host_that_tells_nothing_counts_nothing(kernel: CgroupFs) -> None:
    assert kernel.host()[0] == HostUsage(cpu_usec=9000)


async def take(kernel: CgroupFs, root: Path, write: str, value: str, seconds: float = 5) -> Change:
    changes = kernel.changes()
    waiting = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0)
    # one write, as the kernel's files have it: no truncation that could be seen
    fd = os.open(root / write, os.O_WRONLY)
    os.write(fd, value.encode())
    os.close(fd)
    try:
        return await asyncio.wait_for(waiting, seconds)
    finally:
        await changes.aclose()  # type: ignore[attr-defined]  # an async generator, as it happens


@pytest.mark.asyncio
async def test_a_write_is_told_with_its_slice_and_file(root: Path, kernel: CgroupFs) -> None:
    change = await take(kernel, root, f"{LEAF_PATH}/memory.max", "max\n")
    assert (change.unit, change.file, change.may_be_drift) == (LEAF, "memory.max", True)
    assert change.at > 0


@pytest.mark.asyncio
async def test_a_write_to_a_scope_is_told_with_the_slice_it_lies_in(
    root: Path, kernel: CgroupFs
) -> None:
    change = await take(kernel, root, f"{SCOPE_PATH}/cpu.max", "max 100000\n")
    assert (change.unit, change.file) == (LEAF, "cpu.max")


@pytest.mark.parametrize(
    ("written", "quota", "period"),
    [("150000 100000", 1_500_000, 100_000), ("15000 10000", 1_500_000, 10_000)],
)
def test_a_quota_and_its_period_are_two_limits(
    root: Path, kernel: CgroupFs, written: str, quota: int, period: int
) -> None:
    (root / LEAF_PATH / "cpu.max").write_text(f"{written}\n")
    limits = kernel.slices()[LEAF].limits
    assert (limits.cpu_quota, limits.cpu_period_usec) == (quota, period)


def test_without_a_quota_a_period_says_nothing(root: Path, kernel: CgroupFs) -> None:
    (root / LEAF_PATH / "cpu.max").write_text("max 10000\n")
    limits = kernel.slices()[LEAF].limits
    assert (limits.cpu_quota, limits.cpu_period_usec) == (None, Limits().cpu_period_usec)


@pytest.mark.asyncio
async def test_a_notification_is_no_drift(root: Path, kernel: CgroupFs) -> None:
    change = await take(kernel, root, f"{LEAF_PATH}/memory.events", "oom 1\n")
    assert (change.unit, change.file, change.may_be_drift) == (LEAF, "memory.events", False)


@pytest.mark.asyncio
async def test_a_limit_that_was_written_unchanged_is_not_told(root: Path, kernel: CgroupFs) -> None:
    kernel.slices()
    same = LEAF_FILES["memory.max"]
    with pytest.raises(TimeoutError):
        await take(kernel, root, f"{LEAF_PATH}/memory.max", same, seconds=0.2)


@pytest.mark.asyncio
async def test_a_cgroup_that_comes_or_goes_is_told(root: Path, kernel: CgroupFs) -> None:
    changes = kernel.changes()
    waiting = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0)
    shutil.rmtree(root / SCOPE_PATH)
    change = await asyncio.wait_for(waiting, 5)
    assert (change.unit, change.file, change.may_be_drift) == (LEAF, "", True)
    await changes.aclose()  # type: ignore[attr-defined]  # an async generator, as it happens


@pytest.mark.asyncio
async def test_slices_made_at_once_one_in_the_other_are_all_told(
    root: Path, kernel: CgroupFs
) -> None:
    """The lower ones may be there before the upper is watched: then the kernel tells nothing."""
    changes = kernel.changes()
    waiting = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0)
    lowest = profile_slice("new"), user_slice("new", "ann"), lease_slice("new", "ann", "")
    (root / cgroup_path(lowest[-1])).mkdir(parents=True)
    told = {(await asyncio.wait_for(waiting, 5)).unit}
    while len(told) < len(lowest):
        told.add((await asyncio.wait_for(anext(changes), 5)).unit)
    assert told == set(lowest)
    await changes.aclose()  # type: ignore[attr-defined]  # an async generator, as it happens


@pytest.mark.asyncio
async def test_what_comes_right_after_is_told_too(root: Path, kernel: CgroupFs) -> None:
    changes = kernel.changes()
    for value in ("max\n", "4096\n", "max\n"):
        waiting = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)
        (root / LEAF_PATH / "memory.max").write_text(value)
        change = await asyncio.wait_for(waiting, 5)
        assert (change.unit, change.file) == (LEAF, "memory.max")
    await changes.aclose()  # type: ignore[attr-defined]  # an async generator, as it happens


@pytest.mark.asyncio
async def test_what_a_reading_took_in_is_told_all_the_same(root: Path, kernel: CgroupFs) -> None:
    changes = kernel.changes()
    waiting = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0)
    (root / LEAF_PATH / "memory.max").write_text("max\n")
    kernel.slices()
    change = await asyncio.wait_for(waiting, 5)
    assert (change.unit, change.file) == (LEAF, "memory.max")
    await changes.aclose()  # type: ignore[attr-defined]  # an async generator, as it happens


def test_without_descriptors_to_spare_nothing_is_kept_open(root: Path, proc: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    try:
        kernel = CgroupFs(root, proc)
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # counts, no paths
        assert kernel.slices()[LEAF].usage.cpu_usec == 5000
        assert kernel.slices()[LEAF].usage.cpu_usec == 5000
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208  # the same
        kernel.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_that_there_are_too_few_watches_is_said_once_until_there_are_enough(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    add, watched, most = Inotify.add, set[str](), 3

    def add_within(self: Inotify, path: str, mask: Mask) -> int | None:
        if path not in watched and len(watched) >= most:
            raise OSError(errno.ENOSPC, "as if max_user_watches were used up")
        watched.add(path)
        return add(self, path, mask)

    monkeypatch.setattr(Inotify, "add", add_within)
    kernel = CgroupFs(root, root)
    all_of_them = kernel.slices()
    assert kernel.slices().keys() == kernel.slices().keys() == all_of_them.keys()
    assert len(caplog.records) == 1
    most = 100
    assert kernel.slices().keys() == all_of_them.keys()
    most = 3
    (root / "jupyter.slice" / "jupyter-new.slice").mkdir()
    assert len(kernel.slices()) == len(all_of_them) + 1 > 3
    assert len(caplog.records) == 2
    for record in caplog.records:
        assert record.getMessage().startswith("cannot watch jupyter.slice/jupyter-")
    kernel.close()


def test_closing_gives_every_descriptor_back(root: Path, proc: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # counts, no paths
    kernel = CgroupFs(root, proc)
    kernel.slices()
    kernel.scope(SCOPE_PATH)
    kernel.close()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208  # the same
