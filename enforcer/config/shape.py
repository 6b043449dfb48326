"""From TOML text to a Document: what is malformed, unknown or of the wrong kind is taken out.

What is left can be checked further, so that all mistakes come to light at once.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from enforcer.config.document import (
    Admission,
    Adopted,
    Daemon,
    Document,
    Engine,
    Machine,
    Preallocate,
    Profile,
    Share,
    User,
)
from enforcer.config.mistakes import (
    ConfigError,
    Mistake,
    Place,
    Review,
    show_place,
    suggest,
)
from enforcer.config.positions import MOST_LEVELS, locate
from enforcer.quantities import MIB, format_bytes

_MOST_BYTES: Final = MIB
_MOST_REVIEWED: Final = 1000
_LARGEST: Final = 2**63
_SMALLER: Final = "write a smaller one"

_AT: Final = re.compile(r"^(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|.*)\)$")

# pydantic's word for an error → what is wrong, and what would be right
_WORDS: Final = {
    "string_type": ("is not text", 'write it in quotes: "like this"'),
    "bool_type": ("is neither true nor false", "write true or false"),
    "int_type": ("is not a whole number", "write a whole number, without quotes"),
    "int_from_float": ("is not a whole number", "write a whole number, without quotes"),
    "float_type": ("is not a number", "write a number, without quotes"),
    "finite_number": ("is not a number", "write a number"),
    "list_type": ("is not a list", 'write a list: ["one", "two"]'),
    "too_long": ("has too many words", "write {max_length} or less"),
    "dict_type": ("is not a table", "write it as a [section] of its own"),
    "model_type": ("is not a table", "write it as a [section] of its own"),
    "enum": ("is not a way of admission", 'write "scale", "refuse" or "queue"'),
    "greater_than_equal": ("is too small", "write {ge} or more"),
    "less_than_equal": ("is too large", "write {le} or less"),
}

# A named table stands for all of its kind.
_ANY: Final = "<name>"
_NAMED: Final = frozenset({"resource_profiles", "user_profiles", "group_profiles"})
_SECTIONS: Final[dict[Place, type[BaseModel]]] = {
    (): Document,
    ("machine",): Machine,
    ("machine", "reserved"): Share,
    ("machine", "limit"): Share,
    ("engine",): Engine,
    ("adopted",): Adopted,
    ("resource_profiles", _ANY): Profile,
    ("user_profiles", _ANY): User,
    ("user_profiles", _ANY, "max_preallocate"): Preallocate,
    ("group_profiles", _ANY): User,
    ("group_profiles", _ANY, "max_preallocate"): Preallocate,
    ("admission",): Admission,
    ("daemon",): Daemon,
}


def read(text: str, source: str) -> tuple[Document, Review]:
    """Read a document; its mistakes so far are in the review.

    Raises:
        ConfigError: it is too large, nested too deeply or not TOML at all.
    """
    size = len(text.encode(errors="surrogatepass"))
    if size > _MOST_BYTES:
        raise _unreadable(
            source,
            None,
            f"the file has {format_bytes(size)}",
            f"{format_bytes(_MOST_BYTES)} is the most",
        )
    positions = locate(text)
    if positions.too_deep is not None:
        raise _unreadable(
            source,
            positions.too_deep,
            "nested too deeply",
            f"no key has more than {MOST_LEVELS} levels",
        )
    tree = _parse_toml(text, source)
    review = Review(positions.lines, source)
    _take_out_huge(tree, review)
    try:
        return Document.model_validate(tree), review
    except ValidationError as error:
        for one in error.errors(include_url=False)[:_MOST_REVIEWED]:
            _note(one, review)
        for one in error.errors(include_url=False):
            _take_out(tree, one)
    return Document.model_validate(tree), review


def _parse_toml(text: str, source: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # TOMLDecodeError, or int() on thousands of digits
        match = _AT.match(str(error))
        if match is None:
            wrong = "too much for a reader of TOML"
            raise _unreadable(source, None, wrong, "shorten its numbers") from None
        if match["line"] is None:
            raise _unreadable(
                source, text.count("\n") + 1, "not TOML at the end", match["what"]
            ) from None
        raise _unreadable(
            source,
            int(match["line"]),
            f"not TOML at column {match['column']}",
            match["what"],
        ) from None


def _unreadable(source: str, line: int | None, wrong: str, right: str) -> ConfigError:
    return ConfigError([Mistake(place="", line=line, found="", wrong=wrong, right=right)], source)


def _take_out_huge(tree: dict[str, Any], review: Review) -> None:
    """Take out what TOML itself does not allow: whole numbers of more than 64 bits."""
    waiting: list[tuple[Place, dict[str, Any] | list[Any]]] = [((), tree)]
    while waiting:
        place, holder = waiting.pop()
        for key, value in [*(holder.items() if isinstance(holder, dict) else enumerate(holder))]:
            if isinstance(value, dict | list):
                waiting.append(((*place, key), value))
            elif isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
                review.note((*place, key), "a number", "a number of more than 64 bits", _SMALLER)
                _replace(tree, (*place, key))


def _take_out(tree: dict[str, Any], error: ErrorDetails) -> None:
    """Take out what an error is about; of a list the place stays, so that others keep theirs."""
    if error["type"] == "extra_forbidden":
        holder, key = _holder(tree, error["loc"])
        holder.pop(key, None)
    else:
        _replace(tree, error["loc"])


def _replace(tree: dict[str, Any], place: Place) -> None:
    holder, key = _holder(tree, place)
    holder[key] = None


def _holder(tree: dict[str, Any], place: Place) -> tuple[Any, str | int]:
    """Return what holds a place, and its key or index in there."""
    holder: Any = tree
    for part in place[:-1]:
        holder = holder[part]
    return holder, place[-1]


def _note(error: ErrorDetails, review: Review) -> None:
    place = error["loc"]
    if error["type"] == "extra_forbidden":
        review.note(place, show_place(place[-1:]), "there is no such key", _nearest_key(place))
        return
    wrong, right = _WORDS.get(error["type"], ("is not right", "write it as the example does"))
    review.add(place, error["input"], wrong, right.format(**error.get("ctx", {})))


def _nearest_key(place: Place) -> str:
    """Say where a key belongs, which was perhaps meant, or which there are."""
    section = _section(place[:-1])
    key = str(place[-1])
    known = list(_SECTIONS[section].model_fields)
    elsewhere = [one for one, model in _SECTIONS.items() if key in model.model_fields]
    if () in elsewhere:
        return f"{key} belongs at the top of the file, above the first [section]"
    if elsewhere and not difflib.get_close_matches(key, known, n=1, cutoff=0.8):
        return f"{key} belongs in [{show_place(elsewhere[0])}]"
    return suggest(key, known, f"known here: {', '.join(known)}")


def _section(place: Place) -> Place:
    if len(place) > 1 and place[0] in _NAMED:
        return (place[0], _ANY, *place[2:])
    return place
