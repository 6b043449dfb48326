"""The command line: words in, tables or JSON out, an exit code.

0: done; 1: it failed; 2: the words were wrong; 3: `plan` found somebody at risk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Final

from enforcer.bootstrap import answered

Command = Callable[[Sequence[str]], int]

_PLACES: Final[Mapping[str, tuple[str, str]]] = {
    "run": ("run", "main"),
    "check": ("check", "main"),
    "plan": ("ask", "plan"),
    "status": ("status", "main"),
    "explain": ("ask", "explain"),
    "reload": ("ask", "reload"),
    "import": ("importing", "main"),
    "demo": ("demo", "main"),
}
"""Command → module and function here; the standard library's own are elsewhere."""


def main(argv: Sequence[str]) -> int:
    """Run one command of `enforcer.__main__`'s list; its exit code.

    Raises:
        EnforcerError: it failed; the caller says so.
    """
    command, *rest = argv
    # Only what the command needs is imported: `status` has no use for the whole daemon.
    module, function = _PLACES[command]
    run: Command = getattr(import_module(f"enforcer.cli.{module}"), function)
    return answered(lambda: run(rest))
