"""Since when a profile does not fit, as far as anybody has looked."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from enforcer.api.types import CatalogueReply

_MOST: Final = 5000


class Waits:
    """Remembers when each of a user's profiles was first seen not to fit, and forgets when it does.

    The daemon tells what is so now. Somebody who waits for room looks at the form again and again,
    so what was seen here is as good as "since at least".
    """

    def __init__(self) -> None:
        self._since: OrderedDict[tuple[str, str], float] = OrderedDict()

    def look(self, found: CatalogueReply, now: float) -> dict[str, float]:
        """Take note of what fits at a time (Unix seconds); return since when the others do not."""
        since = {}
        for profile in found.profiles:
            key = (found.user, profile.name)
            if profile.fits:
                self._since.pop(key, None)
                continue
            since[profile.name] = self._since.setdefault(key, now)
            self._since.move_to_end(key)
        while len(self._since) > _MOST:
            self._since.popitem(last=False)
        return since
