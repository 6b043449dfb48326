"""inotify(7), as much of it as watching directories needs. The standard library has none."""

from __future__ import annotations

import ctypes
import enum
import errno
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

_HEADER: Final = struct.Struct("iIII")
_ROOM: Final = 64 * 1024


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
    """One event: the watch it came from (−1 with OVERFLOW), what happened, and to which name."""

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
        """Return what has happened since the last call, in order; empty when nothing has."""
        events: list[Event] = []
        while self._fd >= 0:
            try:
                buffer = os.read(self._fd, _ROOM)
            except BlockingIOError:
                break
            events.extend(parse_events(buffer))
        return events

    def close(self) -> None:
        """Give up all watches."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def parse_events(buffer: bytes) -> Iterator[Event]:
    """Split what the kernel returned; names are padded with NULs (inotify(7))."""
    offset = 0
    while offset < len(buffer):
        watch, mask, _, length = _HEADER.unpack_from(buffer, offset)
        offset += _HEADER.size
        name = buffer[offset : offset + length].rstrip(b"\0")
        offset += length
        yield Event(watch, Mask(mask), os.fsdecode(name))


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
