"""`install` and `uninstall`: the daemon put on a real host, and taken off again.

Only the standard library: what it installs is what everything else needs. Both can be repeated;
neither overwrites or removes a file that an admin has changed.
"""

from __future__ import annotations

from enforcer.install.command import main

__all__ = ["main"]
