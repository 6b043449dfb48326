"""The port Ledger in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from enforcer.adapters.fakes.trouble import Trouble
from enforcer.model import NEVER_RAN, Deferred, Lease, LeaseState, Receipt, ResourceProfile
from enforcer.ports import IDLE_RECEIPTS_KEPT, NO_ACCOUNTS


class MemoryLedger:
    """Outlives a controller like a disk does. ``trouble.fail("unwritable")``: the disk is full.

    Its trouble is that of writing; what is there can be read unless `reading` is troubled too.
    """

    def __init__(self, receipts_kept: int = 10_000) -> None:
        self.receipts_kept = receipts_kept
        self._leases: dict[str, Lease] = {}
        self._receipts: dict[str, Receipt] = {}
        self._accounts: dict[str, tuple[int, ...]] = {}
        self._profiles: dict[str, ResourceProfile] = {}
        self._waits: tuple[Deferred, ...] = ()
        self.trouble = Trouble("state")
        self.reading = Trouble("state")

    async def load(self) -> tuple[Lease, ...]:
        """Return every lease that is not finished, the oldest first."""
        await self.reading.pass_through()
        return tuple(sorted(self._leases.values(), key=lambda lease: (lease.created_at, lease.id)))

    async def store(
        self,
        leases: Sequence[Lease],
        receipts: Sequence[Receipt] = (),
        accounts: Mapping[str, Sequence[int]] = NO_ACCOUNTS,
        profiles: Sequence[ResourceProfile] = (),
    ) -> None:
        """Write all of these or none.

        Raises:
            UnavailableError: ``state.unwritable``, when told so.
        """
        await self.trouble.pass_through()
        for lease in leases:
            if lease.state is LeaseState.RELEASED:
                self._leases.pop(lease.id, None)
                self._accounts.pop(lease.id, None)
            else:
                self._leases[lease.id] = lease
        self._take_accounts(accounts)
        for receipt in receipts:
            self._receipts.pop(receipt.lease_id, None)
            self._receipts[receipt.lease_id] = receipt
            if receipt.reason in NEVER_RAN:
                self._prune_idle(receipt.user)
        for lease_id in list(self._receipts)[: max(0, len(self._receipts) - self.receipts_kept)]:
            del self._receipts[lease_id]
        if profiles:
            named = {lease.profile for lease in self._leases.values()}
            named |= {receipt.profile for receipt in self._receipts.values()}
            kept = {name: one for name, one in self._profiles.items() if name in named}
            self._profiles = kept | {one.name: one for one in profiles}

    async def receipts(self, user: str | None, limit: int) -> tuple[Receipt, ...]:
        """Return the newest receipts first; of one user, or of all."""
        await self.reading.pass_through()
        found = [
            receipt
            for receipt in reversed(self._receipts.values())
            if user is None or receipt.user == user
        ]
        return tuple(found[: max(0, limit)])

    async def store_accounts(self, accounts: Mapping[str, Sequence[int]]) -> None:
        """Write what leases used so far; an account of a lease that is not kept is dropped.

        Raises:
            UnavailableError: ``state.unwritable``, when told so.
        """
        await self.trouble.pass_through()
        self._take_accounts(accounts)

    async def load_accounts(self) -> Mapping[str, tuple[int, ...]]:
        """Return what was written last."""
        await self.reading.pass_through()
        return dict(self._accounts)

    async def store_waits(self, deferred: Sequence[Deferred]) -> None:
        """Take these in place of all before.

        Raises:
            UnavailableError: if the test asked for it; nothing changed.
        """
        await self.trouble.pass_through()
        self._waits = tuple(deferred)

    async def load_waits(self) -> tuple[Deferred, ...]:
        """Return what was written last."""
        await self.reading.pass_through()
        return self._waits

    def _take_accounts(self, accounts: Mapping[str, Sequence[int]]) -> None:
        for lease_id, values in accounts.items():
            if lease_id in self._leases:
                self._accounts[lease_id] = tuple(values)

    async def load_profiles(self) -> Mapping[str, ResourceProfile]:
        """Return the profiles as they were written last."""
        return dict(self._profiles)

    def _prune_idle(self, user: str) -> None:
        idle = [
            one.lease_id
            for one in self._receipts.values()
            if one.user == user and one.reason in NEVER_RAN
        ]
        for lease_id in idle[:-IDLE_RECEIPTS_KEPT]:
            del self._receipts[lease_id]
