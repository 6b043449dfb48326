"""Running a command: with a timeout, with its output kept for the case that it fails."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Protocol

from enforcer.errors import UnavailableError

_POLL_SECONDS = 0.2
_TERMINATE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that has ended: its exit code, and its output and errors as one text."""

    returncode: int
    output: str

    def tail(self, lines: int = 12) -> str:
        """The last lines of what it wrote, indented, for a message."""
        kept = self.output.strip().splitlines()[-lines:]
        return "\n".join(f"    {line}" for line in kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to run: the words, seconds it may take, what to add to its environment."""

    words: Sequence[str]
    timeout_seconds: float
    environment: Mapping[str, str] = field(default_factory=dict)
    terminal: bool = False
    """It talks to the person itself (sudo asking for a password), so nothing is kept."""
    keep_open: Sequence[int] = ()
    """Descriptors it inherits, such as a lock that must hold for as long as it runs."""


class Runner(Protocol):
    """Runs commands; `waiting` is called several times a second meanwhile."""

    def run(self, command: Command, waiting: Callable[[], None]) -> Finished:
        """Run it to its end.

        Raises:
            UnavailableError: there is no such program, or it took longer than it may.
        """
        ...


class SystemRunner:
    """The real one."""

    def run(self, command: Command, waiting: Callable[[], None]) -> Finished:
        """Run it to its end; it is ended first when we are interrupted."""
        # A file, not a pipe: nothing has to read while we wait, so nothing can fill up.
        with tempfile.TemporaryFile() as output:
            process = _start(command, output)
            try:
                _wait(process, command, waiting)
            except BaseException:
                _end(process)
                raise
            output.seek(0)
            return Finished(process.returncode, output.read().decode(errors="replace"))


def _start(command: Command, output: IO[bytes]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(command.words),
            stdin=None if command.terminal else subprocess.DEVNULL,
            stdout=None if command.terminal else output,
            stderr=None if command.terminal else subprocess.STDOUT,
            pass_fds=list(command.keep_open),
            env={**os.environ, **command.environment},
        )
    except OSError as error:
        raise UnavailableError(
            "command.not-started",
            f"cannot run {command.words[0]}: {error.strerror}",
            f"install the package that has {command.words[0]}, or put it on PATH",
        ) from error


def _wait(process: subprocess.Popen[bytes], command: Command, waiting: Callable[[], None]) -> None:
    deadline = time.monotonic() + command.timeout_seconds
    while True:
        try:
            process.wait(_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            if time.monotonic() >= deadline:
                raise UnavailableError(
                    "command.timeout",
                    f"{' '.join(command.words[:3])} took longer than"
                    f" {command.timeout_seconds:.0f} s and was ended",
                    "look at the network and the disk, then start again",
                ) from None
            waiting()
        else:
            return


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_TERMINATE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(_TERMINATE_SECONDS)
