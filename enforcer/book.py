"""The book of leases: every step in a lease's life, as a pure transition.

Each transition returns the new book and the changes, one for each lease that differs, so that
exactly these are stored. A book is in the order in which the leases were created; the queued ones
in it are the queue.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from enforcer.admission import Admitted, Decision, Refused, Wait, decide
from enforcer.errors import (
    ConflictError,
    EnforcerError,
    InvalidError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from enforcer.leases import Book, Change, Step, ended, place, put, recover
from enforcer.model import (
    AdmissionRules,
    Claim,
    Config,
    EndReason,
    Lease,
    LeaseState,
    Resize,
    Rights,
)
from enforcer.policy import check_claim, over_all_servers


class Claimed(NamedTuple):
    """What a claim comes to: no changes where the same lease was there already and needs none."""

    book: Book
    changes: tuple[Change, ...]
    lease: Lease
    new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What admission depends on beside the leases."""

    config: Config
    rights_of: Callable[[Claim], Rights]
    """By the claim, which tells the user and the hub's groups. It may raise ForbiddenError,
    InvalidError of a name that was taken once, and UnavailableError where the host has not told
    the user's groups."""
    containers: int
    """How many containers run that are no lease's."""

    def rights_beside(self, leases: Iterable[Lease], claim: Claim) -> Rights:
        """Return the rights of a claim beside a user's other servers, the live ones of `leases`.

        Groups of the hub that one of these was claimed with count for what the user may have in
        all. Raises as `rights_of` does.
        """
        groups = {one.claim.groups for one in leases if one.live and one.user == claim.user}
        others = (self.rights_of(replace(claim, groups=one)) for one in sorted(groups))
        return over_all_servers(self.rights_of(claim), others)


class BindRefusal(NamedTuple):
    """Why a container is not the lease's, whatever its label says."""

    code: str
    message: str


def claim(book: Book, terms: Terms, asked: Claim, now: float, new_id: str) -> Claimed:
    """Admit a claim that policy has checked, or return the lease that answers it already.

    Raises:
        RefusedError: as admission says; then nothing changes, a lease it would replace stays.
        ConflictError: ``lease.bound``: the server runs, and with another claim.
    """
    before = book.of(asked.user, asked.server)
    if before is not None and _same(before.claim, asked):
        step = _renewed(book, before, terms.config.admission, now)
        return Claimed(*step, lease=step.book.of(asked.user, asked.server) or before, new=False)
    if before is not None and before.running:
        raise ConflictError(
            "lease.bound",
            f"the server runs already, in profile {before.profile}",
            "stop it first, or resize it",
        )
    others = tuple(lease for lease in book.leases if lease is not before)
    rules = terms.config.admission
    rights = terms.rights_beside(others, asked)
    decision = decide(terms.config, rights, asked, others, terms.containers)
    if isinstance(decision, Refused):
        raise RefusedError(decision.code, decision.message, decision.hint)
    waits = isinstance(decision, Wait)
    lease = Lease(
        id=new_id,
        claim=asked,
        profile=asked.profile or "",
        image=asked.image or "",
        grant=decision.grant,
        state=LeaseState.QUEUED if waits else LeaseState.PENDING,
        created_at=_after_all(book, now),
        notes=() if isinstance(decision, Wait) else decision.notes,
        deadline=now + (rules.queue_seconds if waits else rules.claim_seconds),
    )
    changes: tuple[Change, ...] = (Change(None, lease),)
    if before is not None:
        # A bound one whose container has gone had ended already, it was only not released yet.
        bound = before.state is LeaseState.BOUND
        reason = (before.end_reason or EndReason.EXITED) if bound else EndReason.REPLACED
        changes = (Change(before, ended(before, reason, now)), *changes)
    return Claimed(Book((*others, lease)), changes, lease, new=True)


