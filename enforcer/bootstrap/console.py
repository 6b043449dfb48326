"""Words for the person who waits: what is about to happen, how long it takes, what went wrong."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from enforcer.errors import EnforcerError, UnavailableError

QUIET_SECONDS = 2.0
"""What is over sooner than this needs no progress."""

LINE_EVERY_SECONDS = 10.0
"""Without a terminal: a line this often, so that a log shows life but does not drown."""

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

_SPINNER = "|/-\\"
_CLEAR_LINE = "\r\x1b[K"
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Why an answer cannot be written, where the place for it is full or may not grow."""


class Console:
    """Writes progress to a stream: a spinner on a terminal, plain lines elsewhere.

    clock: seconds from any start, never going back.
    """

    def __init__(
        self, stream: TextIO | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._clock = clock

    def say(self, line: str) -> None:
        """One line, at once."""
        print(line, file=self._stream, flush=True)

    @contextmanager
    def step(self, label: str) -> Iterator[Callable[[], None]]:
        """A piece of work that may take long; yields what to call while it goes on.

        Call it several times a second: it shows the elapsed time once there is any to speak of.
        """
        started = self._clock()
        progress = _Progress(self._stream, label, terminal=self._terminal)
        try:
            yield lambda: progress.show(self._clock() - started)
        finally:
            progress.clear()
        elapsed = self._clock() - started
        if elapsed >= QUIET_SECONDS:
            self.say(f"{label}: done in {elapsed:.0f} s")


class _Progress:
    """What one step has shown so far."""

    def __init__(self, stream: TextIO, label: str, *, terminal: bool) -> None:
        self._stream = stream
        self._label = label
        self._terminal = terminal
        self._turn = 0
        self._next_line_seconds = QUIET_SECONDS

    def show(self, elapsed_seconds: float) -> None:
        if self._terminal:
            self._turn += 1
            spinner = _SPINNER[self._turn % len(_SPINNER)]
            line = f"{_CLEAR_LINE}{spinner} {self._label} ({elapsed_seconds:.0f} s)"
            self._stream.write(line)
            self._stream.flush()
        elif elapsed_seconds >= self._next_line_seconds:
            self._next_line_seconds = elapsed_seconds + LINE_EVERY_SECONDS
            print(f"{self._label}... {elapsed_seconds:.0f} s", file=self._stream, flush=True)

    def clear(self) -> None:
        if self._terminal and self._turn:
            self._stream.write(_CLEAR_LINE)
            self._stream.flush()


def guarded(main: Callable[[], int], program: str, console: Console | None = None) -> int:
    """Run main; its exit code, or 1 with a message for a known error, or 130 after Ctrl-C.

    Anything else is a mistake of ours and keeps its traceback.
    """
    console = Console() if console is None else console
    try:
        return main()
    except EnforcerError as error:
        console.say(f"{program}: {error.message}")
        if error.hint:
            console.say(f"  What to do: {error.hint}")
        return EXIT_FAILED
    except KeyboardInterrupt:
        console.say(f"{program}: interrupted; start it again and it goes on from where it can")
        return EXIT_INTERRUPTED


def answered(main: Callable[[], int]) -> int:
    """Run what answers on standard output, until that is out; its exit code, 1 if nobody reads on.

    Raises:
        UnavailableError: ``output.full``.
    """
    try:
        code = _parsed(main)
        print(end="", flush=True)
    except BrokenPipeError:  # `enforcer status | head`: no failure worth a message
        _say_no_more()
        return EXIT_FAILED
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        _say_no_more()
        raise UnavailableError(
            "output.full",
            f"the answer could not be written: {error.strerror}",
            "make room there, or have it written elsewhere",
        ) from error
    return code


def _parsed(main: Callable[[], int]) -> int:
    try:
        return main()
    except SystemExit as stop:  # argparse's: 0 after --help, 2 for wrong words
        return stop.code if isinstance(stop.code, int) else 2


def _say_no_more() -> None:
    """Keep the interpreter from complaining when it flushes at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
