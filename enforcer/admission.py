"""Admission: yes, no or not yet, with the reason in sentences for the user.

Limits are never scaled: what does not fit in the user's total is refused. A guarantee that does
not fit now is scaled, refused or queued, as the mode says. Others appear as sums only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from enforcer.model import (
    AdmissionMode,
    Claim,
    Config,
    Grant,
    Lease,
    LeaseState,
    ResourceProfile,
    Rights,
)
from enforcer.quantities import CORE, format_bytes, format_cpus
from enforcer.room import (
    NOTHING,
    Amount,
    Level,
    Room,
    Space,
    free,
    guarantees,
    limits,
    profile_total,
    to_grant,
    workload,
)

MOST_STARTING: Final = 10
"""Leases of one user without a container. Each has its share of the engine's floor, or a place in
line, that nobody else has meanwhile; and names of servers to claim for cost nothing."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """Yes, with these numbers; each note says in a sentence what was cut and why."""

    grant: Grant
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """No. Code, message and hint are those of the error that the user gets."""

    code: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Not yet: it takes its place in the queue, for this grant."""

    grant: Grant
    message: str


Decision = Admitted | Refused | Wait


@dataclass(frozen=True, slots=True)
class _Dimension:
    of: Callable[[Amount], int]
    say: Callable[[int], str]


def _say_cpus(amount: int) -> str:
    return f"{format_cpus(amount)} core{'' if amount == CORE else 's'}"


