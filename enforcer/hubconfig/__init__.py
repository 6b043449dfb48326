"""`hub-config`: a jupyterhub_config.py from a few answers, and the tokens that it names.

Only the standard library: `install --hub` runs it before anything else is there.
"""

from __future__ import annotations

from enforcer.hubconfig.command import default_answers, main, write
from enforcer.hubconfig.found import bridge_address
from enforcer.hubconfig.text import TOKENS, render

__all__ = ["TOKENS", "bridge_address", "default_answers", "main", "render", "write"]
