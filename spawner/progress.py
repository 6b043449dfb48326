"""What a start has to say, for everyone who watches it: any number of tabs, at any moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """One line. serial: it grows with each; topic: a line takes the place of the last one on it."""

    serial: int
    percent: int
    text: str
    topic: str

    def event(self) -> dict[str, object]:
        """Return it as the hub's progress event; the hub's page shows the text as text."""
        return {"progress": self.percent, "message": self.text}


class Progress:
    """The lines of one start; it may begin anew."""

    def __init__(self) -> None:
        self._lines: list[Line] = []
        self._serial = 0
        self._ended = True
        self._changed = asyncio.Event()

    def begin(self) -> None:
        """Forget the lines of the last start."""
        self._lines.clear()
        self._ended = False
        self._notify()

    def tell(self, percent: int, text: str, topic: str = "") -> None:
        """Say something; the same again is not said twice."""
        last = self._lines[-1] if self._lines else None
        if last is not None and last.text == text:
            return
        if last is not None and topic and last.topic == topic:
            self._lines.pop()
        self._serial += 1
        self._lines.append(Line(self._serial, percent, text, topic))
        self._notify()

    def end(self) -> None:
        """Let everyone who watches go."""
        self._ended = True
        self._notify()

    async def follow(self) -> AsyncIterator[dict[str, object]]:
        """Yield what was said so far, then what is said, until the start has ended."""
        seen = 0
        while True:
            changed = self._changed
            for line in [one for one in self._lines if one.serial > seen]:
                seen = line.serial
                yield line.event()
            if self._ended and (not self._lines or self._lines[-1].serial <= seen):
                return
            if changed is self._changed:
                await changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
