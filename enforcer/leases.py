"""The collection of all unfinished leases, and how one of them is put in its place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from enforcer.model import EndReason, Lease, LeaseState


@dataclass(frozen=True, slots=True)
class Change:
    """One lease before and after; `before` is None for a new one, `after` may be released."""

    before: Lease | None
    after: Lease


@dataclass(frozen=True, slots=True)
class Book:
    """Every lease that is not finished, the oldest first."""

    leases: tuple[Lease, ...] = ()
    live: tuple[Lease, ...] = field(init=False, repr=False, compare=False)
    """Those that count against the quotas."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "live", tuple(lease for lease in self.leases if lease.live))

    @property
    def queued(self) -> tuple[Lease, ...]:
        """The queue, the next one first."""
        return tuple(lease for lease in self.leases if lease.state is LeaseState.QUEUED)

    def get(self, lease_id: str | None) -> Lease | None:
        """Return a lease by its id."""
        return next((lease for lease in self.leases if lease.id == lease_id), None)

    def of(self, user: str, server: str) -> Lease | None:
        """Return the one lease of a user's server."""
        return next(
            (lease for lease in self.leases if (lease.user, lease.server) == (user, server)), None
        )

    def bound_to(self, container_id: str) -> Lease | None:
        """Return the lease a container has."""
        return next((lease for lease in self.leases if lease.container_id == container_id), None)


class Step(NamedTuple):
    """What a transition comes to."""

    book: Book
    changes: tuple[Change, ...] = ()


def recover(leases: Iterable[Lease]) -> Step:
    """Make the book of what the ledger kept; of two for one server the newer counts."""
    newest: dict[tuple[str, str], Lease] = {}
    lost: list[Change] = []
    unfinished = (lease for lease in leases if lease.state is not LeaseState.RELEASED)
    for lease in sorted(unfinished, key=lambda lease: lease.created_at):
        older = newest.pop((lease.user, lease.server), None)
        if older is not None:
            lost.append(Change(older, ended(older, EndReason.LOST, lease.created_at)))
        newest[lease.user, lease.server] = lease
    return Step(Book(tuple(newest.values())), tuple(lost))


def place(book: Book, lease_id: str) -> int:
    """Return a queued lease's place in line, 1 for the next; 0 for one that is not queued."""
    line = [lease.id for lease in book.queued]
    return line.index(lease_id) + 1 if lease_id in line else 0


def put(book: Book, after: Lease) -> Step:
    """Put a changed lease in its place; a released one leaves the book."""
    before = book.get(after.id)
    if before == after:
        return Step(book)
    released = after.state is LeaseState.RELEASED
    leases = tuple(
        after if lease is before else lease
        for lease in book.leases
        if not (released and lease is before)
    )
    return Step(Book(leases), (Change(before, after),))


def ended(lease: Lease, reason: EndReason, now: float) -> Lease:
    """Return a lease as it leaves the book; where its container has gone, it ended with that."""
    return replace(
        lease,
        state=LeaseState.RELEASED,
        ended_at=now if lease.ended_at is None else lease.ended_at,
        end_reason=reason,
        deadline=None,
    )
