"""Change control files behind the daemon's back, and time how long each stays changed.

``drift.py JSON``: a list of changes. It prints the seconds that each lasted, null if it never came
about, in the same order.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

_PAUSE_SECONDS = 0.01
_PATIENCE_SECONDS = 30.0
_CALM_SECONDS = 0.6
"""As it was for this long, it is taken to be undone. Docker says so later than it does it, and what
changes again meanwhile is told as one with it."""


def main() -> None:
    """Make every change in turn."""
    json.dump([_lasted(**change) for change in json.loads(sys.argv[1])], sys.stdout)


def _lasted(watch: str, write: str | None = None, run: str | None = None) -> float | None:
    """Return for how long `watch` was not as before, at the most in one piece."""
    before = _read(watch)
    process = None
    if write is not None:
        Path(watch).write_text(write)
    elif run is not None:
        process = subprocess.Popen(
            ["/bin/sh", "-c", run], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    begin = calm_since = time.monotonic()
    changed_at: float | None = None
    longest: float | None = None
    while True:
        now = time.monotonic()
        if _read(watch) != before:
            changed_at = now if changed_at is None else changed_at
            longest = max(longest or 0.0, now - changed_at)
            calm_since = now
        else:
            changed_at = None
        ended = process is None or process.poll() is not None
        if (ended and now - calm_since > _CALM_SECONDS) or now - begin > _PATIENCE_SECONDS:
            return longest
        time.sleep(_PAUSE_SECONDS)


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except FileNotFoundError:
        return ""


if __name__ == "__main__":
    main()
