"""The lowered limits that wait: taken up after a start, written down, and ended once in force."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from enforcer.controller.actor import Actor
from enforcer.controller.decide import Decider, Decision
from enforcer.controller.keeper import Keeper
from enforcer.errors import UnavailableError
from enforcer.model import Deferred
from enforcer.names import UnitName
from enforcer.ports import Kernel

_log = logging.getLogger(__name__)


class Waits:
    """Sees to it that the ledger, the decider and the actor agree on what waits."""

    def __init__(self, kernel: Kernel, keeper: Keeper, actor: Actor, decider: Decider) -> None:
        self._kernel = kernel
        self._keeper = keeper
        self._actor = actor
        self._decider = decider

    async def recover(self) -> None:
        """Take up what waited when an earlier daemon ended."""
        self._decider.recall(await self._keeper.recover_waits())

    async def keep(self, deferred: Iterable[Deferred]) -> None:
        """Write down what waits, before anything of it is set."""
        try:
            await self._keeper.keep_waits(deferred)
        except UnavailableError as error:
            _log.warning("which lowered limits wait is not written down: %s", error)

    async def settle(self, decision: Decision) -> None:
        """After a decision was carried out: a wait is over once the kernel has what waited."""
        self._actor.recall(decision.deferred)
        if not decision.eased.ending:
            return
        left = [one for one in decision.eased.ending if not self._in_force(one, decision)]
        unfinished = (*decision.deferred, *left)
        self._decider.recall(unfinished)
        await self.keep(unfinished)

    def _in_force(self, one: Deferred, decision: Decision) -> bool:
        """Tell whether the kernel has a limit that has waited; of a container, a tick tells."""
        wanted = decision.desired.slices.get(UnitName(one.subject))
        there = None if wanted is None else self._kernel.slice(wanted.unit)
        if wanted is None or there is None:
            return False
        return one.limit not in wanted.limits.changed_from(there.limits)
