"""What a user asks for when a server starts: read from the form, checked against the catalogue.

Whatever way a start takes (form, link, REST, stored options), its options end up in
`check_options`, so that there is one place that says what may be asked for. The daemon has the last
word all the same.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from enforcer.api.types import CatalogueReply, ProfileReply
from enforcer.errors import ForbiddenError, InvalidError, NotFoundError
from enforcer.model import Claim
from enforcer.quantities import (
    CORE,
    GIB,
    LEAST_CPU,
    LEAST_MEMORY,
    PAGE,
    Bytes,
    Cpus,
    format_bytes,
    format_cpus,
)

CHOICES: Final = ("profile", "image")
AMOUNTS: Final = ("cpu_limit", "mem_limit", "cpu_guarantee", "mem_guarantee")
"""Numbers: CPU in cores, memory in GiB."""
KEYS: Final = (*CHOICES, *AMOUNTS)

_OF_THE_HUB: Final = frozenset({"_xsrf", "next"})
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,15}(?:\.[0-9]{1,15})?", re.ASCII)
_MOST_SHOWN: Final = 40
_SHOWN_DIGITS: Final = 0.005
"""Pages show amounts rounded to two decimals: who types what was shown asks for no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What was asked for, checked. None: what the policy allows. reference: Docker's image name."""

    profile: str
    image: str
    reference: str
    cpu_limit: Cpus | None = None
    mem_limit: Bytes | None = None
    cpu_guarantee: Cpus | None = None
    mem_guarantee: Bytes | None = None

    def claim(self, user: str, server: str, groups: Sequence[str]) -> Claim:
        """Return the claim for one server of a user."""
        return Claim(
            user=user,
            server=server,
            profile=self.profile,
            image=self.image,
            cpu_limit=self.cpu_limit,
            mem_limit=self.mem_limit,
            cpu_guarantee=self.cpu_guarantee,
            mem_guarantee=self.mem_guarantee,
            groups=tuple(groups),
        )


@dataclass(frozen=True, slots=True)
class _Measure:
    """What a number is about. whole: how many of our units one of the user's has."""

    name: str
    unit: str
    example: str
    whole: int
    step: int
    least: int
    show: Callable[[int], str]


def _show_cores(amount: int) -> str:
    return f"{format_cpus(amount)} core{'' if amount == CORE else 's'}"


_CPU: Final = _Measure("CPU", "cores", "2 or 0.5", CORE, 1, LEAST_CPU, _show_cores)
_MEMORY: Final = _Measure("memory", "GiB", "10 or 1.5", GIB, PAGE, LEAST_MEMORY, format_bytes)


def parse_form(formdata: Mapping[str, Sequence[object]]) -> dict[str, object]:
    """Turn a form's fields, or a link's ``opt-`` ones, into options; an empty field is left out.

    Texts that are numbers become numbers where a number belongs. What makes no sense stays as it is
    and is refused by `check_options`, as it would be from anywhere else.
    """
    parsed: dict[str, object] = {}
    for key, values in formdata.items():
        said = [one for one in map(_text, values) if one.strip()]
        if key in _OF_THE_HUB or not said:
            continue
        if len(said) > 1:
            parsed[key] = said
        else:
            parsed[key] = _number(said[0]) if key in AMOUNTS else said[0]
    return parsed


def clean_options(options: object) -> dict[str, object]:
    """Return options that can be stored and shown, with what cannot emptied or put in words.

    The hub stores what it is sent before anybody has looked at it, and its own encoding of bytes
    can be smuggled in. None of that may harm a page; `check_options` refuses what is left of it.
    """
    if not isinstance(options, Mapping):
        return {"options": _kind(options)} if options else {}
    return {_printable(str(key)): _clean(value) for key, value in options.items()}


def check_options(options: object, catalogue: CatalogueReply) -> Wanted:
    """Check what was asked for against what this user may have.

    Raises:
        InvalidError: ``options.invalid``: an unknown key, a wrong type, no sensible number.
        ForbiddenError: ``options.not-allowed``: more than the profile has, or nothing is allowed.
        NotFoundError: ``options.unknown``: no profile or image of that name is this user's.
    """
    if not isinstance(options, Mapping):
        raise InvalidError(
            "options.invalid",
            f"the options are {_kind(options)}, not names with values",
            f"the names are {', '.join(KEYS)}",
        )
    _check_keys(options)
    profiles = {one.name: one for one in catalogue.profiles}
    images = {one.name: one for one in catalogue.images}
    profile = profiles[_choose("profile", options.get("profile"), tuple(profiles))]
    image = images[_choose("image", options.get("image"), tuple(images))]
    cpu = _limit(_CPU, options.get("cpu_limit"), round(profile.cpu_limit * CORE), profile)
    memory = _limit(_MEMORY, options.get("mem_limit"), profile.mem_limit, profile)
    most_cpu = round(profile.cpu_limit * CORE) if cpu is None else cpu
    most_memory = profile.mem_limit if memory is None else memory
    cpu_floor = _guarantee(_CPU, options.get("cpu_guarantee"), most_cpu)
    memory_floor = _guarantee(_MEMORY, options.get("mem_guarantee"), most_memory)
    return Wanted(
        profile=profile.name,
        image=image.name,
        reference=image.reference,
        cpu_limit=None if cpu is None else Cpus(cpu),
        mem_limit=None if memory is None else Bytes(memory),
        cpu_guarantee=None if cpu_floor is None else Cpus(cpu_floor),
        mem_guarantee=None if memory_floor is None else Bytes(memory_floor),
    )


