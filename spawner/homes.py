"""Whose files a server works with: the host's account of the user."""

from __future__ import annotations

import asyncio
import pwd
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from enforcer.errors import ForbiddenError, NotFoundError, UnavailableError

_SECONDS: Final = 20.0
"""The host's accounts may come from a directory service."""
_THREADS: Final = ThreadPoolExecutor(4, thread_name_prefix="accounts")
"""Our own: a directory service that hangs would use up the hub's, which looks up hosts in them."""


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


async def find_account(user: str) -> Account:
    """Look a user up.

    Raises:
        NotFoundError: ``account.unknown``.
        ForbiddenError: ``account.root``.
        UnavailableError: ``account.timeout``.
    """
    try:
        async with asyncio.timeout(_SECONDS):
            entry = await asyncio.get_running_loop().run_in_executor(_THREADS, _entry, user)
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