def bind(book: Book, lease_id: str, container_id: str, now: float) -> Step | BindRefusal:
    """Give a lease its container, if it is known and waits for one; again is no change.

    A container that came in place of one that has gone is taken as well.
    """
    lease, taken = book.get(lease_id), book.bound_to(container_id)
    if lease is None:
        return BindRefusal("lease.unknown", "no lease has the id that its label carries")
    if taken is not None and taken is not lease:
        return BindRefusal("container.taken", f"it is bound to lease {taken.id} already")
    if lease.state is LeaseState.QUEUED:
        return BindRefusal("lease.queued", f"lease {lease.id} still waits in the queue")
    occupied = lease.container_id is not None and lease.deadline is None
    if occupied and taken is None:
        return BindRefusal("lease.occupied", f"lease {lease.id} has another container")
    return put(
        book,
        replace(
            lease,
            state=LeaseState.BOUND,
            container_id=container_id,
            bound_at=now if lease.bound_at is None else lease.bound_at,
            deadline=None,
            ended_at=None,
            end_reason=None,
        ),
    )


def container_gone(
    book: Book, container_id: str, rules: AdmissionRules, now: float, *, stopped: bool
) -> Step:
    """Note that a container runs no more: its lease is released soon, unless one comes back.

    stopped: somebody stopped it, which may be known a moment later than that it has gone.
    """
    lease = book.bound_to(container_id)
    if lease is None:
        return Step(book)
    deadline = now + rules.release_seconds if lease.deadline is None else lease.deadline
    gone_at = now if lease.ended_at is None else lease.ended_at
    reason = EndReason.STOPPED if stopped else lease.end_reason
    return put(book, replace(lease, deadline=deadline, ended_at=gone_at, end_reason=reason))


def release(
    book: Book, lease_id: str, reason: EndReason, now: float, *, unless_running: bool = False
) -> Step:
    """End a lease; one that is not there has ended already.

    Raises:
        ConflictError: ``lease.running``, if `unless_running`: its container runs.
    """
    lease = book.get(lease_id)
    if lease is None:
        return Step(book)
    if unless_running and lease.running:
        raise ConflictError(
            "lease.running", "its container runs, and counts until it ends", "stop the server first"
        )
    return put(book, ended(lease, reason, now))


def resize(book: Book, terms: Terms, lease_id: str, change: Resize, now: float) -> Step:
    """Give a live lease other numbers within its profile and the user's rights.

    What is not mentioned stays, but for a guarantee above a lowered limit. With `seconds` the lease
    goes back to what it had; until then it holds the room for both.

    Raises:
        NotFoundError: ``lease.not-found``.
        ConflictError: ``lease.queued``: it has no numbers yet.
        InvalidError: ``resize.seconds``; and as `check_claim`, which also raises ForbiddenError.
        RefusedError: as admission says. A resize never waits.
    """
    lease = book.get(lease_id)
    if lease is None:
        raise NotFoundError("lease.not-found", "there is no such lease", "it may have ended")
    if not lease.live:
        raise ConflictError(
            "lease.queued", "a queued lease cannot be resized", "cancel it and claim anew"
        )
    if change.seconds is not None and not 0 < change.seconds < math.inf:
        raise InvalidError(
            "resize.seconds", f"{change.seconds} is no duration", "write seconds above 0"
        )
    config, rights = terms.config, terms.rights_beside(book.leases, lease.claim)
    asked = check_claim(config, rights, _claim_for(lease, change))
    decision = decide(config, rights, asked, book.leases, terms.containers, without=lease.id)
    if isinstance(decision, Wait):
        raise RefusedError(
            "admission.no-room", decision.message, "a running server cannot wait: ask for less"
        )
    if isinstance(decision, Refused):
        raise RefusedError(decision.code, decision.message, decision.hint)
    changed = replace(lease, grant=decision.grant, notes=decision.notes)
    if change.seconds is None:
        return put(book, replace(changed, resized_until=None, grant_before=None))
    before = lease.grant if lease.grant_before is None else lease.grant_before
    return put(book, replace(changed, resized_until=now + change.seconds, grant_before=before))


def expire(book: Book, now: float, held: Collection[str] = ()) -> Step:
    """End what is overdue, and take back resizes whose time is over.

    held: ids of leases that do not end yet, whatever their deadline.
    """
    changes: list[Change] = []
    for lease in book.leases:
        after = _overdue(lease, now, held=lease.id in held)
        if after is not lease:
            book, changed = put(book, after)
            changes += changed
    return Step(book, tuple(changes))


