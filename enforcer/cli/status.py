"""`enforcer status`: the machine and its slices, once or for as long as one watches."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, RenderableType
from rich.live import Live

from enforcer.api.types import LeaseReply, SlicesReply, StatusReply
from enforcer.cli.output import console, print_json, show
from enforcer.cli.words import add_socket, parser
from enforcer.client import Client
from enforcer.show.status import status_view

LEAST_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What one look at the daemon showed."""

    status: StatusReply
    slices: SlicesReply
    leases: Sequence[LeaseReply]

    def view(self) -> RenderableType:
        """Make it readable."""
        return status_view(self.status, self.slices, self.leases)

    def plain(self) -> dict[str, Any]:
        """Return the replies under the names of their paths."""
        return {
            "status": self.status.model_dump(mode="json"),
            "slices": self.slices.model_dump(mode="json")["slices"],
            "leases": [lease.model_dump(mode="json") for lease in self.leases],
        }


def look(client: Client) -> Picture:
    """Ask the daemon for everything `status` shows; who may not see all leases gets their own."""
    status = client.status()
    leases = client.leases() if status.privileged else status.mine
    return Picture(status=status, slices=client.slices(), leases=leases)


def main(words: Sequence[str]) -> int:
    """Show it; with --watch until Ctrl-C, which is its ordinary end."""
    options = _parser().parse_args(words)
    with Client(options.socket) as client:
        if options.watch is None:
            picture = look(client)
            if options.json:
                print_json(picture.plain())
            else:
                show(picture.view())
            return 0
        try:
            _watch(lambda: look(client), options)
        except KeyboardInterrupt:
            return 0
    return 0


def _parser() -> argparse.ArgumentParser:
    made = parser(
        "status",
        "Show the slice tree with usage against limit and guarantee, the leases, and what you have"
        " to mend. root and the hub see everything; others the machine's sums and their own.",
        "used, limit, given: in use, the most, guaranteed. held back: the part of the time that a"
        " CPU quota stopped it. wait: the part of the time that something in it had to wait.",
    )
    made.add_argument(
        "--watch",
        nargs="?",
        type=_seconds,
        const=2.0,
        metavar="SECONDS",
        help="show it again and again, every 2 s unless you say otherwise",
    )
    add_socket(made)
    return made


def _seconds(text: str) -> float:
    seconds = float(text)
    if not LEAST_SECONDS <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"from {LEAST_SECONDS} to 3600 seconds")
    return seconds


def _watch(picture: Callable[[], Picture], options: argparse.Namespace) -> None:
    if options.json:
        while True:
            print_json(picture().plain())
            time.sleep(options.watch)
    screen = console()
    if not screen.is_terminal:
        _print_again_and_again(screen, picture, options.watch)
    with Live(console=screen, auto_refresh=False, screen=True) as live:
        while True:
            live.update(picture().view(), refresh=True)
            time.sleep(options.watch)


def _print_again_and_again(screen: Console, picture: Callable[[], Picture], seconds: float) -> None:
    while True:
        show(picture().view(), screen)
        print(flush=True)
        time.sleep(seconds)
