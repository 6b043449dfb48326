"""The configuration file: text in, a checked and resolved Config out, or every mistake at once."""

from __future__ import annotations

from enforcer.config.mistakes import ConfigError, Mistake
from enforcer.config.parse import parse_config

__all__ = ["ConfigError", "Mistake", "parse_config"]
