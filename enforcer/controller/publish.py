"""What the last tick came to, for metrics, status, explain and the pages' history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil

from enforcer.controller.actor import Actor
from enforcer.controller.decide import Decision, rates_after
from enforcer.controller.keeper import Keeper
from enforcer.history import History, Sampler, held_back
from enforcer.model import (
    Config,
    Lease,
    Observed,
    Published,
    ReportDrift,
    Sample,
    TickStats,
)
from enforcer.names import UnitName


class Publisher:
    """Keeps the last picture, and the samples of every lease."""

    def __init__(self) -> None:
        self._history = History()
        self._users: dict[str, str] = {}
        """Lease that is not finished → its user."""
        self._ended: dict[str, tuple[float, str]] = {}
        """Finished lease → Unix seconds at which it was missed, and its user."""
        self._rates: Mapping[UnitName, Sample] = {}
        self._rates_at = 0.0
        self._previous: Observed | None = None
        """The snapshot that the rates began with."""
        self._sampler = Sampler()
        self._picture: Published | None = None
        self._stats = TickStats()

    @property
    def picture(self) -> Published | None:
        """The last tick's; None before the first."""
        return self._picture

    def history(self, lease_id: str) -> tuple[str, tuple[tuple[float, Sample], ...]] | None:
        """Return a lease's user and last samples, for a while after its end too.

        None: it was not there at the last tick, or it ended longer ago.
        """
        _, user = self._ended.get(lease_id, (0.0, self._users.get(lease_id)))
        if user is None:
            return None
        return user, self._history.get(lease_id)

    def failed(self) -> None:
        """Count a tick that was not finished."""
        self._stats = replace(self._stats, failed=self._stats.failed + 1)
        if self._picture is not None:
            self._picture = replace(self._picture, tick=self._stats)

    def publish(
        self,
        config: Config,
        observed: Observed,
        decision: Decision,
        keeper: Keeper,
        actor: Actor,
        *,
        seconds: tuple[float, float, float],
    ) -> None:
        """Publish a tick; seconds: spent on observing, deciding, acting."""
        leases = keeper.book.leases
        if decision.rated:
            rates = self._sampler.take(decision.base, observed, leases, keeper.accounts)
            self._rates, self._rates_at = rates, observed.at
            self._previous = decision.base
            seconds_kept = config.daemon.history_seconds
            # one before the first interval, and one more: the clock may be slewed meanwhile
            self._history.keep_last(seconds_kept, ceil(seconds_kept / rates_after(config)) + 2)
            found = ((lease.id, held_back(lease.unit, rates)) for lease in leases)
            self._history.add(
                observed.at, {lease_id: one for lease_id, one in found if one is not None}
            )
            self._forget_ended(leases, observed.at, seconds_kept)
        self._stats = TickStats(
            ticks=self._stats.ticks + 1,
            failed=self._stats.failed,
            observe_seconds=seconds[0],
            decide_seconds=seconds[1],
            act_seconds=seconds[2],
        )
        self._picture = Published(
            config=config,
            observed=observed,
            previous=self._previous,
            desired=decision.desired,
            leases=leases,
            rates=self._rates,
            rates_at=self._rates_at,
            caps=decision.caps,
            repairs=tuple(actor.repairs),
            repair_times=actor.repair_times,
            open_drift=_reports(decision),
            deferred=decision.deferred,
            counters=dict(actor.counters),
            tick=self._stats,
            systemd_ok=actor.systemd_ok,
            docker_ok=observed.containers is not None,
        )

    def _forget_ended(self, leases: Sequence[Lease], now: float, kept_seconds: float) -> None:
        before, self._users = self._users, {lease.id: lease.user for lease in leases}
        self._ended |= {gone: (now, before[gone]) for gone in before.keys() - self._users.keys()}
        over = [gone for gone, (at, _) in self._ended.items() if now - at > kept_seconds]
        for gone in over:
            del self._ended[gone]
        self._history.keep_only(self._users.keys() | self._ended.keys())


def _reports(decision: Decision) -> tuple[ReportDrift, ...]:
    return tuple(one for one in decision.actions if isinstance(one, ReportDrift))