def _check_keys(options: Mapping[object, object]) -> None:
    for key in options:
        if key in KEYS:
            continue
        near = difflib.get_close_matches(str(key)[:_MOST_SHOWN], KEYS, n=1)
        raise InvalidError(
            "options.invalid",
            f"there is no option {_shown(key)}",
            f"did you mean {near[0]}?" if near else f"the options are {', '.join(KEYS)}",
        )


def _choose(what: str, asked: object, allowed: tuple[str, ...]) -> str:
    """Return the name asked for, or the preferred one."""
    if not allowed:
        raise ForbiddenError(
            "options.not-allowed", f"you may use no {what} on this machine", "ask the admin for one"
        )
    yours = f"yours: {', '.join(_shown(one) for one in allowed)}"
    if asked is None:
        return allowed[0]
    if not isinstance(asked, str):
        raise InvalidError(
            "options.invalid", f"the {what} must be a name, not {_kind(asked)}", yours
        )
    if asked not in allowed:
        near = difflib.get_close_matches(asked[:_MOST_SHOWN], allowed, n=1)
        raise NotFoundError(
            "options.unknown",
            f"you have no {what} named {_shown(asked)}",
            f"did you mean {_shown(near[0])}? {yours}" if near else yours,
        )
    return asked


def _limit(measure: _Measure, asked: object, most: int, profile: ProfileReply) -> int | None:
    """Return a limit in our units; None where none was asked for."""
    number = _finite(measure, "limit", asked)
    if number is None:
        return None
    between = f"ask for {measure.show(measure.least)} to {measure.show(most)}"
    if number <= 0:
        raise InvalidError(
            "options.invalid",
            f"a {measure.name} limit of {_plain(number)} {measure.unit} would stop everything",
            between,
        )
    amount = _amount(measure, number, most)
    if amount is None:
        raise ForbiddenError(
            "options.not-allowed",
            f"you ask for {_plain(number)} {measure.unit} of {measure.name}, more than the profile"
            f" {_shown(profile.name)} has",
            between,
        )
    if amount < measure.least:
        raise InvalidError(
            "options.invalid",
            f"a {measure.name} limit of {_plain(number)} {measure.unit} is too small to start with",
            between,
        )
    return amount


def _guarantee(measure: _Measure, asked: object, most: int) -> int | None:
    """Return a guarantee in our units. How much of it there is now is for the daemon to say."""
    number = _finite(measure, "guarantee", asked)
    if number is None:
        return None
    between = f"ask for 0 to {measure.show(most)}"
    if number < 0:
        raise InvalidError(
            "options.invalid",
            f"a {measure.name} guarantee of {_plain(number)} {measure.unit} makes no sense",
            between,
        )
    amount = _amount(measure, number, most)
    if amount is None:
        raise InvalidError(
            "options.invalid",
            f"you ask for {_plain(number)} {measure.unit} of guaranteed {measure.name}, with a"
            f" limit of {measure.show(most)}",
            between,
        )
    return amount


def _finite(measure: _Measure, what: str, asked: object) -> int | float | None:
    """Return a number; a text that looks like one is none."""
    if asked is None:
        return None
    right = f"write a number of {measure.unit}, such as {measure.example}"
    if isinstance(asked, bool) or not isinstance(asked, int | float):
        said = _shown(asked) if isinstance(asked, str) else _kind(asked)
        raise InvalidError(
            "options.invalid", f"the {measure.name} {what} must be a number, not {said}", right
        )
    if isinstance(asked, float) and not math.isfinite(asked):
        raise InvalidError(
            "options.invalid", f"the {measure.name} {what} is {asked}, which is no amount", right
        )
    return asked


def _amount(measure: _Measure, number: float, most: int) -> int | None:
    """Return it in our units, rounded down; None if it is more than there is.

    The comparison comes first: an integer may have any number of digits, and no float would hold
    it.
    """
    if number > most / measure.whole + _SHOWN_DIGITS:
        return None
    return min(most, round(number * measure.whole) // measure.step * measure.step)


def _number(text: str) -> object:
    """Return the number a text stands for, or the text where it stands for none."""
    return float(text) if _NUMBER.fullmatch(text.strip()) else text


def _text(value: object) -> str:
    return value if isinstance(value, str) else _kind(value)


def _clean(value: object) -> object:
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case str():
            return _printable(value)
        case list():
            return []
        case Mapping():
            return {}
        case _:
            return _kind(value)


def _printable(text: str) -> str:
    """A lone surrogate, which JSON can carry, has no UTF-8 form."""
    return text.encode(errors="backslashreplace").decode()


def _kind(value: object) -> str:
    """Say what something is that is neither name nor number."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list() | tuple():
            return "a list"
        case Mapping():
            return "an object"
        case None:
            return "nothing"
        case _:
            return "a file"


def _plain(number: float) -> str:
    """Write a number the way it was meant; one of many digits is cut."""
    if isinstance(number, int) and abs(number) >= 10**15:
        return "far too many" if number > 0 else "far too few"
    return f"{number:.6g}"


def _shown(name: object) -> str:
    """Show a name that somebody sent; a long one is cut."""
    text = ascii(name)
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 3]}..."
