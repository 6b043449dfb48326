"""How many examples a property is tried on: fewer where somebody is in a hurry."""

from __future__ import annotations

from typing import Final

from hypothesis import settings

USUAL: Final = 100
FEW: Final = 20


def examples(number: int) -> int:
    """Return so many, or with the hurried profile a fifth of it."""
    return max(5, number * settings().max_examples // USUAL)
