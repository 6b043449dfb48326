"""One cgroup, read again and again at the price of little more than the bare preads."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Collection, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any, Final

from enforcer.adapters.cgroupfiles import (
    CGROUP_EVENTS,
    FIELDS_OF,
    FOLLOWERS,
    LIMIT_FIELDS,
    MEMORY_STAT,
    NO_LIMITS,
    NO_USAGE,
    NOTIFIED,
    PRESSURES,
    parse_file,
)
from enforcer.model import Cgroup, Limits, Usage
from enforcer.names import UnitName

log = logging.getLogger(__name__)

VERIFY_EVERY: Final = 600
"""Without any event, limits are read again at every so manieth reading: the kernel tells of every
write, so this is for what nobody thought of, and it costs as much as fifty readings."""

_ROOMS: Final = repeat(448)  # cpu.stat, the longest counter, has 250; small objects are cheap
_STARTS: Final = repeat(0)
_PAGE: Final = 4096
_NEVER: Final = b"never read"
_ABSENT: Final = -1
# ENODEV: the cgroup is gone, or its controller was switched off, while a file was held open;
# ENOENT and ENOTDIR: before it could be opened; EOPNOTSUPP: the file says nothing in this mode
# of the cgroup (cgroup-v2.rst, "threaded"; PSI switched off); ESRCH: the process whose file in
# /proc it is was reaped, before or after it was opened.
_VANISHED: Final = frozenset(
    {errno.ENODEV, errno.ENOENT, errno.ENOTDIR, errno.EOPNOTSUPP, errno.ESRCH}
)


class CgroupReader:
    """Reads one cgroup: counters through kept descriptors, the rest when it is stale.

    Only bytes that differ from the last reading's are parsed, and a cgroup that has not moved is
    the very same value again. memory.stat is dear to make (the kernel sums it up over all CPUs),
    so it is read only when memory.current has moved; FOLLOWERS only when any other counter has.
    """

    def __init__(
        self,
        unit: UnitName,
        path: str,
        *,
        counters: Sequence[str],
        limits: Sequence[str],
        keep: bool,
        phase: int,
    ) -> None:
        """Prepare to read `path`, an absolute directory.

        keep: whether descriptors stay open between readings. phase: any number; readers of
        different phases verify at different readings, so that no tick bears all of it.
        """
        self._path = path
        self._leaders = [name for name in counters if name not in FOLLOWERS]
        self._followers = [name for name in counters if name in FOLLOWERS]
        self._limit_files = limits
        self._known = frozenset((*limits, *NOTIFIED))
        self._keep = keep
        self._until_verified = 1 + phase % VERIFY_EVERY
        self._fds: list[int] = []
        self._names: list[str] = []
        self._follower_fds: list[int] = []
        self._leading: list[bytes] = []
        """What the leaders said last; `_last`, what they and then the followers did."""
        self._last: list[bytes] = []
        self._stat_fd = _ABSENT
        self._raw: dict[str, bytes] = {}
        self._complained: set[str] = set()
        self._usage_fields: dict[str, Any] = {}
        self._limit_fields: dict[str, Any] = {}
        self._cgroup_fields: dict[str, Any] = {}
        self._cgroup = Cgroup(unit=unit, limits=NO_LIMITS, usage=NO_USAGE, populated=False)
        self.stale = True
        """It is not known what has changed, or who is in there has."""
        self.told: set[str] = set()
        """Limits and event counters that something told have changed."""
        self.verified = 0
        """How often everything was read, not the counters alone."""
        self.looked_at = 0
        """The number of the reading that last told what it says now."""
        self.still_since = 0
        """The number of the first reading that told the same."""

    @property
    def descriptors(self) -> int:
        """How many descriptors it keeps at most."""
        return len(self._leaders) + len(self._followers) + 1 if self._keep else 0

    def knows(self, name: str, raw: bytes) -> bool:
        """Whether a file said just this when it was last read."""
        return self._raw.get(name) == raw

    def read(self, number: int, above: CgroupReader | None = None) -> Cgroup | None:
        """Read the cgroup; None if it is not there (any more).

        number: of this reading, no smaller than the last one's. above: of the cgroup that this one
        is in. If that was read just before, in the same reading, and none of its counters has moved
        since this one was read, then none of this one's has: what runs, waits or is charged below
        is counted above. So a subtree that rests costs what its top does. (Not counted are whole
        periods of a quota after the last run, and who is moved from one cgroup to a sibling.)
        """
        self._until_verified -= 1
        if self._until_verified and self._fds and not self.stale:
            if (
                above is not None
                and above.looked_at == number
                and self.looked_at >= above.still_since
                and not self.told
            ):
                self.looked_at = number
                return self._cgroup
            try:
                return self._read_what_moves(number)
            except OSError as error:
                if error.errno not in _VANISHED:
                    raise
        self.looked_at = self.still_since = number
        return self._read_all()

    def close(self) -> None:
        """Give the descriptors back; the next reading opens them again."""
        for fd in (*self._fds, *self._follower_fds, self._stat_fd):
            if fd != _ABSENT:
                os.close(fd)
        self._fds = []
        self._follower_fds = []
        self._stat_fd = _ABSENT

    def _read_what_moves(self, number: int) -> Cgroup:
        """Read the counters, and what was told."""
        now = list(map(os.pread, self._fds, _ROOMS, _STARTS))
        self.looked_at = number
        if now == self._leading and not self.told:
            return self._cgroup
        moved = self._take_counters(now)
        if moved:
            self.still_since = number
        limits = self._cgroup.limits
        while self.told:
            name = self.told.pop()
            if name in self._known and self._reread(name):
                moved = True
                limits = Limits(**self._limit_fields) if name in LIMIT_FIELDS else limits
        if moved:
            self._finalize(limits)
        return self._cgroup

    def _read_all(self) -> Cgroup | None:
        """Read everything, with fresh descriptors.

        For the cgroup may be gone, or be made anew under the same name, and a controller may have
        been switched on or off: each shows only when its files are opened.
        """
        self.close()
        if not self._open():
            return None
        try:
            moved = self._take_counters(list(map(os.pread, self._fds, _ROOMS, _STARTS)))
        except OSError as error:
            if error.errno in _VANISHED:
                self.close()
                return None
            raise
        limits = self._cgroup.limits
        # a list, not a generator: every file is to be read, whatever the first one says
        if any([self._reread(name) for name in self._limit_files]):  # noqa: C419  # see above
            limits = Limits(**self._limit_fields)
            moved = True
        moved |= any([self._reread(name) for name in (*NOTIFIED, MEMORY_STAT)])  # noqa: C419  # see above
        self.stale = False
        self.told.clear()
        self.verified += 1
        self._until_verified = VERIFY_EVERY
        if not self._keep:
            self.close()
        if moved or self.verified == 1:
            self._finalize(limits)
        return self._cgroup

    def _take_counters(self, leading: list[bytes]) -> bool:
        """Take over the counters, given the leading ones; whether any says something else.

        PSI's averages do not count; they change for minutes after the last of it.
        """
        moved = False
        now = [*leading, *map(os.pread, self._follower_fds, _ROOMS, _STARTS)]
        before = self._raw.get("memory.current")
        for name, raw, last in zip(self._names, now, self._last, strict=True):
            if raw != last and not (name in PRESSURES and _same_totals(raw, last)):
                moved |= self._take(name, raw)
        if self._raw.get("memory.current") != before and self._stat_fd != _ABSENT:
            moved |= self._take(MEMORY_STAT, os.pread(self._stat_fd, _PAGE, 0))
        self._leading, self._last = leading, now
        return moved

    def _finalize(self, limits: Limits) -> None:
        self._cgroup = Cgroup(
            unit=self._cgroup.unit,
            limits=limits,
            usage=Usage(**self._usage_fields),
            populated=bool(self._cgroup_fields.get("populated")),
        )

    def _open(self) -> bool:
        """Open the counters that are there. False: no such directory."""
        try:
            directory = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in _VANISHED:
                return False
            raise
        self._names = []
        try:
            for names, fds in (
                (self._leaders, self._fds),
                (self._followers, self._follower_fds),
            ):
                for name in names:
                    fd = _open_at(directory, name)
                    if fd == _ABSENT:
                        self._take(name, b"")
                    else:
                        fds.append(fd)
                        self._names.append(name)
            self._stat_fd = _open_at(directory, MEMORY_STAT)
        finally:
            os.close(directory)
        self._leading = [_NEVER]
        self._last = [_NEVER] * len(self._names)
        return True

    def _reread(self, name: str) -> bool:
        return self._take(name, slurp(f"{self._path}/{name}"))

    def _take(self, name: str, raw: bytes) -> bool:
        """Take over what a file says now, nothing if it is absent; whether a value is another."""
        if self._raw.get(name) == raw:
            return False
        self._raw[name] = raw
        fields = self._usage_fields
        if name in LIMIT_FIELDS:
            fields = self._limit_fields
        elif name == CGROUP_EVENTS:
            fields = self._cgroup_fields
        names = FIELDS_OF[name]
        before = [fields.pop(field, None) for field in names]
        try:
            if raw:
                fields.update(parse_file(name, raw))
        except (ValueError, KeyError, IndexError):
            if name not in self._complained:
                self._complained.add(name)
                log.warning("%s/%s is not understood: %r", self._path, name, raw[:200])
        return before != [fields.get(field) for field in names]


def _same_totals(one: bytes, other: bytes) -> bool:
    """Tell whether two readings of a pressure file differ in nothing but averages."""
    return one.split()[4::5] == other.split()[4::5]


def slurp(path: str) -> bytes:
    """Return a file's beginning, 4 KiB at most; nothing if it is not there (any more)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _VANISHED:
            return b""
        raise
    try:
        return os.read(fd, _PAGE)
    except OSError as error:
        if error.errno in _VANISHED:
            return b""
        raise
    finally:
        os.close(fd)


def slurp_all(path: str) -> bytes:
    """Return a whole file, however long; nothing if it is not there (any more)."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        if error.errno in _VANISHED:
            return b""
        raise


def read_limits(path: str, fields: Collection[str] | None = None) -> dict[str, object]:
    """Read the limits of the cgroup at an absolute path, once: field of Limits → value.

    fields: no other files than these are in; None for all. A field is missing where its controller
    is, or where its file is not understood.
    """
    found: dict[str, object] = {}
    for name, of_file in LIMIT_FIELDS.items():
        if fields is not None and of_file.keys().isdisjoint(fields):
            continue
        raw = slurp(f"{path}/{name}")
        with contextlib.suppress(ValueError):
            if raw:
                found.update(parse_file(name, raw))
    return found


def _open_at(directory: int, name: str) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    except OSError as error:
        if error.errno in _VANISHED:
            return _ABSENT
        raise
