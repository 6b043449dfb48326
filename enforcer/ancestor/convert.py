"""From the ancestor's program to the text of an enforcer.toml, checked by that one's own parser."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final

from enforcer.ancestor.objects import SECTIONS
from enforcer.ancestor.statements import Found, gather
from enforcer.ancestor.toml import Value, format_document
from enforcer.config import ConfigError, Mistake, parse_config
from enforcer.config.mistakes import Place, Review, show_place
from enforcer.errors import InvalidError
from enforcer.model import Capacity
from enforcer.quantities import format_bytes, format_cpus, parse_bytes, parse_cpus

HUB_USERS: Final[Value] = ["jupyterhub", "enforcer-pages"]

_HEAD: Final = """\
# Made by `enforcer import` from the dictionaries of an older JupyterHub configuration. What else
# there is to say, with its defaults: see the example that `enforcer install` brings along.

"""
_DEFAULT: Final = "default"
_MISSING: Final = {
    "resource_profiles": 'write … .resource_profiles = {"Small": {"cpu_limit": 2, "mem_limit": 4}}',
    "docker_profiles": 'write … .docker_profiles = {"Name": "image:tag"}',
    "user_profiles": 'write … .user_profiles = {"default": {…}}',
}
_AMOUNTS: Final[tuple[tuple[str, str, Callable[[object], int], Callable[[int], str]], ...]] = (
    ("cpu_guarantee", "cpu_limit", parse_cpus, format_cpus),
    ("mem_guarantee", "mem_limit", parse_bytes, format_bytes),
)
# What the parser says about TOML, in Python's words.
_PYTHON: Final = {"is not a table": ("is not a dictionary", 'write a dictionary: {"key": value}')}


def convert(text: str, capacity: Capacity, *, source: str) -> str:
    """Turn a program into a configuration; `source` is how messages call the program.

    Raises:
        ConfigError: ``config.invalid``, with all mistakes and their lines in the program.
    """
    lines: dict[Place, int] = {}
    review = Review(lines, source)
    found = gather(_parse(text, source), review, lines)
    for name, right in _MISSING.items():
        if name not in found.sections:
            review.missing((name,), right)
    users = found.sections.get("user_profiles")
    if isinstance(users, dict) and _DEFAULT not in users:
        review.missing(
            ("user_profiles", _DEFAULT),
            f'write "{_DEFAULT}": {{…}} into it, the rights of everybody who is not named',
        )
    _check_preallocate(found.sections, review)
    written = _HEAD + format_document(_ordered(found))
    mistakes = _noted(review)
    if found.whole:
        # Where a dictionary could not be followed, names that seem to be missing are no news.
        mistakes += _without_echoes(_parsed(written, capacity, lines), mistakes)
    if mistakes:
        raise ConfigError(mistakes, source)
    return written


def _parse(text: str, source: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            # of odd escapes, for instance, which are not for us to judge
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except SyntaxError as error:
        wrong, line = f"not Python: {error.msg}", error.lineno
    except (ValueError, RecursionError, MemoryError) as error:
        # a NUL, or more brackets in one another than the reader has room for
        wrong, line = f"not Python: {str(error) or type(error).__name__}", None
    mistake = Mistake(place="", line=line, found="", wrong=wrong, right="mend the file first")
    raise ConfigError([mistake], source)


def _ordered(found: Found) -> dict[str, Value]:
    sections: dict[str, Value] = {
        name: found.sections[name] for name in SECTIONS if name in found.sections
    }
    return {**sections, "daemon": {"hub_users": HUB_USERS}}


def _noted(review: Review) -> list[Mistake]:
    try:
        review.finish()
    except ConfigError as error:
        return list(error.mistakes)
    return []


def _parsed(written: str, capacity: Capacity, lines: Mapping[Place, int]) -> list[Mistake]:
    """Return what the configuration's own parser says, with the lines of the program."""
    shown = {show_place(place): line for place, line in lines.items()}
    try:
        parse_config(written, capacity)
    except ConfigError as error:
        return [_in_python(one, shown) for one in error.mistakes]
    return []


def _in_python(mistake: Mistake, lines: Mapping[str, int]) -> Mistake:
    wrong, right = mistake.wrong, mistake.right
    for toml, (python, instead) in _PYTHON.items():
        if wrong.endswith(toml):
            wrong, right = wrong.removesuffix(toml) + python, instead
    nearest = max((one for one in lines if _holds(one, mistake.place)), key=len, default=None)
    line = None if nearest is None else lines[nearest]
    return replace(mistake, line=line, wrong=wrong, right=right)


def _without_echoes(parsed: Iterable[Mistake], noted: Iterable[Mistake]) -> list[Mistake]:
    """Leave out what the parser says of values that were refused before it saw them."""
    places = [one.place for one in noted]
    return [one for one in parsed if not any(_holds(above, one.place) for above in places)]


def _holds(above: str, place: str) -> bool:
    return place == above or place.startswith((f"{above}.", f"{above}["))


def _check_preallocate(sections: Mapping[str, Value], review: Review) -> None:
    """Note guarantees that no profile the user may have could give."""
    users, profiles = _table(sections, "user_profiles"), _table(sections, "resource_profiles")
    default = _table(users, _DEFAULT)
    for name in users:
        entry = _table(users, name)
        given = _table(entry, "max_preallocate")
        allowed = entry.get("allowed_resources", default.get("allowed_resources"))
        names = allowed if isinstance(allowed, list) else []
        limits = [_table(profiles, one) for one in names if isinstance(one, str)]
        for key, limit, measure, form in _AMOUNTS:
            wanted = _measured(measure, given.get(key))
            most = max((_measured(measure, one.get(limit)) or 0 for one in limits), default=0)
            if wanted is not None and wanted > most > 0:
                review.add(
                    ("user_profiles", name, "max_preallocate", key),
                    given[key],
                    "is more than any profile has that this user may choose",
                    f"{form(most)} is the most",
                )


def _table(holder: Mapping[str, Value], name: str) -> Mapping[str, Value]:
    found = holder.get(name)
    return found if isinstance(found, dict) else {}


def _measured(measure: Callable[[object], int], value: object) -> int | None:
    try:
        return measure(value)
    except InvalidError:
        return None
