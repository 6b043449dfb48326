"""The port Host: the machine through psutil, its users through the user database."""

from __future__ import annotations

import grp
import os
import pwd
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Generic, TypeVar

import psutil

from enforcer.adapters.properties import parse_cpu_list
from enforcer.errors import UnavailableError
from enforcer.model import Capacity
from enforcer.quantities import Bytes

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

_MOST_ANSWERS: Final = 4096
_MOST_UNDER_WAY: Final = 8


class PsutilHost:
    """The machine the daemon runs on. Safe for several threads.

    The user database may ask the network (nsswitch.conf(5)) and then take any time. A look-up gets
    `timeout_seconds`; where it takes longer, what was answered before holds.
    """

    def __init__(self, timeout_seconds: float = 2.0) -> None:
        self._groups = BoundedLookups(host_groups, timeout_seconds)
        self._names = BoundedLookups(host_user_name, timeout_seconds)
        self._ids = BoundedLookups(host_user_id, timeout_seconds)

    def capacity(self) -> Capacity:
        """Return what the host has: every CPU that is online, whatever this process may run on."""
        online = online_cpus()
        return Capacity(
            cores=len(online) or psutil.cpu_count(logical=True) or 1,
            memory=Bytes(psutil.virtual_memory().total),
            swap=Bytes(psutil.swap_memory().total),
            online=online,
        )

    def groups(self, user: str) -> tuple[str, ...]:
        """Return the groups of a user, sorted; none for a user the host does not know.

        Raises:
            UnavailableError: ``host.users``: the user database did not answer in time.
        """
        return self._groups.get(user)

    def user_name(self, uid: int) -> str | None:
        """Return the name of a uid; None if the host does not know it.

        Raises:
            UnavailableError: as `groups`.
        """
        return self._names.get(uid)

    def user_id(self, user: str) -> int | None:
        """Return the uid of a user; None if the host does not know them.

        Raises:
            UnavailableError: as `groups`.
        """
        return self._ids.get(user)


def online_cpus(listed: Path = Path("/sys/devices/system/cpu/online")) -> tuple[int, ...]:
    """Return the numbers of the CPUs that are online; none where the kernel does not list them."""
    try:
        return tuple(sorted(parse_cpu_list(listed.read_text())))
    except FileNotFoundError:  # no /sys, as in some sandboxes
        return ()


def host_groups(user: str) -> tuple[str, ...]:
    """Ask for the groups of a user, sorted; those without a name are left out."""
    entry = _entry(user)
    if entry is None:
        return ()
    names = (_group_name(gid) for gid in os.getgrouplist(user, entry.pw_gid))
    return tuple(sorted({name for name in names if name is not None}))


def host_user_name(uid: int) -> str | None:
    """Ask for the name of a uid."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):  # unknown, or no uid at all
        return None


def host_user_id(user: str) -> int | None:
    """Ask for the uid of a user."""
    entry = _entry(user)
    return None if entry is None else entry.pw_uid


@dataclass(frozen=True, slots=True)
class _Question:
    """A look-up under way, begun at `at` (monotonic seconds)."""

    at: float = field(default_factory=time.monotonic)
    answered: threading.Event = field(default_factory=threading.Event)


class BoundedLookups(Generic[K, T]):
    """Has a blocking function answer in time, or answers what it said last."""

    def __init__(self, look_up: Callable[[K], T], timeout_seconds: float) -> None:
        self._look_up = look_up
        self._timeout = timeout_seconds
        self._lock = threading.Lock()
        self._known: OrderedDict[K, T] = OrderedDict()
        self._under_way: dict[K, _Question] = {}

    def get(self, key: K) -> T:
        """Return the answer.

        Raises:
            UnavailableError: ``host.users``: there is none yet.
        """
        question = self._ask(key)
        if question is not None:
            # One that has been open for long keeps nobody else waiting.
            question.answered.wait(max(0.0, question.at + self._timeout - time.monotonic()))
        with self._lock:
            if key in self._known:
                return self._known[key]
        raise UnavailableError(
            "host.users",
            f"the user database did not say in time who {ascii(key)[:80]} is",
            "try getent passwd on the host",
        )

    def _ask(self, key: K) -> _Question | None:
        """Look it up in a thread, which can be left behind; None: too many hang already."""
        with self._lock:
            question = self._under_way.get(key)
            if question is not None:
                return question
            if len(self._under_way) >= _MOST_UNDER_WAY:
                return None
            question = self._under_way[key] = _Question()
        # A daemon thread, because one that hangs must not keep the process from ending.
        threading.Thread(
            target=self._answer, args=(key, question), name="user database", daemon=True
        ).start()
        return question

    def _answer(self, key: K, question: _Question) -> None:
        try:
            answer = self._look_up(key)
            with self._lock:
                self._known[key] = answer
                self._known.move_to_end(key)
                if len(self._known) > _MOST_ANSWERS:
                    self._known.popitem(last=False)
        finally:
            with self._lock:
                del self._under_way[key]
            question.answered.set()


def _entry(user: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(user)
    except (KeyError, ValueError):  # unknown; a NUL or a lone surrogate, which no name can hold
        return None


def _group_name(gid: int) -> str | None:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return None
