"""The machine's last quarter of an hour, kept by looking at the daemon every few seconds.

The daemon keeps the history of each lease; what the machine, all servers and all of a user's
servers together used is added up here, in memory. After a start the leases' histories are all that
there is.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from enforcer.api.types import (
    Amount,
    HistoryReply,
    LeaseReply,
    SampleReply,
    SliceReply,
    SlicesReply,
    StatusReply,
)
from enforcer.errors import EnforcerError, NotFoundError, UnavailableError

KEEP_SECONDS: Final = 900.0
_NOTHING: Final = Amount(cpu=0.0, memory=0)
_ABOUT: Final = 0.9
"""Ticks are not quite even."""
_log: Final = logging.getLogger(__name__)


class Daemon(Protocol):
    """What is asked of the daemon's client."""

    async def status(self) -> StatusReply:
        """How the machine is."""

    async def slices(self) -> SlicesReply:
        """The slice tree."""

    async def leases(self, user: str | None = None) -> tuple[LeaseReply, ...]:
        """The leases that are not finished."""

    async def history(self, lease_id: str) -> HistoryReply:
        """The last samples of a lease."""


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
    """What was in use at a time; `users`: by all servers of a user together.

    machine: None where only the servers' own history is known.
    """

    at: float
    machine: Amount | None
    hub: Amount
    users: Mapping[str, Amount]


def moment(picture: Picture) -> Moment:
    """Add up."""
    used = [(lease.user, lease.usage) for lease in picture.leases if lease.usage is not None]
    return _moment(picture.status.at, picture.status.machine.used, used)


def past(histories: Sequence[tuple[str, HistoryReply]], until: float, every: float) -> list[Moment]:
    """Add up what is known of the servers (user, history) from before a time, the oldest first.

    The daemon's ticks may be closer together than is kept here: `every` so many seconds.
    """
    ticks: dict[float, list[tuple[str, SampleReply]]] = {}
    for user, history in histories:
        for sample in history.samples:
            if sample.at < until:
                ticks.setdefault(sample.at, []).append((user, sample))
    found: list[Moment] = []
    for at in sorted(ticks):
        if not found or at - found[-1].at >= every * _ABOUT:
            found.append(_moment(at, None, ticks[at]))
    return found


def _moment(at: float, machine: Amount | None, used: Sequence[tuple[str, SampleReply]]) -> Moment:
    users: dict[str, Amount] = {}
    hub = _NOTHING
    for user, sample in used:
        users[user] = _sum(users.get(user, _NOTHING), sample.cpu, sample.memory)
        hub = _sum(hub, sample.cpu, sample.memory)
    return Moment(at=at, machine=machine, hub=hub, users=users)


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
                if not self._moments:
                    self._moments.extend(
                        past(await self._histories(leases), status.at, self.poll_seconds)
                    )
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

    async def _histories(self, leases: Sequence[LeaseReply]) -> list[tuple[str, HistoryReply]]:
        found = []
        for lease in leases:
            with suppress(NotFoundError):  # it has ended since
                found.append((lease.user, await self._daemon.history(lease.id)))
        return found
