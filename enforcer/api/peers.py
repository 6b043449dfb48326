"""Who is at the other end of a Unix socket, and for whom they may act."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from enforcer.errors import ForbiddenError, UnavailableError
from enforcer.ports import Clock, Host

ROOT_UID: Final = 0
_OVERFLOW_UID: Final = 65534
"""What the kernel says of a peer whose uid has no meaning here (user_namespaces(7))."""
_UCRED: Final = struct.Struct("iII")
_FRESH_SECONDS: Final = 60.0
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


class Peers:
    """Turns uids into peers. The user database may be slow (LDAP): answers are kept a minute."""

    def __init__(self, host: Host, clock: Clock, hub_users: Callable[[], tuple[str, ...]]) -> None:
        self._host = host
        self._clock = clock
        self._hub_users = hub_users
        self._names: dict[int, tuple[str, float]] = {}
        self._privileged_uids: frozenset[int] = frozenset()
        self._hub_as_of: tuple[tuple[str, ...], float] | None = None

    def exempt(self, uid: int) -> bool:
        """Tell whether a uid is root's or the hub's, before anything it sent was read."""
        if uid == ROOT_UID:
            return True
        users, now = self._hub_users(), self._clock.monotonic()
        if (
            self._hub_as_of is None
            or self._hub_as_of[0] != users
            or now - self._hub_as_of[1] > _FRESH_SECONDS
        ):
            self._hub_as_of = (users, now)
            try:
                found = [self._host.user_id(user) for user in users]
            except UnavailableError as error:  # a slow user database: whom it named holds
                _log.warning("cannot tell who the hub is: %s", error.message)
            else:
                self._privileged_uids = frozenset(one for one in found if one is not None)
        return uid in self._privileged_uids

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
        return Peer(uid=uid, name=known[0], privileged=self.exempt(uid))

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
