"""What a bare machine lacks, brought about: a venv with our dependencies, and apt packages.

Only the standard library, because this runs before anything else is there. Everything here can be
interrupted and started again, and two at once are safe.
"""

from __future__ import annotations

from enforcer.bootstrap.commands import Finished, Runner, SystemRunner
from enforcer.bootstrap.console import Console, answered, guarded
from enforcer.bootstrap.packages import ensure_packages
from enforcer.bootstrap.venv import DAEMON_ONLY, ensure_venv, reexec_in

__all__ = [
    "DAEMON_ONLY",
    "Console",
    "Finished",
    "Runner",
    "SystemRunner",
    "answered",
    "ensure_packages",
    "ensure_venv",
    "guarded",
    "reexec_in",
]
