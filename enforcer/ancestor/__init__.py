"""The configuration of the ancestor project, a program, read without running it.

Its dictionaries become an enforcer.toml, or every mistake in them is told at once.
"""

from __future__ import annotations

from enforcer.ancestor.convert import convert

__all__ = ["convert"]
