"""inotify(7), as much of it as watching directories needs. The standard library has none."""

from __future__ import annotations

import ctypes
import enum
import errno
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Self

_HEADER: Final = struct.Struct("iIII")
_ROOM: Final = 64 * 1024
_MOST_KNOWN: Final = 4096
"""Records. Cgroups at their limits send the same few a thousand times a second."""


NO_WATCH: Final = -1


class Mask(enum.IntFlag):
    """The bits of inotify(7) that are used here."""

    MODIFY = 0x00000002
    CREATE = 0x00000100
    DELETE = 0x00000200
    UNMOUNT = 0x00002000
    OVERFLOW = 0x00004000
    IGNORED = 0x00008000
    ONLYDIR = 0x01000000
    DONT_FOLLOW = 0x02000000
    ISDIR = 0x40000000


@dataclass(frozen=True, slots=True)
class Event:
    """One event: the watch it came from, what happened, and to which name.

    watch: NO_WATCH where events were lost (OVERFLOW).
    """

    watch: int
    mask: Mask
    name: str


class Inotify:
    """One inotify instance. `read` never blocks, so it may be asked at any time."""

    def __init__(self) -> None:
        """Make an instance.

        Raises:
            OSError: EMFILE where fs.inotify.max_user_instances is used up.
        """
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise _error()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Return the descriptor, readable when events wait; −1 once closed."""
        return int(self._fd)

    def add(self, path: str, mask: Mask) -> int | None:
        """Watch a directory; None if it is not there (any more).

        Raises:
            OSError: ENOSPC where fs.inotify.max_user_watches is used up.
        """
        flags = mask | Mask.ONLYDIR | Mask.DONT_FOLLOW
        watch = int(
            self._libc.inotify_add_watch(self._fd, os.fsencode(path), ctypes.c_uint32(flags))
        )
        if watch >= 0:
            return watch
        problem = _error()
        # the cgroup was removed between listing and watching it
        if problem.errno in {errno.ENOENT, errno.ENOTDIR, errno.ENODEV}:
            return None
        raise problem

    def read(self) -> list[Event]:
        """Return what has happened since the last call, in order; empty when nothing has.

        A file that was written ten times over is in it once, at its first place.
        """
        events: list[Event] = []
        written: set[bytes] = set()
        while self._fd >= 0:
            try:
                buffer = os.read(self._fd, _ROOM)
            except BlockingIOError:
                break
            for record in split_records(buffer):
                if record in written:
                    continue
                event = parse_record(record)
                if event.mask == Mask.MODIFY:
                    written.add(record)
                events.append(event)
        return events

    def close(self) -> None:
        """Give up all watches."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def split_records(buffer: bytes) -> Iterator[bytes]:
    """Split what the kernel returned into events."""
    offset = 0
    while offset < len(buffer):
        end = offset + _HEADER.size + _HEADER.unpack_from(buffer, offset)[3]
        yield buffer[offset:end]
        offset = end


@lru_cache(maxsize=_MOST_KNOWN)
def parse_record(record: bytes) -> Event:
    """Parse one event; the name is padded with NULs (inotify(7))."""
    watch, mask, _, _ = _HEADER.unpack_from(record)
    return Event(watch, Mask(mask), os.fsdecode(record[_HEADER.size :].rstrip(b"\0")))


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
