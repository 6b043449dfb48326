"""The live picture: the tree, what the daemon did, and how to ask it oneself."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from enforcer.api.types import ReceiptReply, SlicesReply, StatusReply
from enforcer.client import Client
from enforcer.demo.play import Play, Story
from enforcer.demo.stage import Stage
from enforcer.errors import EnforcerError
from enforcer.machine.hub import PEOPLE
from enforcer.show.slices import slices_table
from enforcer.show.status import (
    drift_lines,
    machine_lines,
    receipts_table,
    repairs_table,
)
from enforcer.show.text import QUIET, word

TERMINAL_SECONDS: Final = 1.0
PLAIN_SECONDS: Final = 10.0
_TALL: Final = 45
"""Rows of a terminal that show everything."""


def show(stage: Stage, console: Console, seconds: float | None) -> None:
    """Show it until Ctrl-C, or for so many seconds."""
    story = Story()
    play = Play(stage, story)
    ends_at = None if seconds is None else time.monotonic() + seconds
    with stage.client() as client:
        play.start()
        try:
            if console.is_terminal:
                _on_terminal(stage, console, (client, story), ends_at)
            else:
                _as_lines(stage, console, (client, story), ends_at)
        finally:
            play.stop()


def _on_terminal(
    stage: Stage, console: Console, source: tuple[Client, Story], ends_at: float | None
) -> None:
    with Live(console=console, auto_refresh=False, screen=True) as live:
        while ends_at is None or time.monotonic() < ends_at:
            tall = console.size.height >= _TALL
            live.update(_frame(stage, source, tall=tall), refresh=True)
            time.sleep(TERMINAL_SECONDS)


def _as_lines(
    stage: Stage, console: Console, source: tuple[Client, Story], ends_at: float | None
) -> None:
    console.print(*doors(stage), sep="\n")
    while ends_at is None or time.monotonic() < ends_at:
        console.print()
        console.print(_frame(stage, source, tall=True))
        left = PLAIN_SECONDS if ends_at is None else ends_at - time.monotonic()
        time.sleep(max(0.0, min(PLAIN_SECONDS, left)))


def _frame(stage: Stage, source: tuple[Client, Story], *, tall: bool) -> RenderableType:
    client, story = source
    try:
        status, slices, receipts = client.status(), client.slices(), client.receipts(limit=3)
    except EnforcerError as error:
        # The daemon may be restarting: somebody at the curl line may have asked for that.
        return Group(word(str(error)), *doors(stage))
    told = picture(status, slices, receipts, tall=tall)
    lines = [word(line) for line in story.told()]
    return Group(told, Text(), *lines, Text(), *doors(stage))


def picture(
    status: StatusReply, slices: SlicesReply, receipts: Sequence[ReceiptReply], *, tall: bool
) -> RenderableType:
    """Put one moment together; a low terminal goes without the users' own level."""
    shown = [one for one in slices.slices if tall or one.kind != "user"]
    parts: list[RenderableType] = [*machine_lines(status.machine), Text(), slices_table(shown)]
    if any(one.cpu_cap is not None for one in shown):
        parts.append(Text("* capped for now, so that guaranteed CPU is there", style=QUIET))
    if status.repairs:
        parts += [Text(), repairs_table(status.repairs[-4 if tall else -2 :])]
    if receipts and tall:
        parts += [Text(), receipts_table(receipts)]
    return Group(*parts, *drift_lines(status.drift or ()))


def doors(stage: Stage) -> list[Text]:
    """Tell how to log in to the hub, and how to ask the daemon oneself."""
    admin, *others = PEOPLE
    return [
        word(
            f"hub      {stage.hub}  log in as {admin} (an admin), {' or '.join(others)};"
            f" password {stage.password}"
        ),
        word(f"API      curl --unix-socket {stage.socket} http://enforcer/v1/status"),
        word(f"metrics  curl http://127.0.0.1:{stage.metrics_port}/metrics"),
        Text("Ctrl-C ends it; nothing is left behind.", style=QUIET),
    ]
