"""The demo as its user types it: in a process of its own, ended by signals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from enforcer.client import Client

CHECKOUT = Path(__file__).parents[2]
UP_SECONDS = 1200.0
"""The first start builds the machine."""
SHOWN_SECONDS = 300.0
DOWN_SECONDS = 60.0
_SHOWN = (
    r"^ *ada's server .* 0\.\d+.* 100%",  # held back by her quota
    r"^ *bob's server .* [1-9]\d*$",  # killed at his limit
    r"^ *carol's server ",
    r"^ *dave's server ",
    r"^ *erin's server .* 0\.75 .* 320M ",  # with a guarantee of both
    r"capped for now",
    r"put back to",
)
"""What the live picture comes to show, some of it for a moment only."""


def test_every_promise_is_kept_on_the_kernels_own_files() -> None:
    done = subprocess.run(
        _words("--check", "--json"),
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=UP_SECONDS + 300,
        check=False,
    )
    told = json.loads(done.stdout)
    broken = [one for one in told["promises"] if not one["kept"]]
    assert not broken
    assert told["kept"]
    assert len(told["promises"]) >= 20
    assert done.returncode == 0


@pytest.mark.long
@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_it_is_live_while_it_runs_and_leaves_nothing_behind(ended_by: signal.Signals) -> None:
    with _live() as demo:
        assert _asked(demo.socket)
        with urllib.request.urlopen(demo.metrics, timeout=20) as answer:  # noqa: S310 - our http
            assert b"enforcer_build_info" in answer.read()
        if ended_by is signal.SIGINT:  # whoever watches until then sees it all
            demo.read_until(_SHOWN)
        demo.process.send_signal(ended_by)
        code = demo.process.wait(DOWN_SECONDS)
        if ended_by is signal.SIGKILL:
            # Nobody could remove the folder; the machine must have gone all the same.
            demo.socket.unlink(missing_ok=True)
            demo.socket.parent.rmdir()
        else:
            assert code == 0
        assert not demo.socket.parent.exists()
        demo.wait_gone()


class Demo:
    """A demo that is up. machines: the processes of the virtual machine."""

    def __init__(self, process: subprocess.Popen[str], text: str, machines: set[int]) -> None:
        self.process = process
        self.socket = Path(_found(r"--unix-socket (\S+)", text))
        self.metrics = _found(r"curl (http://127\S+)", text)
        self._machines = machines

    def read_until(self, patterns: Sequence[str]) -> None:
        """Read what it prints until all of these were in it."""
        assert self.process.stdout is not None
        deadline, text = time.monotonic() + SHOWN_SECONDS, ""
        for line in self.process.stdout:
            text += line
            if all(re.search(one, text, re.MULTILINE) for one in patterns):
                return
            assert time.monotonic() < deadline, text
        raise AssertionError(text)

    def wait_gone(self) -> None:
        """Wait until no process of the machine is left."""
        assert self._machines
        deadline = time.monotonic() + DOWN_SECONDS
        while self._machines & _machines():
            assert time.monotonic() < deadline, "the virtual machine outlives the demo"
            time.sleep(0.1)


@contextmanager
def _live() -> Iterator[Demo]:
    """Start it without a terminal, and wait until it tells how to ask it."""
    before = _machines()
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    # a shell's background job ignores Ctrl-C, and so would its child
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        _words(), cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        signal.signal(signal.SIGINT, heard)
        try:
            yield Demo(process, _read_doors(process), _machines() - before)
        finally:
            process.kill()


def _read_doors(process: subprocess.Popen[str]) -> str:
    """Read up to the line that says how to end it."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "Ctrl-C" in line:
            return "".join(lines)
    raise AssertionError("".join(lines))


def _asked(socket: Path) -> bool:
    with Client(str(socket)) as client:
        return client.status().privileged


def _machines() -> set[int]:
    """Return the processes that are virtual machines."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "comm").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
        if name.startswith("qemu-system"):
            found.add(int(folder.name))
    return found


def _words(*more: str) -> list[str]:
    return [sys.executable, "-m", "enforcer", "demo", *more]


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, text
    return match[1]
