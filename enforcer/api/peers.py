"""Who is at the other end of a Unix socket, and for whom they may act."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from enforcer.errors import ForbiddenError, UnavailableError
from enforcer.ports import Clock, Host

ROOT_UID: Final = 0
_OVERFLOW_UID: Final = 65534
"""What the kernel says of a peer whose uid has no meaning here (user_namespaces(7))."""
_UCRED: Final = struct.Struct("iII")
_FRESH_SECONDS: Final = 60.0
_RETRY_SECONDS: Final = 2.0
_LOOK_UP_SECONDS: Final = 5.0
_MOST_KNOWN: Final = 4096

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One peer: its uid, the name the host has for it, and what it may.

    privileged: root or one of the hub's users, who act for anyone. root: may also change the
    configuration.
    """

    uid: int
    name: str
    privileged: bool

    @property
    def root(self) -> bool:
        """The superuser."""
        return self.uid == ROOT_UID

    def may_act_for(self, user: str) -> bool:
        """Tell whether what is `user`'s is this peer's to see and to change."""
        return self.privileged or self.name == user

    def check_acts_for(self, user: str) -> None:
        """Insist on it.

        Raises:
            ForbiddenError: ``peer.not-allowed``.
        """
        if not self.may_act_for(user):
            raise ForbiddenError(
                "peer.not-allowed",
                f"{self.name} may not act for {user[:80]}",
                "root and the hub's users may; name yours in [daemon] hub_users",
            )

    def check_root(self, what: str) -> None:
        """Insist on root.

        Raises:
            ForbiddenError: ``peer.not-root``.
        """
        if not self.root:
            raise ForbiddenError("peer.not-root", f"only root may {what}", "use sudo")

    def check_privileged(self, what: str, hint: str = "leave that out") -> None:
        """Insist on root or the hub.

        Raises:
            ForbiddenError: ``peer.not-privileged``.
        """
        if not self.privileged:
            raise ForbiddenError("peer.not-privileged", f"only root and the hub may {what}", hint)


def peer_uid(connection: socket.socket) -> int:
    """Return the uid that called connect(2), as unix(7)'s SO_PEERCRED tells it."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    _, uid, _ = _UCRED.unpack(raw)
    return int(uid)


@dataclass(frozen=True, slots=True)
class _HubUser:
    """One of the hub's users, as the host told last.

    uid: None: the host knows no such user, or has not told yet. due: when to ask again (monotonic).
    """

    uid: int | None
    due: float
    answered: bool


class Peers:
    """Turns uids into peers. The user database may be slow (LDAP): answers are kept a minute.

    Nothing here holds up the event loop, and nobody waits for more than their own name.
    """

    def __init__(self, host: Host, clock: Clock, hub_users: Callable[[], tuple[str, ...]]) -> None:
        self._host = host
        self._clock = clock
        self._hub_users = hub_users
        self._names: dict[int, tuple[str, float]] = {}
        self._hub: dict[str, _HubUser] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def learn(self) -> None:
        """Look the hub's users up, so that the first request finds them known; not for ever."""
        await self._wait(self._hub_users())

    def exempt(self, uid: int) -> bool:
        """Tell whether a uid is root's or the hub's, before anything it sent was read.

        By what is known: it never waits. What is too old is looked up in the background.
        """
        if uid == ROOT_UID:
            return True
        users = self._hub_users()
        self._ask(users)
        return any(self._uid_of(user) == uid for user in users)

    async def peer(self, uid: int) -> Peer:
        """Return who this is.

        Raises:
            ForbiddenError: ``peer.unknown``: the host has no name for this uid.
            UnavailableError: ``peer.lookup``: the user database does not answer.
        """
        if uid == ROOT_UID:
            return Peer(uid=uid, name="root", privileged=True)
        known = self._names.get(uid)
        if known is None or self._clock.monotonic() - known[1] > _FRESH_SECONDS:
            known = (await self._look_up(uid), self._clock.monotonic())
            if len(self._names) >= _MOST_KNOWN:
                self._names.clear()
            self._names[uid] = known
        name = known[0]
        users = self._hub_users()
        await self._wait([one for one in users if one == name or self._uid_of(one) == uid])
        return Peer(uid=uid, name=name, privileged=self.exempt(uid))

    async def close(self) -> None:
        """Ask no more."""
        tasks = tuple(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _uid_of(self, hub_user: str) -> int | None:
        known = self._hub.get(hub_user)
        return None if known is None else known.uid

    async def _wait(self, users: Collection[str]) -> None:
        """Have these of the hub's users known, if the host tells in time."""
        tasks = self._ask(users)
        if tasks:
            await asyncio.wait(tasks, timeout=_LOOK_UP_SECONDS)

    def _ask(self, users: Collection[str]) -> Collection[asyncio.Task[None]]:
        """Have those looked up whose uid is not known or too old; return what is under way."""
        now = self._clock.monotonic()
        for user in users:
            known = self._hub.get(user)
            if user not in self._asking and (known is None or known.due <= now):
                self._asking[user] = asyncio.create_task(self._ask_host(user), name="hub users")
        return [self._asking[user] for user in users if user in self._asking]

    async def _ask_host(self, user: str) -> None:
        before = self._hub.get(user)
        try:
            uid = await asyncio.to_thread(self._host.user_id, user)
            lasts, answered = _FRESH_SECONDS, True
        except UnavailableError as error:  # a slow user database: whom it named holds
            if before is None or before.answered:
                _log.warning("cannot tell who the hub is: %s", error.message)
            uid = self._uid_of(user)
            lasts, answered = _RETRY_SECONDS, False
        finally:
            del self._asking[user]
        self._hub[user] = _HubUser(uid, self._clock.monotonic() + lasts, answered)

    async def _look_up(self, uid: int) -> str:
        try:
            async with asyncio.timeout(_LOOK_UP_SECONDS):
                name = await asyncio.to_thread(self._host.user_name, uid)
        except TimeoutError:
            raise UnavailableError(
                "peer.lookup",
                f"the user database did not say in time who uid {uid} is",
                "try getent passwd on the host",
            ) from None
        if name is None or uid == _OVERFLOW_UID:
            raise ForbiddenError(
                "peer.unknown",
                f"the host knows no user with the uid {uid}",
                "call from an account of the host, not from a container's",
            )
        return name
