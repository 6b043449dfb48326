"""Whose files a server works with: the host's account of the user."""

from __future__ import annotations

import asyncio
import pwd
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

from enforcer.errors import ForbiddenError, NotFoundError, UnavailableError

_SECONDS: Final = 20.0
"""The host's accounts may come from a directory service."""


@dataclass(frozen=True, slots=True)
class Account:
    """The host's ids of a user."""

    uid: int
    gid: int
    """Below 0 if it is not known."""

    @property
    def ids(self) -> str:
        """Return them as Docker takes them."""
        return f"{self.uid}:{self.gid}" if self.gid >= 0 else f"{self.uid}"

    def checked(self) -> Account:
        """Return it, if a server may run as it.

        Raises:
            ForbiddenError: ``account.root``: root in a container could do too much with the home.
        """
        if self.uid == 0:
            raise ForbiddenError(
                "account.root", "servers do not run as root", "log in with an account of your own"
            )
        return self


class Accounts:
    """Asks a directory service that may hang: about each user in a thread of its own.

    In the hub's threads it would use up those in which the hub looks up hosts; in few, users who
    are in no directory would wait for those who are. And none keeps the hub from ending.
    """

    def __init__(self, look_up: Callable[[str], Account | None]) -> None:
        self._look_up = look_up
        self._asked: dict[str, Future[Account | None]] = {}

    async def find(self, user: str) -> Account | None:
        """Return what is said of a user; whoever asks while it is being looked up waits with it."""
        answer = self._asked.get(user)
        if answer is None:
            answer = self._asked[user] = Future()
            answer.set_running_or_notify_cancel()  # whoever gives up does not take it from others
            threading.Thread(
                target=self._ask, args=(user, answer), name="accounts", daemon=True
            ).start()
        return await asyncio.wrap_future(answer)

    def _ask(self, user: str, answer: Future[Account | None]) -> None:
        try:
            found = self._look_up(user)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the one who waits gets it
            del self._asked[user]
            answer.set_exception(error)
        else:
            del self._asked[user]
            answer.set_result(found)


async def find_account(user: str) -> Account:
    """Look a user up.

    Raises:
        NotFoundError: ``account.unknown``.
        ForbiddenError: ``account.root``.
        UnavailableError: ``account.timeout``.
    """
    try:
        async with asyncio.timeout(_SECONDS):
            entry = await _ACCOUNTS.find(user)
    except TimeoutError:
        raise UnavailableError(
            "account.timeout", "the host's accounts cannot be looked up: no answer in time"
        ) from None
    if entry is None:
        raise NotFoundError(
            "account.unknown",
            f"this machine has no account named {user!a}, so there is no home to work in",
            "ask the admin for one",
        )
    return entry.checked()


def _entry(user: str) -> Account | None:
    try:
        found = pwd.getpwnam(user)
    except (KeyError, ValueError):  # a NUL in the name is a ValueError
        return None
    return Account(found.pw_uid, found.pw_gid)


_ACCOUNTS: Final = Accounts(_entry)
