"""The rights of users, with the host's groups; groups are remembered for a minute."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence

from enforcer import policy
from enforcer.errors import EnforcerError, UnavailableError
from enforcer.model import Claim, Config, Rights
from enforcer.ports import Host
from enforcer.quantities import Bytes, Cpus

_log = logging.getLogger(__name__)

_REMEMBERED_SECONDS = 60.0
"""A user database may be a directory server far away."""


_KEPT = 4096
"""Whoever asks is remembered, and anybody may ask."""


class RightsBook:
    """Looks rights up, and keeps the totals of those who have leases."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._groups: dict[str, tuple[float, tuple[str, ...]]] = {}
        self._config: Config | None = None
        self._rights: dict[tuple[str, tuple[str, ...], tuple[str, ...]], Rights] = {}
        self.totals: Mapping[str, tuple[Cpus, Bytes]] = {}
        """User → total of CPU and of memory, for everyone with a lease. The same object as long as
        nothing in it changes."""

    def of(self, config: Config, user: str, hub_groups: Sequence[str]) -> Rights:
        """Return the rights of a user.

        Raises:
            InvalidError, ForbiddenError: the name cannot be a user's.
        """
        if config is not self._config or len(self._rights) >= _KEPT:
            self._config, self._rights = config, {}
        # the same question for every lease at every tick and claim, and pure but for the groups
        key = (user, self._host_groups(user), tuple(hub_groups))
        found = self._rights.get(key)
        if found is None:
            found = self._rights[key] = policy.rights(config, *key)
        return found

    def renew_totals(self, config: Config, claims: Mapping[str, Claim]) -> None:
        """Look up the totals of these users; claims: user → a claim of theirs."""
        totals: dict[str, tuple[Cpus, Bytes]] = {}
        for user, claim in claims.items():
            try:
                rights = self.of(config, user, claim.groups)
            except UnavailableError as error:  # a user database that hangs lifts nobody's total
                _log.warning("the total of a user with a lease stays: %s", error.message)
                if user in self.totals:
                    totals[user] = self.totals[user]
                continue
            except EnforcerError as error:  # a lease of old, whose name a new policy refuses
                _log.debug("no rights for a user with a lease: %s", error)
                continue
            totals[user] = (rights.cpu_total, rights.mem_total)
        if totals != self.totals:
            self.totals = totals

    def forget(self) -> None:
        """Look every group up anew."""
        self._groups.clear()

    def _host_groups(self, user: str) -> tuple[str, ...]:
        now = time.monotonic()
        found = self._groups.get(user)
        if found is not None and now - found[0] < _REMEMBERED_SECONDS:
            return found[1]
        if len(self._groups) >= _KEPT:
            self._groups.clear()
        groups = self._host.groups(user)
        self._groups[user] = (now, groups)
        return groups
