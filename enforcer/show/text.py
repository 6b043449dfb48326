"""Words and numbers for a table: short, safe to print, and aligned.

Names come from anywhere, and a terminal obeys what is printed on it: everything that is not a
visible character is shown as an escape, and nothing is ever taken for rich's markup.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, Literal

from rich.style import Style
from rich.table import Table
from rich.text import Text

from enforcer.quantities import KIB

NOTHING: Final = "-"
GOOD: Final = "green"
WARNING: Final = "yellow"
BAD: Final = "bold red"
QUIET: Final = "dim"

_MEMORY_UNITS: Final = ("B", "K", "M", "G", "T", "P")
_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR


def safe(text: str) -> str:
    r"""Show what cannot be seen as an escape such as ``\x1b``; the rest stays."""
    # Controls, formats that turn the direction of writing, surrogates, blanks but the plain one.
    return "".join(one if one.isprintable() else _escaped(one) for one in text)


def _escaped(character: str) -> str:
    number = ord(character)
    if number <= 0xFF:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"


def word(text: str, style: str | Style = "") -> Text:
    """Make a cell of any text; it may be folded, never cut."""
    return Text(safe(text), style=style, overflow="fold")


def cores(amount: float | None, missing: str = NOTHING) -> str:
    """Format an amount of CPU, in cores: at most five characters."""
    return missing if amount is None else _short(amount)


def memory(amount: int | None, missing: str = NOTHING) -> str:
    """Format bytes in powers of 1024: at most five characters, such as ``1.25G``."""
    if amount is None:
        return missing
    size, unit = float(amount), 0
    while size >= 999.5 and unit < len(_MEMORY_UNITS) - 1:
        size /= KIB
        unit += 1
    return "0" if not amount else f"{_short(size)}{_MEMORY_UNITS[unit]}"


def percent(share: float) -> str:
    """Format a share of 1: ``37%``."""
    return f"{share * 100:.0f}%"


def ago(at: float, now: float) -> str:
    """Say how long ago that was: ``12 s``, ``5 min``, ``3 h``, ``2 d``."""
    return span(max(0.0, now - at))


def span(seconds: float) -> str:
    """Say how long that is, in one unit."""
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def clock(at: float) -> str:
    """Tell the time of day, here."""
    return time.strftime("%H:%M:%S", time.localtime(at))


def share_style(used: float, limit: float | None) -> str:
    """Colour what is close to its limit."""
    if not limit or used < limit * 0.9:
        return ""
    return WARNING if used < limit * 0.98 else BAD


def throttled_style(share: float) -> str:
    """Colour what is held back."""
    if share < 0.05:
        return QUIET if not share else ""
    return WARNING if share < 0.5 else BAD


def name_of(user: str, server: str) -> str:
    """Name a server the way the command line takes it: ``user`` or ``user/server``."""
    return f"{user}/{server}" if server else user


Justify = Literal["left", "right"]


def table(*columns: tuple[str, Justify], title: str = "") -> Table:
    """Make a table without lines: it reads the same on a terminal and in a file."""
    made = Table(
        box=None,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="bold",
        title=Text(title, style="bold") if title else None,
        title_justify="left",
    )
    for heading, justify in columns:
        made.add_column(
            Text(heading, justify=justify),
            justify=justify,
            overflow="fold",
            no_wrap=justify == "right",
            vertical="top",
        )
    return made


def left(*headings: str) -> Sequence[tuple[str, Justify]]:
    """Name columns of words."""
    return [(heading, "left") for heading in headings]


def right(*headings: str) -> Sequence[tuple[str, Justify]]:
    """Name columns of numbers."""
    return [(heading, "right") for heading in headings]


def _short(number: float) -> str:
    digits = 2 if abs(number) < 9.995 else 1 if abs(number) < 99.95 else 0
    shown = f"{number:.{digits}f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown
