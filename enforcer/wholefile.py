"""Files written whole or not at all; and those that become an admin's own, never over theirs."""

from __future__ import annotations

import enum
import grp
import os
import pwd
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from enforcer.errors import UnavailableError


class Fate(enum.StrEnum):
    """What became of a text."""

    WRITTEN = "written"
    SAME = "same"  # it stands there already
    BESIDE = "beside"  # something else stands there, so it lies beside it


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Where a text is now, and how it came there."""

    path: Path
    fate: Fate


def keep(
    path: Path,
    text: str,
    *,
    mode: int = 0o644,
    owner: str | None = None,
    group: str | None = None,
    force: bool = False,
) -> Kept:
    """Write a text to a file; where there is another one, to ``<file>.new`` unless forced.

    owner, group: whose it is to be, if they are there and we may give it away.

    Raises:
        UnavailableError: ``file.not-written``.
    """
    try:
        there = path.read_bytes() if path.exists() else None
        if there == text.encode():
            return Kept(path=path, fate=Fate.SAME)
        beside = there is not None and not force
        target = path.with_name(f"{path.name}.new") if beside else path
        put(target, text.encode(), mode=mode, owner=owner, group=group)
    except OSError as error:
        raise UnavailableError(
            "file.not-written",
            f"cannot write {path}: {error.strerror}",
            "become root, or name another file",
        ) from error
    return Kept(path=target, fate=Fate.BESIDE if beside else Fate.WRITTEN)


def put(
    path: Path, content: bytes, *, mode: int, owner: str | None = None, group: str | None = None
) -> None:
    """Put a file in the place of what is there; whoever reads it sees the old one or the new.

    owner, group: as `keep` has them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = _unfinished(path)
    # The folder may be another user's, who could have laid a link to somewhere else.
    new.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(new, flags, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if owner is not None or group is not None:
                _give(file.fileno(), owner, group)
            os.fchmod(file.fileno(), mode)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def sweep(path: Path) -> None:
    """Remove what put() left beside a file if it was killed in the middle."""
    with suppress(FileNotFoundError, NotADirectoryError):
        _unfinished(path).unlink()


def _give(descriptor: int, owner: str | None, group: str | None) -> None:
    with suppress(KeyError, PermissionError):
        uid = -1 if owner is None else pwd.getpwnam(owner).pw_uid
        gid = -1 if group is None else grp.getgrnam(group).gr_gid
        os.fchown(descriptor, uid, gid)


def _unfinished(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")
