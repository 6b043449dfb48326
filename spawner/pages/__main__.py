"""``python -m spawner.pages``: the service."""

from __future__ import annotations

import asyncio
import logging
import sys

from enforcer.errors import EnforcerError
from spawner.pages import settings
from spawner.pages.application import run


def main() -> int:
    """Serve; 2 if the flags or the token are wrong."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # one line for each request of each open page is no news
    logging.getLogger("tornado.access").setLevel(logging.ERROR)
    try:
        found = settings.parse(sys.argv[1:])
    except EnforcerError as error:
        sys.stderr.write(f"{error.message}\n  What to do: {error.hint}\n")
        return 2
    asyncio.run(run(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