_DIMENSIONS: Final = (
    _Dimension(lambda amount: amount.cpu, _say_cpus),
    _Dimension(lambda amount: amount.memory, format_bytes),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """One claim with all that its decision depends on."""

    config: Config
    rights: Rights
    claim: Claim
    profile: ResourceProfile
    room: Room
    may_wait: bool
    """It waits already, or there is a place left in the queue."""
    own: Lease | None
    """The live lease whose numbers are being changed: what it has, it keeps."""

    @property
    def limits(self) -> Amount:
        """The limits asked for; where none are, the profile's, within the user's total."""
        claim, profile, rights = self.claim, self.profile, self.rights
        cpu, memory = claim.cpu_limit, claim.mem_limit
        return Amount(
            min(profile.cpu_limit, rights.cpu_total) if cpu is None else cpu,
            min(profile.mem_limit, rights.mem_total) if memory is None else memory,
        )

    @property
    def never_above(self) -> tuple[tuple[Amount, str], ...]:
        """What no guarantee can exceed even on an empty machine, and why."""
        rights, empty = self.rights, workload(self.config, 1)
        return (
            (self.limits, "its limit is {}"),
            (
                Amount(rights.max_cpu_guarantee, rights.max_mem_guarantee),
                "you may have at most {} guaranteed",
            ),
            (empty.whole(), "there is no more than {} to promise"),
            (
                profile_total(self.config, self.profile.name, empty).whole(),
                f"profile {self.profile.name} has {{}} in all",
            ),
        )

    @property
    def asked(self) -> Amount:
        """The guarantees asked for; where none are, the most that the policy allows."""
        most = self.room.user.free
        for bound, _ in self.never_above:
            most = most.least(bound)
        cpu, memory = self.claim.cpu_guarantee, self.claim.mem_guarantee
        most = most.whole()
        return Amount(most.cpu if cpu is None else cpu, most.memory if memory is None else memory)

    @property
    def kept(self) -> Amount:
        """The guarantees it has already: they are never taken away by a change of other numbers."""
        return NOTHING if self.own is None else guarantees(self.own.grant)


def decide(
    config: Config,
    rights: Rights,
    claim: Claim,
    leases: Sequence[Lease],
    containers: int,
    without: str | None = None,
) -> Decision:
    """Decide a claim that policy has checked: profile and image are set, the limits allowed.

    leases: all that are not finished, the queued ones in their order. containers: those that run
    and are no lease's. without: the id of the lease in `leases` that the claim is about already: a
    queued one that may be promoted, a live one that gets other numbers.
    """
    profile = config.profiles[claim.profile or ""]
    queued = sum(lease.state is LeaseState.QUEUED for lease in leases)
    about = next((lease for lease in leases if lease.id == without), None)
    case = _Case(
        config=config,
        rights=rights,
        claim=claim,
        profile=profile,
        room=free(config, leases, containers, profile.name, rights, without),
        may_wait=about is not None or queued < config.admission.queue_length,
        own=about if about is not None and about.live else None,
    )
    return _refuse_limits(case) or _decide_guarantees(case)


def _refuse_limits(case: _Case) -> Refused | None:
    """Refuse one server too many, at all or at once, and limits above what the total leaves."""
    most, room = case.rights.servers_max, case.room
    if case.own is None and most is not None and room.servers >= most:
        return Refused(
            "admission.servers-max",
            f"you have {room.servers} other servers, {most} is the most",
            "stop one of them first",
        )
    if case.own is None and room.starting >= MOST_STARTING:
        return Refused(
            "admission.too-many-starting",
            f"{room.starting} of your servers are still starting, {MOST_STARTING} is the most",
            "wait until one of them runs, or stop one",
        )
    totals = Amount(case.rights.cpu_total, case.rights.mem_total)
    has = NOTHING if case.own is None else limits(case.own.grant)
    for one in _DIMENSIONS:
        asked = one.of(case.limits)
        used, may = one.of(room.limits_used), one.of(totals)
        if asked > max(may - used, one.of(has)):
            left = max(0, may - used)
            hint = f"ask for at most {one.say(left)}" if left else "stop another of them first"
            return Refused(
                "admission.user-total",
                f"asked for a limit of {one.say(asked)}, your other servers have {one.say(used)}"
                f" of the {one.say(may)} you may use in all: that leaves {one.say(left)}",
                hint,
            )
    return None


def _decide_guarantees(case: _Case) -> Decision:
    mode = case.rights.admission or case.profile.admission or case.config.admission.mode
    asked = case.asked
    fits = case.room.promisable.most(case.kept).least(case.limits)
    crowded = case.own is None and case.room.crowded
    if mode is AdmissionMode.SCALE and not crowded:
        granted = asked.least(fits)
        return Admitted(to_grant(case.limits, granted), _notes(case, asked, granted))
    if mode is not AdmissionMode.SCALE and (never := _above_ever(case, asked)):
        return never
    if not crowded and asked.fits(fits):
        return Admitted(to_grant(case.limits, asked))
    missing = _missing(case, asked, crowded=crowded)
    waits_for_itself = not asked.fits(case.room.user.free.most(case.kept))
    if mode is not AdmissionMode.QUEUE or waits_for_itself:
        return Refused("admission.no-room", missing, _hint(fits, crowded=crowded))
    if not case.may_wait:
        return Refused(
            "admission.queue-full",
            f"{missing}; and all {case.config.admission.queue_length} places in line are taken",
            _hint(fits, crowded=crowded),
        )
    return Wait(to_grant(case.limits, asked), missing)


def _above_ever(case: _Case, asked: Amount) -> Refused | None:
    """Refuse what could not fit if nobody else were there."""
    for one in _DIMENSIONS:
        for bound, why in case.never_above:
            if one.of(asked) > one.of(bound):
                most = min(one.of(other) for other, _ in case.never_above)
                return Refused(
                    "admission.never-fits",
                    f"asked for {one.say(one.of(asked))} guaranteed,"
                    f" {why.format(one.say(one.of(bound)))}",
                    f"ask for at most {one.say(most)} guaranteed",
                )
    return None


def _notes(case: _Case, asked: Amount, granted: Amount) -> tuple[str, ...]:
    """Say each cut in a sentence."""
    chosen = (case.claim.cpu_guarantee, case.claim.mem_guarantee)
    notes = []
    for one, choice in zip(_DIMENSIONS, chosen, strict=True):
        want, got = one.of(asked), one.of(granted)
        if got < want:
            start = "asked for" if choice is not None else "would have had"
            notes.append(
                f"{start} {one.say(want)} guaranteed, {_cut_by(case, one, got)}:"
                f" {one.say(want - got)} less"
            )
    return tuple(notes)


def _cut_by(case: _Case, one: _Dimension, got: int) -> str:
    """Name what left no more than `got`: what never changes first."""
    for bound, why in case.never_above:
        if one.of(bound) <= got:
            return why.format(one.say(got))
    return _free(case, one, _tightest(case, one), got)


def _tightest(case: _Case, one: _Dimension) -> Space:
    return min(case.room.spaces, key=lambda space: one.of(space.free))


def _free(case: _Case, one: _Dimension, space: Space, amount: int) -> str:
    where = {
        Level.WORKLOAD: "",
        Level.PROFILE: f" of profile {case.profile.name}",
        Level.USER: " of what you may have guaranteed",
    }[space.level]
    said = one.say(amount)
    return f"{said}{where} {'is' if said.startswith('1 ') else 'are'} free"


def _missing(case: _Case, asked: Amount, *, crowded: bool) -> str:
    """Say what was asked, what is free and who holds the rest, as a sum."""
    if crowded:
        return (
            "there is no room for one more container: its share of the engine's floor is"
            f" {format_bytes(case.config.engine.memory_per_container)}, and all other memory is"
            " guaranteed"
        )
    parts = []
    for one in _DIMENSIONS:
        space = _tightest(case, one)
        if one.of(asked) <= max(one.of(space.free), one.of(case.kept)):
            continue
        part = (
            f"asked for {one.say(one.of(asked))} guaranteed,"
            f" {_free(case, one, space, one.of(space.free))}: servers hold"
            f" {one.say(one.of(space.held))} of {one.say(one.of(space.total))}"
        )
        if one.of(space.own):
            part += f", {one.say(one.of(space.own))} of it yours"
        if one.of(space.waiting):
            part += f"; earlier claims wait for {one.say(one.of(space.waiting))}"
        parts.append(part)
    return "; ".join(parts)


def _hint(fits: Amount, *, crowded: bool) -> str:
    if crowded:
        return "try again when another server has stopped"
    cpu, memory = (one.say(one.of(fits)) for one in _DIMENSIONS)
    return f"{cpu} and {memory} guaranteed would fit now; or try again when a server has stopped"


__all__ = ["MOST_STARTING", "Admitted", "Decision", "Refused", "Room", "Wait", "decide", "free"]
