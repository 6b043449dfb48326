"""One cgroup's files: what is read when, and what is made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from enforcer.adapters.cgroupfiles import COUNTERS
from enforcer.adapters.cgroupreader import VERIFY_EVERY, CgroupReader, read_limits
from tests.unit.cgrouptrees import LEAF_FILES, A, build


def test_limits_are_verified_now_and_then_without_any_event(tmp_path: Path) -> None:
    path = build(tmp_path / "one", LEAF_FILES)
    reader = CgroupReader(
        A, str(path), counters=("cpu.stat",), limits=("memory.max",), keep=True, phase=0
    )
    reader.read(1)
    (path / "memory.max").write_text("max\n")
    seen = [reader.read(1) for _ in range(VERIFY_EVERY)]
    reader.close()
    assert seen[0] is not None
    assert seen[0].limits.memory_max == 1 << 30
    assert seen[-1] is not None
    assert seen[-1].limits.memory_max is None


def test_counts_that_moved_are_read_without_reading_everything(tmp_path: Path) -> None:
    path = build(tmp_path / "one", LEAF_FILES)
    reader = CgroupReader(A, str(path), counters=("cpu.stat",), limits=(), keep=True, phase=8)
    reader.read(1)
    (path / "memory.events").write_text("low 0\nhigh 0\nmax 9\noom 8\noom_kill 7\n")
    unaware = reader.read(1)
    reader.told.add("memory.events")
    aware, verified = reader.read(1), reader.verified
    reader.close()
    assert unaware is not None
    assert aware is not None
    assert (unaware.usage.oom_kills, aware.usage.oom_kills) == (1, 7)
    assert not reader.told
    assert verified == 1


def test_a_limit_that_was_written_is_read_without_reading_everything(tmp_path: Path) -> None:
    path = build(tmp_path / "one", LEAF_FILES)
    files = ("memory.max", "pids.max")
    reader = CgroupReader(A, str(path), counters=("cpu.stat",), limits=files, keep=True, phase=8)
    before = reader.read(1)
    (path / "memory.max").write_text("max\n")
    (path / "cpu.max").write_text("max 100000\n")
    reader.told.update(("memory.max", "cpu.max"))
    after, verified = reader.read(1), reader.verified
    reader.close()
    assert before is not None
    assert after is not None
    assert after.limits == replace(before.limits, memory_max=None)
    assert not reader.told
    assert verified == 1


def test_what_cannot_move_by_itself_is_read_once_something_else_has(tmp_path: Path) -> None:
    path = build(tmp_path / "one", LEAF_FILES)
    reader = CgroupReader(A, str(path), counters=COUNTERS, limits=(), keep=True, phase=8)
    before = reader.read(1)
    (path / "memory.peak").write_text("90000\n")
    (path / "memory.swap.current").write_text("12288\n")
    unaware = reader.read(1)
    (path / "cpu.stat").write_text(LEAF_FILES["cpu.stat"].replace("5000", "5001"))
    aware, verified = reader.read(1), reader.verified
    reader.close()
    assert unaware is before
    assert aware is not None
    usage = aware.usage
    assert (usage.cpu_usec, usage.memory_peak, usage.swap_current) == (5001, 90000, 12288)
    assert verified == 1


def test_a_controller_that_is_switched_on_later_is_read_then(tmp_path: Path) -> None:
    path = build(tmp_path / "one", {"cpu.stat": LEAF_FILES["cpu.stat"]})
    reader = CgroupReader(
        A, str(path), counters=("cpu.stat", "pids.current"), limits=(), keep=True, phase=0
    )
    first = reader.read(1)
    build(path, {"pids.current": "9\n"})
    reader.stale = True
    second = reader.read(1)
    reader.close()
    assert first is not None
    assert first.usage.tasks == 0
    assert second is not None
    assert second.usage.tasks == 9


def test_limits_read_once_leave_out_what_is_absent_or_not_understood(tmp_path: Path) -> None:
    path = build(tmp_path / "one", {"memory.max": "max\n", "cpu.max": "nonsense\n"})
    assert read_limits(str(path)) == {"memory_max": None}
    assert read_limits(str(path), ["cpu_quota", "memory_max"]) == {"memory_max": None}
    assert read_limits(str(path), ["memory_min"]) == {}


def test_averages_that_fade_are_no_news_and_totals_that_grow_are(tmp_path: Path) -> None:
    some, full = "some avg10={0} avg60=0.00 avg300=0.00 total={1}", "full avg10={0} total={2}"
    full = full.replace("{0}", "{0} avg60=0.00 avg300=0.00")
    text = f"{some}\n{full}\n"
    path = build(tmp_path / "one", {**LEAF_FILES, "memory.pressure": text.format("9.00", 70, 60)})
    reader = CgroupReader(
        A, str(path), counters=("memory.pressure",), limits=(), keep=True, phase=8
    )
    first = reader.read(1)
    (path / "memory.pressure").write_text(text.format("0.10", 70, 60))
    faded = reader.read(1)
    (path / "memory.pressure").write_text(text.format("0.00", 70, 61))
    grown = reader.read(1)
    reader.close()
    assert first is not None
    assert faded is first
    assert grown is not None
    assert grown.usage.memory_pressure_full_usec == 61
