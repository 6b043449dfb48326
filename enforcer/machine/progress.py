"""How the machine tells the one who waits what it is doing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from enforcer.bootstrap import Finished, SystemRunner
from enforcer.bootstrap.commands import Command
from enforcer.errors import UnavailableError

_EVERY_SECONDS = 0.2

Waiting = Callable[[], None]
"""Called several times a second while a step goes on."""

Progress = Callable[[str], AbstractContextManager[Waiting]]
"""Opens a step that may take long, under a label for people: `bootstrap.Console().step` is one."""


@contextmanager
def quiet(label: str) -> Iterator[Waiting]:  # noqa: ARG001 - it is a Progress
    """Say nothing."""
    yield lambda: None


@contextmanager
def calling(waiting: Waiting) -> Iterator[None]:
    """Call it from a thread of its own while something goes on that calls nobody."""
    ended = threading.Event()

    def call() -> None:
        while not ended.wait(_EVERY_SECONDS):
            waiting()

    thread = threading.Thread(target=call, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def run_command(words: Sequence[str], waiting: Waiting, timeout_seconds: float) -> Finished:
    """Run a program of the host.

    Raises:
        UnavailableError: there is none, it took too long, or it failed: with what it said.
    """
    finished = SystemRunner().run(Command(words=words, timeout_seconds=timeout_seconds), waiting)
    if finished.returncode != 0:
        raise UnavailableError(
            "machine.command",
            f"{words[0]} failed (exit {finished.returncode}):\n{finished.tail(20)}",
            "look at the network, the room on the disk and the lines above, then start again",
        )
    return finished
