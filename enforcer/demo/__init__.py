"""The demo: a real machine, five users, three profiles, and every promise to be seen or checked."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType

from rich.console import Console as Screen

from enforcer import machine
from enforcer.bootstrap import Console
from enforcer.demo import live
from enforcer.demo.check import Check, guest_memory, load_config
from enforcer.demo.promises import Verdict, verdicts_view
from enforcer.demo.stage import prepare, raised

__all__ = ["DEFAULT_SUITE", "SUITES", "Verdict", "check", "show", "verdicts_view"]

DEFAULT_SUITE = machine.DEFAULT_SUITE
SUITES = tuple(machine.SUITES)

_CONFIG = "/etc/enforcer/enforcer.toml"


def show(screen: Screen, suite: str, seconds: float | None) -> None:
    """Show the live picture until Ctrl-C (which is no error), or for so many seconds."""
    console = Console()
    with stopped_by_signals():
        layer = prepare(console, suite)
        with ExitStack() as stack:
            with console.step("Starting the virtual machine"):
                stage = stack.enter_context(raised(layer))
            with suppress(KeyboardInterrupt):
                live.show(stage, screen, seconds)


def check(suite: str) -> Iterator[Verdict]:
    """Play it once; the verdicts as they come."""
    console = Console()
    with stopped_by_signals():
        layer = prepare(console, suite)
        with raised(layer) as stage, stage.client() as client:
            memory = guest_memory(stage.guest.read("/proc/meminfo"))
            config = load_config(stage.guest.read(_CONFIG), memory)
            yield from Check(stage, client, config, console).verdicts()


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end us the way Ctrl-C does, with everything put away."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {one: signal.signal(one, interrupt) for one in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for one, action in before.items():
            signal.signal(one, action)
