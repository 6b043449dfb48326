r"""Names of units: how a profile, a user and a server become a slice.

A slice's name is its path: ``a-b.slice`` lies in ``a.slice`` (systemd.slice(5)), so a dash in a
user's name would be a level of its own. systemd-escape(1) cannot help, it turns ``/`` into a
dash. Every part is therefore escaped here, byte by byte, and the result is unique:

- ASCII letters, digits and ``_`` stand for themselves, every other byte of the UTF-8 form
  becomes ``\xNN`` in lower case;
- a part that would read as a word of ours gets its first letter escaped as well, which no other
  name does: a profile called "adopted" is ``\x61dopted``, a server called "default"
  ``\x64efault``, and the hub's default server, whose name is empty, is ``default``;
- a part that is too long keeps its beginning, followed by ``\xff``, a byte that UTF-8 never
  holds, and 32 hexadecimal digits of its SHA-256.
"""

from __future__ import annotations

import functools
import hashlib
import unicodedata
from bisect import bisect_right
from itertools import accumulate
from typing import Final, NewType

from enforcer.errors import InvalidError

UnitName = NewType("UnitName", str)
"""The name of a systemd unit, escaped, with its suffix: ``jupyter-engine.slice``."""

ROOT: Final = UnitName("jupyter.slice")
ENGINE: Final = UnitName("jupyter-engine.slice")
WORKLOAD: Final = UnitName("jupyter-workload.slice")
ADOPTED: Final = UnitName("jupyter-workload-adopted.slice")
FIXED: Final = (ROOT, ENGINE, WORKLOAD, ADOPTED)
"""The slices that have a unit file; what they are limited to is on disk too."""

MAX_UNIT_BYTES: Final = 253
"""systemd takes 255, but then the name of the unit's drop-in directory is too long."""

MAX_NAME_CHARACTERS: Final = 255

_SUFFIX: Final = ".slice"
_PREFIX: Final = WORKLOAD.removesuffix(_SUFFIX)
_PARTS: Final = 3
MAX_PART_BYTES: Final = (MAX_UNIT_BYTES - len(_PREFIX) - len(_SUFFIX) - _PARTS) // _PARTS
_HASH_DIGITS: Final = 32
_TOO_LONG: Final = "\\xff"
_DEFAULT_SERVER: Final = "default"
_RESERVED: Final = frozenset({"adopted", "engine", "workload", _DEFAULT_SERVER})
_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")


def check_name(name: str, what: str) -> str:
    """Return `name` if it can be a user's, a server's or a profile's; `what` says which it is.

    Dashes, dots, spaces, slashes and any other printable character may stand in it.

    Raises:
        InvalidError: ``name.invalid``: empty, too long, a control character, a lone surrogate.
    """
    if not name and what != "server":
        raise InvalidError("name.invalid", f"the {what}'s name is empty", "give it a name")
    if len(name) > MAX_NAME_CHARACTERS:
        raise InvalidError(
            "name.invalid",
            f"the {what}'s name has {len(name)} characters",
            f"{MAX_NAME_CHARACTERS} is the most",
        )
    for character in name:
        # Cc: newline, NUL, escape sequences; Cs: a surrogate has no UTF-8 form
        if unicodedata.category(character) in {"Cc", "Cs"}:
            raise InvalidError(
                "name.invalid",
                f"the {what}'s name {ascii(name)[:80]} holds the character U+{ord(character):04X}",
                "leave control characters out of names",
            )
    return name


def escape(part: str) -> str:
    """Escape one part of a slice's name; different parts never become the same."""
    if not part:
        return _DEFAULT_SERVER
    raw = part.encode()
    pieces = [chr(byte) if byte in _PLAIN else f"\\x{byte:02x}" for byte in raw]
    if part in _RESERVED:
        pieces[0] = f"\\x{raw[0]:02x}"
    escaped = "".join(pieces)
    if len(escaped) <= MAX_PART_BYTES:
        return escaped
    room = MAX_PART_BYTES - len(_TOO_LONG) - _HASH_DIGITS
    ends = list(accumulate(len(piece) for piece in pieces))
    kept = "".join(pieces[: bisect_right(ends, room)])
    return kept + _TOO_LONG + hashlib.sha256(raw).hexdigest()[:_HASH_DIGITS]


def profile_slice(profile: str) -> UnitName:
    """``jupyter-workload-<profile>.slice``."""
    return _unit(profile)


def user_slice(profile: str, user: str) -> UnitName:
    """``jupyter-workload-<profile>-<user>.slice``."""
    return _unit(profile, user)


def lease_slice(profile: str, user: str, server: str) -> UnitName:
    """``jupyter-workload-<profile>-<user>-<server>.slice``, the leaf; `server` may be empty."""
    return _unit(profile, user, server)


def is_slice(name: str) -> bool:
    """Tell a slice's name from a container's id."""
    return name.endswith(_SUFFIX)


# Every tick asks for the same names again, for each lease several times.
_cached = functools.lru_cache(maxsize=8192)


@_cached
def parent(unit: UnitName) -> UnitName | None:
    """Return the slice that a slice lies in, by its name; None for a top-level one."""
    stem = unit.removesuffix(_SUFFIX)
    head, dash, _ = stem.rpartition("-")
    return UnitName(head + _SUFFIX) if dash else None


@_cached
def ancestors(unit: UnitName) -> tuple[UnitName, ...]:
    """Return the slices above a slice, the nearest first."""
    found: list[UnitName] = []
    above = parent(unit)
    while above is not None:
        found.append(above)
        above = parent(above)
    return tuple(found)


def cgroup_path(unit: UnitName) -> str:
    """Return a slice's cgroup below the mount point: ``jupyter.slice/jupyter-engine.slice``.

    For slices only: where a scope or a service lies is for the kernel to say.
    """
    return "/".join((*reversed(ancestors(unit)), unit))


@_cached
def _unit(*parts: str) -> UnitName:
    return UnitName("-".join((_PREFIX, *(escape(part) for part in parts))) + _SUFFIX)
