"""Where the keys of a TOML document stand: tomllib does not tell.

This reads just enough of TOML's grammar to know one key from the next. It does not judge: where a
document is malformed it stops, and tomllib says what is wrong.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

from enforcer.config.mistakes import Place

MOST_LEVELS: Final = 16
"""Deeper nesting is refused before tomllib, whose recursion has no bound, sees it."""

_BLANK: Final = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*+")
_SPACE: Final = re.compile(r"[ \t]*+")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_ONE_LINE: Final = re.compile(r"""\"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+'""")
_STRING: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}' r"|'''.*?'{3,5}" rf"|{_ONE_LINE.pattern}", re.DOTALL
)
# A date and its time may be parted by a space.
_SCALAR: Final = re.compile(r"[^,\]}#\n]+")


@dataclass(frozen=True, slots=True)
class Positions:
    """Line of each key and list item, from 1; and of what is nested too deeply, if anything is."""

    lines: dict[Place, int] = field(default_factory=dict)
    too_deep: int | None = None


def locate(text: str) -> Positions:
    """Find the line of every key of a document, as far as it is well-formed."""
    scanner = _Scanner(text)
    try:
        scanner.document()
    except _MalformedError:
        pass  # tomllib's turn
    except _TooDeepError:
        return Positions(scanner.lines, scanner.line())
    return Positions(scanner.lines)


class _MalformedError(Exception):
    """Not TOML from here on."""


class _TooDeepError(Exception):
    """More levels than any configuration has."""


class _Scanner:
    """Goes through a document once."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._newlines = [match.start() for match in re.finditer("\n", text)]
        self.lines: dict[Place, int] = {}

    def document(self) -> None:
        table: Place = ()
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._take("["):
                double = self._take("[")
                table = self._key(())
                self._expect("]]" if double else "]")
            else:
                self._pair(table, 1)
            self._skip(_BLANK)

    def line(self) -> int:
        return bisect_left(self._newlines, self._at) + 1

    def _pair(self, table: Place, level: int) -> None:
        place = self._key(table)
        self._expect("=")
        self._value(place, level)

    def _key(self, table: Place) -> Place:
        """Read a dotted key and note its line for itself and for the tables it implies."""
        place = table
        line = self.line()
        while True:
            self._skip(_SPACE)
            place = (*place, self._key_part())
            if len(place) > MOST_LEVELS:
                raise _TooDeepError
            self.lines.setdefault(place, line)
            self._skip(_SPACE)
            if not self._take("."):
                return place

    def _key_part(self) -> str:
        bare = _BARE_KEY.match(self._text, self._at)
        if bare is not None:
            self._at = bare.end()
            return bare[0]
        quoted = _ONE_LINE.match(self._text, self._at)
        if quoted is None:
            raise _MalformedError
        self._at = quoted.end()
        try:
            return str(tomllib.loads(f"key = {quoted[0]}")["key"])
        except tomllib.TOMLDecodeError:
            raise _MalformedError from None  # an escape that TOML does not know

    def _value(self, place: Place, level: int) -> None:
        if level > MOST_LEVELS:
            raise _TooDeepError
        self._skip(_SPACE)
        if self._take("["):
            self._list(place, level)
        elif self._take("{"):
            self._inline_table(place, level)
        else:
            match = _STRING.match(self._text, self._at) or _SCALAR.match(self._text, self._at)
            if match is None:
                raise _MalformedError
            self._at = match.end()

    def _list(self, place: Place, level: int) -> None:
        index = 0
        self._skip(_BLANK)
        while not self._take("]"):
            self.lines.setdefault((*place, index), self.line())
            self._value((*place, index), level + 1)
            index += 1
            self._skip(_BLANK)
            if not self._take(","):
                self._expect("]")
                return
            self._skip(_BLANK)

    def _inline_table(self, place: Place, level: int) -> None:
        self._skip(_SPACE)
        while not self._take("}"):
            self._pair(place, level + 1)
            self._skip(_SPACE)
            if not self._take(","):
                self._expect("}")
                return

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        self._at = self._at if match is None else match.end()

    def _take(self, word: str) -> bool:
        found = self._text.startswith(word, self._at)
        if found:
            self._at += len(word)
        return found

    def _expect(self, word: str) -> None:
        if not self._take(word):
            raise _MalformedError
