"""The rights of users, with the host's groups: known for a minute to who asks, or for some.

A user database may be a directory server far away: only `learn` waits for it, beside the event
loop. Whoever may not wait goes by what is known, and has it renewed in the background.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from enforcer import policy
from enforcer.errors import UnavailableError
from enforcer.model import Config, Lease, Rights
from enforcer.ports import Clock, Host
from enforcer.tree import Totals, totals_of

_log = logging.getLogger(__name__)

_FRESH_SECONDS = 60.0
_LASTS_SECONDS = 300.0
"""For the totals of those who ask for nothing: a hundred of them are a hundred questions."""
_RETRY_SECONDS = 2.0
_LEARN_SECONDS = 15.0
"""Many may claim at once, and the API gives each twice as long."""
_AT_ONCE = 4
"""The host takes few questions at a time, and there are few threads."""
_KEPT = 4096
"""Whoever asks is remembered, and anybody may ask."""


@dataclass(frozen=True, slots=True)
class _Groups:
    """A user's groups, None before the host has told.

    due: when to ask again if anybody wants to know; renewed_at: when in any case. Monotonic.
    certain: the host knows the user, or has not twice. Soon after a boot it may know nobody yet.
    """

    names: tuple[str, ...] | None
    due: float
    renewed_at: float
    certain: bool = False


class RightsBook:
    """Tells rights, and keeps the totals of those who have leases."""

    def __init__(self, host: Host, clock: Clock) -> None:
        self._host = host
        self._clock = clock
        self._groups: dict[str, _Groups] = {}
        """Who was asked about last comes last."""
        self._few = asyncio.Semaphore(_AT_ONCE)
        self._renewing: asyncio.Task[None] | None = None
        self._config: Config | None = None
        self._rights: dict[tuple[str, tuple[str, ...], tuple[str, ...]], Rights] = {}
        self.told = object()
        """Another one whenever the host has told something new."""
        self.totals: Totals = {}
        """Of everyone with a lease. The same object as long as nothing in it changes."""

    def of(self, config: Config, user: str, hub_groups: Sequence[str]) -> Rights:
        """Return the rights of a user, by the groups the host told last; it never waits.

        Raises:
            InvalidError, ForbiddenError: the name cannot be a user's.
            UnavailableError: ``host.users``: the host has not told yet.
        """
        if config is not self._config or len(self._rights) >= _KEPT:
            self._config, self._rights = config, {}
        # the same question for every lease at every tick and claim, and pure but for the groups
        key = (user, self._host_groups(user), tuple(hub_groups))
        found = self._rights.get(key)
        if found is None:
            found = self._rights[key] = policy.rights(config, *key)
        return found

    def certain(self, config: Config, user: str) -> bool:
        """Tell whether what a lease has may be taken by the rights that are known: for good."""
        known = self._groups.get(user)
        if known is None or known.names is None:
            return False
        return known.certain or not config.groups

    def renew_totals(
        self, config: Config, leases: Collection[Lease], only: Collection[str] | None = None
    ) -> None:
        """Reckon the totals of the users whose leases these are.

        only: those of these users; the others' stay. None: nobody else has one.
        """
        users = {lease.user for lease in leases}
        told = {user for user in users if self._knows(user)}
        totals = totals_of(
            (lease for lease in leases if lease.user in told),
            lambda claim: self.of(config, claim.user, claim.groups),
        )
        # a user database that hangs lifts nobody's total
        asked = self.totals.keys() if only is None else only
        stay = self.totals.keys() & ((users - told) | (self.totals.keys() - asked))
        totals = {**totals, **{user: self.totals[user] for user in stay}}
        if totals != self.totals:
            self.totals = totals

    async def learn(self, users: Iterable[str]) -> None:
        """Ask the host about those whose groups are not known or too old; not for ever."""
        due = self._due(users)
        if not due:
            return
        try:
            async with asyncio.timeout(_LEARN_SECONDS), asyncio.TaskGroup() as asking:
                for user in due:
                    asking.create_task(self._ask(user))
        except TimeoutError:
            _log.warning("the user database is slow: not all of %d users were told", len(due))

    def renew(self, users: Iterable[str]) -> None:
        """Have the host asked about those whose groups are too old, one by one: nobody waits."""
        if self._renewing is None or self._renewing.done():
            due = self._due(users, waits_for_renewal=True)
            if due:
                self._renewing = asyncio.create_task(self._renew(due), name="groups")

    def expire(self) -> None:
        """Have every group looked up anew; what is known holds until the host has told."""
        now = self._clock.monotonic()
        self._groups = {
            user: replace(known, due=now, renewed_at=now) for user, known in self._groups.items()
        }

    async def close(self) -> None:
        """Ask no more."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)

    async def _renew(self, users: Sequence[str]) -> None:
        for user in users:
            await self._ask(user)

    async def _ask(self, user: str) -> None:
        async with self._few:
            if not self._due([user]):
                return  # somebody else has asked meanwhile
            known = self._groups.get(user, _Groups(None, 0.0, 0.0))
            names, certain = known.names, known.certain
            fresh, lasts = _FRESH_SECONDS, _LASTS_SECONDS
            try:
                names = await asyncio.to_thread(self._host.groups, user)
                certain = bool(names) or known.names == ()
            except UnavailableError as error:
                _log.warning("%s", error.message)
                fresh = lasts = _RETRY_SECONDS
        before = self._groups.pop(user, None)
        if before is None or before.names != names:
            self.told = object()
        now = self._clock.monotonic()
        self._groups[user] = _Groups(names, now + fresh, now + lasts, certain)
        if len(self._groups) > _KEPT:
            del self._groups[next(iter(self._groups))]

    def _due(self, users: Iterable[str], *, waits_for_renewal: bool = False) -> list[str]:
        now = self._clock.monotonic()
        found = ((user, self._groups.get(user)) for user in dict.fromkeys(users))
        return [
            user
            for user, known in found
            if known is None or (known.renewed_at if waits_for_renewal else known.due) <= now
        ]

    def _knows(self, user: str) -> bool:
        known = self._groups.get(user)
        return known is not None and known.names is not None

    def _host_groups(self, user: str) -> tuple[str, ...]:
        known = self._groups.get(user)
        if known is None or known.names is None:
            raise UnavailableError(
                "host.users",
                f"the user database has not told yet who {ascii(user)[:80]} is",
                "try again soon; try getent passwd on the host",
            )
        return known.names
