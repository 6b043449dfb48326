"""Since when a profile does not fit, as far as anybody has looked."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from enforcer.api.types import CatalogueReply

_MOST: Final = 5000
_APART_SECONDS: Final = 30.0
"""A form that somebody sees looks every 5 s, more slowly while the daemon is away."""


@dataclass(frozen=True, slots=True)
class _Wait:
    """Seen first and last, in Unix seconds."""

    since: float
    seen: float


class Waits:
    """Remembers when each profile for a user's server was first seen not to fit.

    The daemon tells what is so now. Somebody who waits for room looks at the form again and again,
    so what was seen here is as good as "since at least". What happened while nobody looked is not
    known: a profile that was not seen for a while begins anew, as does one that fits.
    """

    def __init__(self) -> None:
        self._waits: OrderedDict[tuple[str, str, str], _Wait] = OrderedDict()

    def look(self, found: CatalogueReply, server: str, now: float) -> dict[str, float]:
        """Take note of what fits at a time (Unix seconds); return since when the others do not.

        server: the one that is to be started; what fits depends on it.
        """
        since = {}
        for profile in found.profiles:
            key = (found.user, server, profile.name)
            before = self._waits.pop(key, None)
            if profile.fits:
                continue
            if before is None or now - before.seen > _APART_SECONDS:
                before = _Wait(now, now)
            self._waits[key] = _Wait(before.since, now)
            since[profile.name] = before.since
        while len(self._waits) > _MOST:
            self._waits.popitem(last=False)
        return since
