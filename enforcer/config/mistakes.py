"""What is wrong with a configuration: every mistake at once, each with its place in the file."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from enforcer.errors import EnforcerError, InvalidError
from enforcer.quantities import Bytes, Cpus, parse_bytes, parse_cpus

Place = tuple[str | int, ...]
"""Where in the document: keys and, in lists, indices."""

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_MOST_SHOWN: Final = 60
_MOST_LISTED: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """One mistake; its line is None where it stands nowhere in particular."""

    place: str
    line: int | None
    found: str
    wrong: str
    """What is wrong with it, as the beginning of a sentence; names what was found."""
    right: str
    """What would be right, as its end."""

    def sentence(self, source: str) -> str:
        """One line for an admin: ``enforcer.toml:12: place: wrong; right``."""
        where = source if self.line is None else f"{source}:{self.line}"
        place = f"{self.place}: " if self.place else ""
        return f"{where}: {place}{self.wrong}; {self.right}"


class ConfigError(InvalidError):
    """``config.invalid``: the message has one line for each of the mistakes."""

    def __init__(self, mistakes: Iterable[Mistake], source: str) -> None:
        self.mistakes = tuple(
            sorted(mistakes, key=lambda one: (one.line is None, one.line or 0, one.place))
        )
        lines = [one.sentence(source) for one in self.mistakes[:_MOST_LISTED]]
        if len(self.mistakes) > _MOST_LISTED:
            lines.append(f"{source}: … and {len(self.mistakes) - _MOST_LISTED} more mistakes")
        super().__init__("config.invalid", "\n".join(lines))


class Review:
    """Collects the mistakes of one document while it is read."""

    def __init__(self, lines: Mapping[Place, int], source: str) -> None:
        self._lines = lines
        self._source = source
        self._mistakes: dict[tuple[Place, str], Mistake] = {}
        self._places: set[Place] = set()

    def add(self, place: Place, found: object, wrong: str, right: str) -> None:
        """Note that the value at a place is wrong; `wrong` goes on where the value was named."""
        shown = show(found)
        self.note(place, shown, f"{shown} {wrong}", right)

    def missing(self, place: Place, right: str) -> None:
        """Note that a key must be there; not if something is wrong with it or above it already."""
        if not self.knows(place):
            self.note(place, "nothing", "missing", right)

    def refused(self, place: Place, found: object, error: EnforcerError) -> None:
        """Note what an error says about a value."""
        self.note(place, show(found), error.message, error.hint)

    def knows(self, place: Place) -> bool:
        """Whether something is wrong at a place or at one that holds it."""
        return any(place[:length] in self._places for length in range(len(place) + 1))

    def bytes(self, place: Place, value: object, whole: Bytes | None = None) -> Bytes | None:
        """Parse an amount of memory; None if there is none, or a mistake in its place."""
        if value is None:
            return None
        try:
            return parse_bytes(value, whole=whole)
        except InvalidError as error:
            self.refused(place, value, error)
            return None

    def cpus(self, place: Place, value: object, whole: Cpus | None = None) -> Cpus | None:
        """Parse an amount of CPU; None if there is none, or a mistake in its place."""
        if value is None:
            return None
        try:
            return parse_cpus(value, whole=whole)
        except InvalidError as error:
            self.refused(place, value, error)
            return None

    def note(self, place: Place, found: str, wrong: str, right: str) -> None:
        """Note a mistake in words of one's own."""
        self._places.add(place)
        self._mistakes[place, wrong] = Mistake(
            place=show_place(place), line=self._line(place), found=found, wrong=wrong, right=right
        )

    def finish(self) -> None:
        """Do nothing if all is well.

        Raises:
            ConfigError: there were mistakes.
        """
        if self._mistakes:
            raise ConfigError(self._mistakes.values(), self._source)

    def _line(self, place: Place) -> int | None:
        """The line of a place, or of the nearest one that holds it."""
        for length in range(len(place), 0, -1):
            if place[:length] in self._lines:
                return self._lines[place[:length]]
        return None


def show(value: object) -> str:
    """Show a value of the document in a few words."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case dict():
            return "a table"
        case list():
            return "a list"
        case _:
            shown = repr(value) if isinstance(value, str) else str(value)
            return shown if len(shown) <= _MOST_SHOWN else f"{shown[: _MOST_SHOWN - 3]}..."


def show_place(place: Place) -> str:
    """Show a place as TOML would write its key: ``user_profiles."a b".allowed_docker[2]``."""
    shown = ""
    for part in place:
        if isinstance(part, int):
            shown += f"[{part}]"
        else:
            shown += f".{_show_key(part)}" if shown else _show_key(part)
    return shown


def suggest(word: str, known: Iterable[str], otherwise: str) -> str:
    """Name the known word nearest to one that is not known; if none is near, say `otherwise`."""
    near = difflib.get_close_matches(word[:_MOST_SHOWN], known, n=1, cutoff=0.6)
    return f"did you mean {show(near[0])}?" if near else otherwise


def listing(words: Iterable[str]) -> str:
    """Show words in a row; ``nothing`` if there are none."""
    return ", ".join(show(word) for word in words) or "nothing"


def _show_key(key: str) -> str:
    cut = key if len(key) <= _MOST_SHOWN else f"{key[: _MOST_SHOWN - 3]}..."
    if _BARE_KEY.fullmatch(cut):
        return cut
    return json.dumps(cut, ensure_ascii=not cut.isprintable())
