"""One tick: observe, decide, act, publish. Here the pure parts meet the world."""

from __future__ import annotations

from enforcer.controller.controller import ConfigFile, Controller
from enforcer.controller.world import World

__all__ = ["ConfigFile", "Controller", "World"]
