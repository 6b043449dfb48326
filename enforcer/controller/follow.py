"""What the containers' coming and going means for the leases. Pure: no I/O."""

from __future__ import annotations

import logging

from enforcer import book as transitions
from enforcer.book import BindRefusal, Book, Change, Step, Terms
from enforcer.model import Container, Lease, LeaseState, Observed

_log = logging.getLogger(__name__)


def follow(book: Book, terms: Terms, observed: Observed) -> Step:
    """Bind, note what has gone and come back, expire what is overdue, place who waits.

    Without an answer of Docker nothing is concluded about containers, and what runs in a leaf
    keeps its lease, whether or not Docker tells of it.
    """
    changes: list[Change] = []
    now = observed.at
    if observed.containers is not None:
        known = {lease.id: lease for lease in book.leases}
        for container in observed.containers.values():
            lease = known.get(container.lease_id or "")
            if lease is not None and not _is_bound(lease, container):
                book = _take(changes, _follow_container(book, container, now))
        for lease in book.leases:
            there = observed.containers.get(lease.container_id or "")
            if lease.container_id is not None and (there is None or not there.running):
                rules = terms.config.admission
                stopped = lease.container_id in observed.stopped
                step = transitions.container_gone(
                    book, lease.container_id, rules, now, stopped=stopped
                )
                book = _take(changes, step)
    book = _take(changes, transitions.expire(book, now, _held(book, observed)))
    book = _take(changes, transitions.promote(book, terms, now))
    return Step(book, merged(changes))


def merged(changes: list[Change]) -> tuple[Change, ...]:
    """Return one change for each lease: from its first `before` to its last `after`."""
    by_lease: dict[str, Change] = {}
    for change in changes:
        first = by_lease.get(change.after.id)
        by_lease[change.after.id] = change if first is None else Change(first.before, change.after)
    return tuple(by_lease.values())


def _held(book: Book, observed: Observed) -> frozenset[str]:
    """Return the leases whose room may still be in use, though their time is over.

    A pending one has no container that Docker could bring back: an empty leaf is answer enough.
    """
    return frozenset(
        lease.id
        for lease in book.live
        if lease.deadline is not None
        and (
            (lease.state is LeaseState.BOUND and observed.containers is None)
            or _is_populated(lease, observed)
        )
    )


def _is_populated(lease: Lease, observed: Observed) -> bool:
    cgroup = observed.cgroups.get(lease.unit)
    return cgroup is not None and cgroup.populated


def _is_bound(lease: Lease, container: Container) -> bool:
    """Tell whether all is said already: so it is at most ticks, for every container."""
    return lease.container_id == container.id and lease.deadline is None


def _follow_container(book: Book, container: Container, now: float) -> Step:
    lease = book.get(container.lease_id)
    if lease is None or not container.running:
        return Step(book)
    if container.cgroup_parent != lease.unit:
        # Anyone in the docker group can write a label; it counts only where we sent it.
        _log.debug("container %s carries a lease's label in another slice", container.id)
        return Step(book)
    bound = transitions.bind(book, lease.id, container.id, now)
    if isinstance(bound, BindRefusal):
        _log.debug("container %s is not bound: %s", container.id, bound.message)
        return Step(book)
    return bound


def _take(changes: list[Change], step: Step) -> Book:
    changes += step.changes
    return step.book
