"""`hub-config`: a jupyterhub_config.py from a few answers, and the tokens that it names.

Only the standard library: `install --hub` runs it before anything else is there.
"""

from __future__ import annotations

from enforcer.hubconfig.command import main

__all__ = ["main"]