def promote(book: Book, terms: Terms, now: float) -> Step:
    """Place queued leases, the first come first, while they fit.

    One whose right has gone meanwhile is refused out of the queue, so that it blocks nobody.
    """
    changes: list[Change] = []
    for lease in book.queued:
        decision = _decide_queued(book, terms, lease)
        if isinstance(decision, Wait):
            after = replace(lease, grant=decision.grant)
        elif isinstance(decision, Refused):
            after = replace(ended(lease, EndReason.REFUSED, now), notes=(decision.message,))
        else:
            after = replace(
                lease,
                state=LeaseState.PENDING,
                grant=decision.grant,
                notes=decision.notes,
                deadline=now + terms.config.admission.claim_seconds,
            )
        book, changed = put(book, after)
        changes += changed
    return Step(book, tuple(changes))


def waits_for(book: Book, terms: Terms, lease: Lease) -> str:
    """Say in a sentence what a queued lease waits for; empty when it is about to be placed."""
    decision = _decide_queued(book, terms, lease)
    return "" if isinstance(decision, Admitted) else decision.message


def _same(one: Claim, other: Claim) -> bool:
    """Tell whether two claims ask for the same; the user's groups are no part of that."""
    return replace(one, groups=()) == replace(other, groups=())


def _renewed(book: Book, lease: Lease, rules: AdmissionRules, now: float) -> Step:
    """Give whoever claims again the full time to bring the container."""
    if lease.state is LeaseState.QUEUED or lease.deadline is None:
        return Step(book)
    return put(book, replace(lease, deadline=max(lease.deadline, now + rules.claim_seconds)))


def _after_all(book: Book, now: float) -> float:
    """Return a time later than every lease's, though the clock was set back: the order is kept."""
    newest = max((lease.created_at for lease in book.leases), default=-math.inf)
    return max(now, math.nextafter(newest, math.inf))


def _claim_for(lease: Lease, change: Resize) -> Claim:
    """Return what a resize asks for; what it does not mention is asked for as it is."""
    grant = lease.grant
    cpu = grant.cpu_limit if change.cpu_limit is None else change.cpu_limit
    memory = grant.mem_limit if change.mem_limit is None else change.mem_limit
    cpu_kept, memory_kept = min(grant.cpu_guarantee, cpu), min(grant.mem_guarantee, memory)
    return replace(
        lease.claim,
        profile=lease.profile,
        image=None,  # it runs already, whether or not the image is still allowed
        cpu_limit=cpu,
        mem_limit=memory,
        cpu_guarantee=cpu_kept if change.cpu_guarantee is None else change.cpu_guarantee,
        mem_guarantee=memory_kept if change.mem_guarantee is None else change.mem_guarantee,
    )


def _decide_queued(book: Book, terms: Terms, lease: Lease) -> Decision:
    try:
        rights = terms.rights_beside(book.leases, lease.claim)
        asked = check_claim(terms.config, rights, lease.claim)
    except UnavailableError as error:  # nobody can tell its right, which may well be there
        return Wait(lease.grant, error.message)
    except EnforcerError as error:
        return Refused(error.code, error.message, error.hint)
    return decide(terms.config, rights, asked, book.leases, terms.containers, without=lease.id)


def _overdue(lease: Lease, now: float, *, held: bool) -> Lease:
    if lease.deadline is not None and lease.deadline <= now and not held:
        bound = lease.state is LeaseState.BOUND
        gone = lease.end_reason or EndReason.EXITED
        return ended(lease, gone if bound else EndReason.EXPIRED, now)
    if lease.grant_before is None or lease.resized_until is None or lease.resized_until > now:
        return lease
    return replace(lease, grant=lease.grant_before, grant_before=None, resized_until=None, notes=())


__all__ = [
    "BindRefusal",
    "Book",
    "Change",
    "Claimed",
    "Step",
    "Terms",
    "bind",
    "claim",
    "container_gone",
    "expire",
    "place",
    "promote",
    "recover",
    "release",
    "resize",
    "waits_for",
]
