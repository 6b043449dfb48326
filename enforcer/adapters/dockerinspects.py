"""What comes of inspecting containers one by one, for the list of them all."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from enforcer.adapters.dockerjson import Inspected, Listed
from enforcer.errors import UnavailableError
from enforcer.model import Container

FEW: Final = 3
"""So many may fail and it is they; with more, it may be dockerd. So many may hang at a time."""


@dataclass(frozen=True, slots=True)
class Known:
    """What inspect said of a container while the list showed it as `state`; until: monotonic."""

    inspected: Inspected
    state: str
    until: float


@dataclass(frozen=True, slots=True)
class Unread:
    """Why a container could not be inspected, and until when (monotonic) it is not tried again.

    being_made: that may be all there is to it.
    """

    why: str
    until: float
    being_made: bool


@dataclass(slots=True)
class Inspects:
    """Those that one list makes necessary."""

    found: dict[str, Container] = field(default_factory=dict)
    waiting: deque[Listed] = field(default_factory=deque)
    """The last one comes first."""
    failed: dict[str, UnavailableError] = field(default_factory=dict)
    answered: bool = False

    @property
    def too_slow(self) -> bool:
        """So many hang that the list would take too long if more were tried."""
        return sum(error.code == "docker.timeout" for error in self.failed.values()) > FEW
