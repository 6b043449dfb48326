"""QEMU's warden, with `sleep` in QEMU's place."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from enforcer.machine import warden

WAIT_SECONDS = 10.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "run"
    made.mkdir()
    return made


@pytest.fixture
def guard(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with start(folder, "sleep", "60") as process:
        yield process
        process.kill()


def start(folder: Path, *command: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-I", warden.__file__, str(folder), "--", *command]
    return subprocess.Popen(words, stdin=subprocess.PIPE)


def child_of(process: subprocess.Popen[bytes]) -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return int(wait_for(children.read_text).split()[0])


def wait_for(found: Callable[[], str]) -> str:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        value = found()
        if value:
            return value
        time.sleep(0.01)
    raise TimeoutError


def gone(pid: int) -> str:
    return "" if Path(f"/proc/{pid}").exists() else "gone"


def test_the_child_ends_when_the_pipe_does(guard: subprocess.Popen[bytes], folder: Path) -> None:
    child = child_of(guard)
    assert guard.stdin is not None
    guard.stdin.close()
    assert guard.wait(WAIT_SECONDS) != 0
    assert gone(child)
    assert not folder.exists()


def test_the_child_ends_when_its_warden_is_killed(guard: subprocess.Popen[bytes]) -> None:
    child = child_of(guard)
    os.kill(guard.pid, signal.SIGKILL)
    assert wait_for(lambda: gone(child))


def test_a_child_that_ends_by_itself_hands_on_its_code(folder: Path) -> None:
    with start(folder, "sh", "-c", "exit 3") as process:
        assert process.wait(WAIT_SECONDS) == 3
    assert not folder.exists()


def test_a_program_that_is_not_there_is_a_failure(folder: Path) -> None:
    with start(folder, "/nonexistent") as process:
        assert process.wait(WAIT_SECONDS) == 127
