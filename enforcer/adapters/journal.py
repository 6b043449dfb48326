"""Log lines for the journal: the level systemd reads off the line, and fields as key=value."""

from __future__ import annotations

import logging
import os
import sys
from typing import Final

FIELDS: Final = ("lease", "user", "server", "unit", "reason", "seconds")
"""What may be given as `extra`."""

_LEVELS: Final = {
    logging.DEBUG: "<7>",
    logging.INFO: "<6>",
    logging.WARNING: "<4>",
    logging.ERROR: "<3>",
    logging.CRITICAL: "<2>",
}


class _Formatter(logging.Formatter):
    def __init__(self, *, journal: bool) -> None:
        super().__init__("%(message)s" if journal else "%(asctime)s %(levelname)s %(message)s")
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever a user's name holds; only a traceback has more."""
        level = _LEVELS.get(record.levelno, "<6>") if self._journal else ""
        fields = ((name, getattr(record, name, None)) for name in FIELDS)
        shown = "".join(f" {name}={_value(value)}" for name, value in fields if value is not None)
        text = super().format(record)
        head, *rest = text.split("\n")
        return "\n".join([level + _printable(head) + shown, *(level + line for line in rest)])


def configure_logging(*, debug: bool = False) -> None:
    """Log to standard error, as the journal likes it when that is where it goes (sd-daemon(3))."""
    writer = logging.StreamHandler(sys.stderr)
    writer.setFormatter(_Formatter(journal="JOURNAL_STREAM" in os.environ))
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[writer])
    # They tell of each request and reconnect; what matters of that is ours to say.
    for foreign in ("aiohttp.access", "urllib3", "docker", "asyncio"):
        logging.getLogger(foreign).setLevel(logging.WARNING)


def _value(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    plain = text.isprintable() and text and not set(text) & {" ", '"', "="}
    return text if plain else ascii(text)


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
