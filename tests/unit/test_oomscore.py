"""Whom the kernel is to kill first: oom_score_adj of a container's processes."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from enforcer.adapters.cgroupfs import CgroupFs
from enforcer.adapters.oomscore import UNEVEN, write_oom_score_adj
from enforcer.errors import UnavailableError
from tests.unit.cgrouptrees import SCOPE_PATH, Ticking, build, process


class Settable:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def oom_score(proc: Path, pid: int) -> int:
    return int((proc / str(pid) / "oom_score_adj").read_text())


def test_the_oom_score_is_written_for_every_process_below_a_scope(
    root: Path, proc: Path, kernel: CgroupFs
) -> None:
    (root / SCOPE_PATH / "cgroup.procs").write_text("42\n")
    build(root / SCOPE_PATH / "inner", {"cgroup.procs": "43\n44\n45\n46\n"})
    process(proc, 42, SCOPE_PATH, 0)
    process(proc, 43, f"{SCOPE_PATH}/inner", 500)
    process(proc, 44, f"{SCOPE_PATH}/inner", -967)  # has it
    process(proc, 46, "user.slice", 0)  # the number of one that ended went to a stranger
    assert kernel.scope(SCOPE_PATH) is not None
    assert kernel.set_oom_score_adj(SCOPE_PATH, -667) == 2
    assert [oom_score(proc, pid) for pid in (42, 43, 44, 46)] == [-967, -967, -967, 0]


@pytest.mark.parametrize(
    ("value", "server", "kernel_", "large"), [(0, 0, 300, 300), (-500, -800, -500, -500)]
)
def test_a_kernel_is_killed_before_its_server_unless_that_is_large_itself(
    root: Path, proc: Path, kernel: CgroupFs, value: int, server: int, kernel_: int, large: int
) -> None:
    (root / SCOPE_PATH / "cgroup.procs").write_text("50\n43\n42\n")
    process(proc, 42, SCOPE_PATH, value)
    process(proc, 43, SCOPE_PATH, value, pages=(1 << 30) // 4096 // 8 + 1)  # of the limit's 1 GiB
    process(proc, 50, SCOPE_PATH, value, session=50)
    assert _score(kernel) == UNEVEN
    kernel.set_oom_score_adj(SCOPE_PATH, value)
    assert [oom_score(proc, pid) for pid in (42, 43, 50)] == [server, large, kernel_]
    assert _score(kernel) == value


def test_a_kernel_that_was_started_since_is_seen(root: Path, proc: Path, kernel: CgroupFs) -> None:
    (root / SCOPE_PATH / "cgroup.procs").write_text("42\n")
    process(proc, 42, SCOPE_PATH, 0)
    kernel.scope(SCOPE_PATH)
    kernel.set_oom_score_adj(SCOPE_PATH, 0)
    assert _score(kernel) == 0
    process(proc, 51, SCOPE_PATH, 0, session=51)
    (root / SCOPE_PATH / "cgroup.procs").write_text("42\n51\n")
    (root / SCOPE_PATH / "pids.current").write_text("8\n")
    assert _score(kernel) == UNEVEN
    assert kernel.set_oom_score_adj(SCOPE_PATH, 0) == 1
    assert _score(kernel) == 0


def test_a_server_that_grows_is_looked_at_before_it_is_spared_wrongly(
    root: Path, proc: Path, kernel: CgroupFs
) -> None:
    (root / SCOPE_PATH / "cgroup.procs").write_text("42\n")
    process(proc, 42, SCOPE_PATH, 0)
    kernel.scope(SCOPE_PATH)
    kernel.set_oom_score_adj(SCOPE_PATH, 0)
    assert _score(kernel) == 0
    process(proc, 42, SCOPE_PATH, 0, pages=(1 << 30) // 4096 // 4)
    (root / SCOPE_PATH / "memory.current").write_text(f"{1 << 28}\n")
    assert _score(kernel) == UNEVEN
    kernel.set_oom_score_adj(SCOPE_PATH, 0)
    assert oom_score(proc, 42) == 300


def test_a_fork_bomb_is_not_looked_through_all_the_time(root: Path, proc: Path) -> None:
    clock = Settable()
    kernel = CgroupFs(root, proc, clock=clock, cpu_clock=Ticking())  # a second for each look
    (root / SCOPE_PATH / "cgroup.procs").write_text("42\n")
    process(proc, 42, SCOPE_PATH, 0)
    kernel.scope(SCOPE_PATH)
    kernel.set_oom_score_adj(SCOPE_PATH, 0)
    process(proc, 51, SCOPE_PATH, 0, session=51)
    (root / SCOPE_PATH / "cgroup.procs").write_text("42\n51\n")
    (root / SCOPE_PATH / "pids.current").write_text("8\n")
    clock.now = 48.9
    assert _score(kernel) == 0  # as it was when last looked at
    clock.now = 49.1
    assert _score(kernel) == UNEVEN
    kernel.set_oom_score_adj(SCOPE_PATH, 0)
    assert _score(kernel) == 0
    # it rests again, but a hog cannot hide in it
    process(proc, 42, SCOPE_PATH, 0, pages=(1 << 30) // 4096 // 4)
    (root / SCOPE_PATH / "memory.current").write_text(f"{1 << 28}\n")
    assert _score(kernel) == UNEVEN
    kernel.close()


def test_processes_that_come_faster_than_they_are_found_are_not_known_to_have_theirs(
    root: Path, proc: Path, kernel: CgroupFs
) -> None:
    (root / SCOPE_PATH / "cgroup.procs").write_text("42\n")
    process(proc, 42, SCOPE_PATH, 0)
    (proc / "42" / "oom_score_adj").unlink()
    # 0 written there means 50 000, so it never keeps what it is given
    (proc / "42" / "oom_score_adj").symlink_to("/proc/self/timerslack_ns")
    kernel.scope(SCOPE_PATH)
    assert kernel.set_oom_score_adj(SCOPE_PATH, 0) == 4  # once in each pass
    assert _score(kernel) == UNEVEN


def _score(kernel: CgroupFs) -> int | None:
    scope = kernel.scope(SCOPE_PATH)
    assert scope is not None
    return scope[2]


def test_an_oom_score_in_a_scope_that_is_gone_writes_nothing(kernel: CgroupFs) -> None:
    assert kernel.set_oom_score_adj("jupyter.slice/gone.scope", -5) == 0


@pytest.mark.parametrize("name", ["stat", "oom_score_adj"])
def test_a_process_that_is_reaped_while_its_file_is_open_is_left_out(
    root: Path, proc: Path, kernel: CgroupFs, name: str
) -> None:
    (root / SCOPE_PATH / "cgroup.procs").write_text("42\n43\n")
    process(proc, 42, SCOPE_PATH, -967)
    process(proc, 43, SCOPE_PATH, -967)
    kernel.scope(SCOPE_PATH)
    kernel.set_oom_score_adj(SCOPE_PATH, -667)
    (root / SCOPE_PATH / "pids.current").write_text("8\n")
    (proc / "43" / name).unlink()
    with _reaped(name) as file:
        (proc / "43" / name).symlink_to(file)
        assert _score(kernel) == -667


def test_a_process_that_is_reaped_before_it_is_written_is_left_out(root: Path, proc: Path) -> None:
    (root / SCOPE_PATH / "cgroup.procs").write_text("43\n")
    process(proc, 43, SCOPE_PATH, 0)
    stat = proc / "43" / "stat"
    line = stat.read_text()
    stat.unlink()
    os.mkfifo(stat)
    with _reaped("") as directory:

        def reap() -> None:
            with stat.open("w") as told:  # once it is open for reading
                (proc / "43").rename(proc / "was-43")
                (proc / "43").symlink_to(directory)
                told.write(line)

        reaping = threading.Thread(target=reap)
        reaping.start()
        written = write_oom_score_adj(root / SCOPE_PATH, SCOPE_PATH, proc, -667, None)
        reaping.join()
    assert written == (0, True)


@contextmanager
def _reaped(name: str) -> Iterator[str]:
    """Yield a path to a file of a process, or to its directory, that was open when it was reaped.

    The kernel lets the file be opened anew, and says what it says of any process that has gone.
    """
    with subprocess.Popen(["sleep", "60"]) as child:
        fd = os.open(f"/proc/{child.pid}/{name}", os.O_RDONLY)
        child.kill()
    try:
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def test_a_refused_oom_score_says_which_right_is_missing(
    root: Path, proc: Path, kernel: CgroupFs
) -> None:
    (root / SCOPE_PATH / "cgroup.procs").write_text("42\n")
    # a directory refuses even root, who may write a read-only file
    process(proc, 42, SCOPE_PATH, 0)
    (proc / "42" / "oom_score_adj").unlink()
    (proc / "42" / "oom_score_adj").mkdir()
    with pytest.raises(UnavailableError, match="CAP_SYS_RESOURCE"):
        kernel.set_oom_score_adj(SCOPE_PATH, -667)
