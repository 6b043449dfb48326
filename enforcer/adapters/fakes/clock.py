"""Time that passes when a test says so."""

from __future__ import annotations


class FakeClock:
    """Begins at 1 000 000 Unix seconds and 1000 monotonic ones, and stands still."""

    def __init__(self, now: float = 1_000_000.0, monotonic: float = 1000.0) -> None:
        self._now = now
        self._monotonic = monotonic

    def now(self) -> float:
        """Unix seconds."""
        return self._now

    def monotonic(self) -> float:
        """Seconds that never jump."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock forth or back, as an admin or NTP does; no time passes."""
        self._now += seconds
