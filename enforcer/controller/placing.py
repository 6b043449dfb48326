"""Makes the slices of a claim that somebody waits for, and sees them on the kernel."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from enforcer.controller.actor import Actor
from enforcer.controller.decide import Decider, Given
from enforcer.controller.placement import check_placed
from enforcer.errors import UnavailableError
from enforcer.model import Deferred, DesiredSlice, Lease, Limits, Observed
from enforcer.names import UnitName
from enforcer.ports import Kernel


class Placing:
    """Places leases between ticks."""

    def __init__(self, kernel: Kernel, actor: Actor, decider: Decider) -> None:
        self._kernel = kernel
        self._actor = actor
        self._decider = decider
        self.placed: dict[UnitName, DesiredSlice] = {}
        """What was made since the last tick, as it ought to be."""

    async def make(self, lease: Lease, observed: Observed, given: Given) -> None:
        """Make a lease's slices. observed: those on its path that are there.

        Raises:
            UnavailableError: PID 1 did not answer or did not do it, or the kernel has another.
        """
        if self._actor.rests:
            raise UnavailableError(
                "systemd.timeout", "systemd did not answer a moment ago", "try again in a minute"
            )
        decision = self._decider.placement(lease, observed, given)
        await self._actor.place(decision.actions, observed)
        self.check(lease, decision.desired.slices, decision.deferred)
        self.placed.update(decision.desired.slices)

    def check(
        self,
        lease: Lease,
        slices: Mapping[UnitName, DesiredSlice],
        deferred: Collection[Deferred],
    ) -> None:
        """See what was promised on the kernel. slices: those on the lease's path.

        Raises:
            UnavailableError: it has another.
        """
        check_placed(lease, slices, self._limits_now(lease, slices), deferred)

    def _limits_now(self, lease: Lease, units: Iterable[UnitName]) -> dict[UnitName, Limits]:
        """Read what the kernel has of a lease's path, of those above it only the floors."""
        limits = self._kernel.limits
        found = (
            (unit, limits(unit, None if unit == lease.unit else ("memory_min",))) for unit in units
        )
        return {unit: one for unit, one in found if one is not None}
