"""After a reload or a restart: every live lease's numbers are cut to what the new policy allows.

Nothing grows, and who loses the right to a profile keeps what runs in it. The oldest lease is
served first, so that the newest is the first to be cut. One user's limits may exceed the new total
together: they run, and guarantees are what is promised.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Final

from enforcer.book import Terms
from enforcer.errors import ForbiddenError, InvalidError
from enforcer.leases import Book, Change, Step, put
from enforcer.model import Grant, Lease
from enforcer.quantities import format_bytes, format_cpus
from enforcer.room import (
    Amount,
    guarantees,
    limits,
    profile_total,
    promised,
    spared,
    to_grant,
    workload,
)

_NOTES_KEPT: Final = 8


def regrant(book: Book, terms: Terms) -> Step:
    """Cut every live lease to the terms; queued ones are decided anew when their turn comes."""
    may_use = workload(terms.config, len(book.live) + terms.containers)
    used, used_in, used_by = (
        Amount(),
        defaultdict[str, Amount](Amount),
        defaultdict[str, Amount](Amount),
    )
    changes: list[Change] = []
    for lease in book.live:
        limit, allowance = _bounds(terms, book, lease)
        room = (may_use - used).least(
            profile_total(terms.config, lease.profile, may_use) - used_in[lease.profile]
        )
        if allowance is not None:
            room = room.least(allowance - used_by[lease.user])
        after = _cut(lease, limit, room.whole())
        used += promised(after)
        used_in[lease.profile] += promised(after)
        used_by[lease.user] += promised(after)
        book, changed = put(book, after)
        changes += changed
    return Step(book, tuple(changes))


def _bounds(terms: Terms, book: Book, lease: Lease) -> tuple[Amount, Amount | None]:
    """Return the largest limits, and all that may be guaranteed to the user (None: no bound)."""
    limit = limits(lease.grant)
    if lease.grant_before is not None:
        limit = limit.most(limits(lease.grant_before))
    profile = terms.config.profile(lease.profile)
    if profile is not None:
        limit = limit.least(Amount(profile.cpu_limit, profile.mem_limit))
    try:
        own = terms.rights_of(lease.claim)
        rights = terms.rights_beside(book.live, lease.claim)
    except (ForbiddenError, InvalidError):
        return limit, None  # it may not start again, but what runs goes on
    total = Amount(rights.cpu_total, rights.mem_total)
    limit = limit.least(total.most(spared(lease, own)))
    return limit, Amount(rights.max_cpu_guarantee, rights.max_mem_guarantee)


def _cut(lease: Lease, limit: Amount, room: Amount) -> Lease:
    grant = _cut_grant(lease.grant, limit, room)
    before = None if lease.grant_before is None else _cut_grant(lease.grant_before, limit, room)
    notes = (*lease.notes, *_notes(lease.grant, grant))[-_NOTES_KEPT:]
    return replace(lease, grant=grant, grant_before=before, notes=notes)


def _cut_grant(grant: Grant, limit: Amount, room: Amount) -> Grant:
    within = limits(grant).least(limit)
    return to_grant(within, guarantees(grant).least(within).least(room))


def _notes(before: Grant, after: Grant) -> tuple[str, ...]:
    """Say what a new configuration took, in sentences for the user."""
    pairs = (
        ("limit", "cores", format_cpus(before.cpu_limit), format_cpus(after.cpu_limit)),
        ("limit", "memory", format_bytes(before.mem_limit), format_bytes(after.mem_limit)),
        ("guarantee", "cores", format_cpus(before.cpu_guarantee), format_cpus(after.cpu_guarantee)),
        (
            "guarantee",
            "memory",
            format_bytes(before.mem_guarantee),
            format_bytes(after.mem_guarantee),
        ),
    )
    return tuple(
        f"a new configuration lowered the {kind} of {what} from {was} to {now}"
        for kind, what, was, now in pairs
        if was != now
    )
