"""The container's name: readable, and never the same for two servers.

Docker takes ``[a-zA-Z0-9][a-zA-Z0-9_.-]+``. Hub users may be called anything, and both users and
named servers may hold whatever would separate the one from the other, so what makes the name unique
is a hash; the readable part is for the admin's eyes.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Final

_UNFIT: Final = re.compile(r"[^a-z0-9]+")
_MOST_READABLE: Final = 15
_DIGITS: Final = 20
"""80 bits of the hash."""


def container_name(prefix: str, user: str, server: str) -> str:
    """Return the name of a server's container; `server` is empty for the default one.

    With the usual prefix it is also a DNS label: letters, digits and dashes, at most 63 of them.
    """
    digest = hashlib.sha256(json.dumps([user, server]).encode()).hexdigest()[:_DIGITS]
    return "-".join((prefix, *filter(None, (_readable(user), _readable(server))), digest))


def _readable(name: str) -> str:
    return _UNFIT.sub("-", name.lower())[:_MOST_READABLE].strip("-")
