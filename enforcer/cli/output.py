"""Where the answers go: standard output, for a person or a program."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console, RenderableType

from enforcer.api.types import Reply

_UNFOLDED = 10_000
"""Columns of a file: what searches it wants whole lines, however long."""


def console() -> Console:
    """Make the console for tables; colour only on a terminal, and not if NO_COLOR is set.

    Nothing printed on it is searched for markup, emoji codes or things to highlight.
    """
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _UNFOLDED
    return Console(markup=False, emoji=False, highlight=False, width=width)


def show(answer: RenderableType, screen: Console | None = None) -> None:
    """Print it; into a file without the blanks that fill up a table's last column."""
    screen = console() if screen is None else screen
    if screen.is_terminal:
        screen.print(answer)
        return
    with screen.capture() as captured:
        screen.print(answer)
    for line in captured.get().splitlines():
        print(line.rstrip())
    sys.stdout.flush()


def print_json(value: Reply | Mapping[str, Any]) -> None:
    """Print a reply as JSON, every control character escaped."""
    plain = value.model_dump(mode="json") if isinstance(value, Reply) else value
    # ascii: a terminal reads none of it as an order, a program reads it the same.
    json.dump(plain, sys.stdout, indent=2, ensure_ascii=True)
    sys.stdout.write("\n")
    sys.stdout.flush()
