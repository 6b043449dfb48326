"""The words that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from enforcer.model import SOCKET

CONFIG: Final = Path("/etc/enforcer/enforcer.toml")


def parser(command: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    """Make a command's parser; every command can answer in JSON."""
    made = argparse.ArgumentParser(
        prog=f"enforcer {command}",
        description=description,
        epilog=epilog or None,
        allow_abbrev=False,
    )
    made.add_argument("--json", action="store_true", help="for programs: the API's own JSON")
    return made


def add_socket(made: argparse.ArgumentParser) -> None:
    """Let the command ask another daemon than this host's."""
    made.add_argument(
        "--socket", default=SOCKET, metavar="PATH", help=f"the daemon's socket ({SOCKET})"
    )
