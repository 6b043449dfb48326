"""The demo's life in the background: five users come, one keeps dying, somebody meddles."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from typing import Final

from enforcer.client import Client
from enforcer.demo.scenario import BOB, CAST, ERIN, Part, mischief
from enforcer.demo.stage import Stage
from enforcer.errors import EnforcerError
from enforcer.names import UnitName

MEDDLES_EVERY_SECONDS: Final = 15.0
LOOKS_EVERY_SECONDS: Final = 1.0
JOIN_SECONDS: Final = 5.0
_TOLD: Final = 5


@dataclass(slots=True)
class Story:
    """What has happened lately, the newest last; written by one thread and read by another."""

    lines: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def tell(self, line: str) -> None:
        """Add a line, with the time."""
        with self.lock:
            self.lines = [*self.lines, f"{time.strftime('%H:%M:%S')}  {line}"][-_TOLD:]

    def told(self) -> list[str]:
        """Return the lines."""
        with self.lock:
            return list(self.lines)


class Play(threading.Thread):
    """Plays until it is stopped. What fails in it is told in the story, and the demo goes on."""

    def __init__(self, stage: Stage, story: Story) -> None:
        super().__init__(name="play", daemon=True)
        self._stage = stage
        self._story = story
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End it; what it waits for ends with the machine at the latest."""
        self._stopping.set()
        self.join(JOIN_SECONDS)

    def run(self) -> None:
        """Bring the users in one by one, then look after bob and meddle, until stopped."""
        with self._stage.client() as client:
            for part in CAST:
                if self._stopping.is_set():
                    return
                self._try(partial(self._enter, client, part))
            kinds = cycle(range(3))
            meddle_at = time.monotonic()
            while not self._stopping.wait(LOOKS_EVERY_SECONDS):
                self._try(partial(self._revive, client))
                if time.monotonic() >= meddle_at:
                    kind = next(kinds)
                    self._try(partial(self._meddle, client, kind))
                    meddle_at = time.monotonic() + MEDDLES_EVERY_SECONDS

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except (EnforcerError, OSError) as error:
            if not self._stopping.is_set():
                self._story.tell(f"the demo itself failed: {error}")

    def _enter(self, client: Client, part: Part) -> None:
        self._story.tell(f"{part.user} starts: {part.shows}")
        self._stage.place(client, part)

    def _revive(self, client: Client) -> None:
        """Whose server was killed starts it again."""
        if client.leases(BOB.user):
            return
        newest = client.receipts(BOB.user, 1)
        if newest:
            self._story.tell(f"bob's receipt: {newest[0].sentence}")
        self._stage.place(client, BOB)

    def _meddle(self, client: Client, kind: int) -> None:
        lease = next(iter(client.leases(ERIN.user)), None)
        if lease is None:
            return
        scope = self._stage.cgroup(self._stage.pid(ERIN.container))
        change = mischief(UnitName(lease.unit), scope, ERIN.container)[kind]
        found = self._stage.drift(change)
        undone = f"undone in {found['seconds'] * 1000:.0f} ms" if found["undone"] else "not undone"
        self._story.tell(f"somebody lifts erin's memory limit by {change.name}: {undone}")
