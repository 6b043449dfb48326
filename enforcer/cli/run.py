"""`enforcer run`: the daemon."""

from __future__ import annotations

import argparse
import gc
from collections.abc import Sequence
from pathlib import Path

from enforcer.cli.words import CONFIG
from enforcer.model import SOCKET


def main(words: Sequence[str]) -> int:
    """Run the daemon until it is told to stop."""
    options = _parser().parse_args(words)
    # The daemon's imports are heavy: not for those who only want --help. None of them leaves
    # garbage, and looking for it takes a quarter of the time, now and at every later collection.
    gc.disable()
    from enforcer import daemon  # noqa: PLC0415 - as just said

    gc.freeze()
    gc.enable()
    return daemon.main(
        daemon.Options(
            config=options.config,
            state=options.state,
            socket=options.socket,
            debug=options.debug,
        )
    )


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="enforcer run",
        description="Run the daemon in the foreground; systemd starts it so. It needs root.",
        allow_abbrev=False,
    )
    made.add_argument("--config", type=Path, default=CONFIG, metavar="FILE", help=f"({CONFIG})")
    made.add_argument(
        "--socket",
        type=Path,
        default=Path(SOCKET),
        metavar="PATH",
        help=f"where to listen if systemd hands over no socket ({SOCKET})",
    )
    made.add_argument(
        "--state",
        type=Path,
        default=Path("/var/lib/enforcer"),
        metavar="DIR",
        help="where the ledger is kept (/var/lib/enforcer)",
    )
    made.add_argument("--debug", action="store_true", help="log more")
    return made
