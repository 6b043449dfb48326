"""Users whose servers may use more together than the user's total: since it was lowered.

Nobody is stopped or cut for that, beyond what one server alone may have: they run on, no other
starts. In each profile the user's slice has the total, but nothing holds several profiles together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from enforcer.model import Lease, ReportDrift
from enforcer.quantities import CORE, format_bytes, format_cpus
from enforcer.room import Amount, limited
from enforcer.tree import Totals


@dataclass(frozen=True, slots=True, kw_only=True)
class Excess:
    """What one user's live leases hold, and the total of which they hold more."""

    user: str
    held: Amount
    total: Amount

    @property
    def of_cpu(self) -> bool:
        """It is CPU, or that too."""
        return self.held.cpu > self.total.cpu

    @property
    def of_memory(self) -> bool:
        """It is memory, or that too."""
        return self.held.memory > self.total.memory

    @property
    def consequence(self) -> str:
        """What it means for the servers, in words."""
        return (
            f"servers with limits of {self.say(self.held)} together run on,"
            " but no other starts until they hold less"
        )

    @property
    def sentence(self) -> str:
        """All of it, in words."""
        return f"{self.user} may use {self.say(self.total)} in all: {self.consequence}"

    def say(self, amount: Amount) -> str:
        """Say of an amount what there is too much of."""
        cores = f"{format_cpus(amount.cpu)} core{'' if amount.cpu == CORE else 's'}"
        parts = ((self.of_cpu, cores), (self.of_memory, format_bytes(amount.memory)))
        return " and ".join(words for counts, words in parts if counts)


TOTAL_EXCEEDED: Final = "total-exceeded"
"""What the reports are about."""


def excesses(leases: Iterable[Lease], totals: Totals) -> tuple[Excess, ...]:
    """Return who holds more than their total, by name; who has no total holds what they have."""
    held = defaultdict[str, Amount](Amount)
    for lease in leases:
        # a queued one is no part of it: it does not run, and may never
        if lease.live and lease.user in totals:
            held[lease.user] += limited(lease)
    found = (
        Excess(user=user, held=held[user], total=Amount(*totals[user])) for user in sorted(held)
    )
    return tuple(one for one in found if one.of_cpu or one.of_memory)


def excess_reports(leases: Iterable[Lease], totals: Totals) -> tuple[ReportDrift, ...]:
    """Return who holds more than their total, for the operator. Time mends it."""
    return tuple(
        ReportDrift(what=TOTAL_EXCEEDED, subject=one.user, message=one.sentence, command="")
        for one in excesses(leases, totals)
    )
