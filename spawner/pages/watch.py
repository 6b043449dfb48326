"""The machine's last quarter of an hour, kept by looking at the daemon every few seconds.

The daemon keeps the history of each lease; what the machine, all servers and all of a user's servers
together used is added up here. It lives in memory: after a restart the charts begin anew.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from enforcer.api.types import Amount, LeaseReply, SliceReply, SlicesReply, StatusReply
from enforcer.errors import EnforcerError, UnavailableError

KEEP_SECONDS: Final = 900.0
_NOTHING: Final = Amount(cpu=0.0, memory=0)
_log: Final = logging.getLogger(__name__)


class Daemon(Protocol):
    """What is asked of the daemon's client."""

    async def status(self) -> StatusReply:
        """How the machine is."""

    async def slices(self) -> SlicesReply:
        """The slice tree."""

    async def leases(self, user: str | None = None) -> tuple[LeaseReply, ...]:
        """The leases that are not finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """The daemon's answers of one look."""

    status: StatusReply
    slices: tuple[SliceReply, ...]
    leases: tuple[LeaseReply, ...]

    def of_kind(self, kind: str) -> list[SliceReply]:
        """Return the slices of a kind: ``workload``, ``profile``."""
        return [one for one in self.slices if one.kind == kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What was in use at a time; `users`: by all servers of a user together."""

    at: float
    machine: Amount
    hub: Amount
    users: Mapping[str, Amount]


def moment(picture: Picture) -> Moment:
    """Add up."""
    users: dict[str, Amount] = {}
    for lease in picture.leases:
        if lease.usage is not None:
            users[lease.user] = _sum(
                users.get(lease.user, _NOTHING), lease.usage.cpu, lease.usage.memory
            )
    hub = _NOTHING
    for used in users.values():
        hub = _sum(hub, used.cpu, used.memory)
    return Moment(
        at=picture.status.at, machine=picture.status.machine.used, hub=hub, users=users
    )


def _sum(amount: Amount, cpu: float, memory: int) -> Amount:
    return Amount(cpu=amount.cpu + cpu, memory=amount.memory + memory)


class Watch:
    """Looks, and remembers. `picture` is None until the daemon answered once."""

    def __init__(self, daemon: Daemon, poll_seconds: float) -> None:
        self._daemon = daemon
        self.poll_seconds = poll_seconds
        self.picture: Picture | None = None
        self.trouble: EnforcerError | None = UnavailableError(
            "daemon.unreachable", "the machine's resource service has not answered yet"
        )
        self._moments: deque[Moment] = deque(maxlen=max(2, int(KEEP_SECONDS / poll_seconds)))
        self._turn = asyncio.Lock()

    @property
    def moments(self) -> Sequence[Moment]:
        """The last quarter of an hour, the oldest first."""
        return tuple(self._moments)

    async def run(self) -> None:
        """Look for ever, at an even pace."""
        while True:
            started = time.monotonic()
            await self.look()
            await asyncio.sleep(max(0.1, self.poll_seconds - (time.monotonic() - started)))

    async def look(self) -> None:
        """Look once; a daemon that does not answer leaves the last picture and the trouble."""
        async with self._turn:
            try:
                status = await self._daemon.status()
                slices = await self._daemon.slices()
                leases = await self._daemon.leases()
            except EnforcerError as error:
                if self.trouble is None:
                    _log.warning("the daemon does not answer: %s", error)
                self.trouble = error
                return
            if self.trouble is not None and self.picture is not None:
                _log.info("the daemon answers again")
            self.trouble = None
            self.picture = Picture(status=status, slices=tuple(slices.slices), leases=leases)
            now = moment(self.picture)
            if not self._moments or now.at > self._moments[-1].at:
                self._moments.append(now)
