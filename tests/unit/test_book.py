"""The life of leases, step by step; tests/unit/test_book_machine.py walks it at random."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from enforcer import book as transitions
from enforcer.book import BindRefusal, Book, Change, Step, Terms
from enforcer.errors import (
    ConflictError,
    EnforcerError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from enforcer.model import (
    LARGEST_PROFILE,
    AdmissionMode,
    Claim,
    EndReason,
    Lease,
    LeaseState,
    Resize,
    Rights,
)
from enforcer.quantities import Cpus
from enforcer.regrant import regrant
from enforcer.tree import totals_of
from tests.unit.lab import (
    LARGE,
    SMALL,
    a_claim,
    a_config,
    a_grant,
    a_lease,
    cores,
    gib,
    some_rights,
    the_terms,
)

TERMS = the_terms(a_config())
SCALE = the_terms(a_config(mode=AdmissionMode.SCALE))
QUEUE = the_terms(a_config(mode=AdmissionMode.QUEUE))
FULL = a_lease("a", guarantee=(12, 0))
ONE_CORE = a_claim(guarantee=(1, 0))


def forbidden(claim: Claim) -> Rights:
    raise ForbiddenError("user.name-unsafe", f"the name {claim.user} is unsafe")


def unknown(claim: Claim) -> Rights:
    raise UnavailableError("host.users", f"who {claim.user} is was not told yet")


def claimed(
    book: Book, asked: Claim, terms: Terms = TERMS, now: float = 1000
) -> tuple[Book, Lease]:
    found = transitions.claim(book, terms, asked, now, f"{now}")
    return found.book, found.lease


def bound(asked: Claim = ONE_CORE, terms: Terms = TERMS) -> tuple[Book, Lease]:
    book, lease = claimed(Book(), asked, terms)
    step = transitions.bind(book, lease.id, "box", 1001)
    assert isinstance(step, Step)
    return step.book, step.changes[0].after


def only(step: Step) -> Change:
    (change,) = step.changes
    assert step.book.get(change.after.id) == (change.after if change.after.live else None)
    return change


# --- claim ---------------------------------------------------------------------------------


def test_a_claim_becomes_a_pending_lease_that_waits_for_its_container() -> None:
    book, changes, lease, new = transitions.claim(Book(), TERMS, ONE_CORE, 1000, "id")
    assert (lease.id, lease.state, lease.grant) == ("id", "pending", a_grant((8, 32), (1, 0)))
    assert (lease.profile, lease.image) == ("Large", "base")
    assert (lease.created_at, lease.deadline) == (1000, 1100)
    assert changes == (Change(None, lease),)
    assert new
    assert book.leases == (lease,) == book.live
    assert book.of("ada", "") is lease
    assert book.of("ada", "other") is None


def test_notes_of_admission_stay_with_the_lease() -> None:
    _, lease = claimed(Book((FULL,)), ONE_CORE, SCALE)
    assert lease.notes == ("asked for 1 core guaranteed, 0 cores are free: 1 core less",)


def test_a_claim_without_profile_and_image_is_not_a_checked_one() -> None:
    with pytest.raises(KeyError):
        transitions.claim(Book(), TERMS, Claim(user="ada"), 1000, "id")


def test_what_does_not_fit_is_queued_where_the_mode_says_so() -> None:
    book, changes, lease, new = transitions.claim(Book((FULL,)), QUEUE, ONE_CORE, 1000, "id")
    assert (lease.state, lease.deadline, new) == ("queued", 2000, True)
    assert book.queued == (lease,)
    assert len(changes) == 1
    assert transitions.place(book, lease.id) == 1
    assert transitions.place(book, FULL.id) == 0
    assert transitions.waits_for(book, QUEUE, lease).startswith("asked for 1 core guaranteed")
    assert transitions.waits_for(Book((lease,)), QUEUE, lease) == ""


def test_of_two_claims_for_the_last_free_guarantee_one_wins() -> None:
    book, winner = claimed(Book((replace(FULL, grant=a_grant((8, 8), (8, 0))),)), _four("ada"))
    with pytest.raises(RefusedError) as caught:
        transitions.claim(book, TERMS, _four("carol"), 1001, "second")
    assert caught.value.code == "admission.no-room"
    assert winner.grant.cpu_guarantee == cores(4)


def _four(user: str) -> Claim:
    return a_claim(user, guarantee=(4, 0))


def test_a_repeated_claim_gets_the_same_lease_and_the_full_time_again() -> None:
    book, lease = claimed(Book(), ONE_CORE)
    again = transitions.claim(book, TERMS, replace(ONE_CORE, groups=("x",)), 1050, "other")
    assert (again.lease.id, again.lease.deadline, again.new) == (lease.id, 1150, False)
    assert again.changes == (Change(lease, again.lease),)
    same_moment = transitions.claim(book, TERMS, ONE_CORE, 1000, "other")
    assert same_moment == (book, (), lease, False)


def test_a_repeated_claim_in_the_queue_keeps_its_place_and_its_deadline() -> None:
    book, lease = claimed(Book((FULL,)), ONE_CORE, QUEUE)
    assert transitions.claim(book, QUEUE, ONE_CORE, 1500, "other") == (book, (), lease, False)


def test_a_repeated_claim_for_a_running_server_changes_nothing() -> None:
    book, lease = bound()
    assert transitions.claim(book, TERMS, ONE_CORE, 1500, "other") == (book, (), lease, False)


@pytest.mark.parametrize("terms", [TERMS, QUEUE])
def test_another_claim_for_the_server_replaces_the_lease_that_has_no_container(
    terms: Terms,
) -> None:
    first = Book((FULL,) if terms is QUEUE else ())
    book, lease = claimed(first, ONE_CORE, terms)
    other = a_claim(guarantee=(2, 0))
    book, changes, new, _ = transitions.claim(book, terms, other, 1001, "new")
    assert changes[0].before == lease
    assert changes[0].after.end_reason is EndReason.REPLACED
    assert changes[1] == Change(None, new)
    assert book.get(lease.id) is None
    assert book.leases[-1] == new


def test_the_lease_that_is_replaced_leaves_its_room_to_the_new_one() -> None:
    terms = the_terms(a_config(), {"ada": some_rights(total=(8, 32), servers_max=1)})
    book, _ = claimed(Book(), a_claim(guarantee=(8, 32)), terms)
    _, lease = claimed(book, a_claim(guarantee=(7, 32)), terms, 1001)
    assert lease.grant.cpu_guarantee == cores(7)


def test_a_refused_claim_leaves_the_lease_it_would_have_replaced() -> None:
    book, _ = claimed(Book((replace(FULL, grant=a_grant((8, 8), (8, 0))),)), ONE_CORE)
    with pytest.raises(RefusedError):
        transitions.claim(book, TERMS, a_claim(guarantee=(5, 0)), 1001, "new")


def test_another_claim_for_a_running_server_is_a_conflict() -> None:
    book, _ = bound()
    with pytest.raises(ConflictError) as caught:
        transitions.claim(book, TERMS, a_claim(guarantee=(2, 0)), 1002, "new")
    assert caught.value.code == "lease.bound"


def test_another_claim_after_the_container_has_gone_ends_the_old_lease() -> None:
    book, _ = bound()
    book = transitions.container_gone(book, "box", TERMS.config.admission, 1002, stopped=False).book
    _, changes, lease, _ = transitions.claim(book, TERMS, a_claim(guarantee=(2, 0)), 1003, "new")
    assert (changes[0].after.end_reason, changes[0].after.ended_at) == ("exited", 1002)
    assert lease.id == "new"


def test_the_order_is_kept_though_the_clock_is_set_back() -> None:
    book, first = claimed(Book(), a_claim("ada"), now=1000)
    book, second = claimed(book, a_claim("bob"), now=500)
    assert second.created_at > first.created_at
    assert second.deadline == 600
    assert transitions.recover(reversed(book.leases)).book == book


# --- bind, gone, back ----------------------------------------------------------------------


def test_a_container_binds_its_lease_once() -> None:
    book, lease = bound()
    assert (lease.state, lease.container_id, lease.bound_at) == ("bound", "box", 1001)
    assert lease.deadline is None
    assert book.bound_to("box") == lease
    assert transitions.bind(book, lease.id, "box", 1005) == Step(book)


def test_only_a_lease_that_waits_for_a_container_is_bound() -> None:
    book, lease = bound()
    book, other = claimed(book, a_claim("bob", limit=(1, 1)), now=1002)
    queue, queued = claimed(Book((FULL,)), ONE_CORE, QUEUE)

    def refusal(book: Book, lease_id: str, container_id: str) -> str:
        found = transitions.bind(book, lease_id, container_id, 1003)
        assert isinstance(found, BindRefusal)
        return found.code

    assert refusal(book, "no such", "box2") == "lease.unknown"
    assert refusal(book, lease.id, "box2") == "lease.occupied"
    assert refusal(book, other.id, "box") == "container.taken"
    assert refusal(queue, queued.id, "box") == "lease.queued"


def test_a_lease_is_released_some_time_after_its_container_has_gone() -> None:
    rules = TERMS.config.admission
    book, _ = bound()
    gone = transitions.container_gone(book, "box", rules, 1100, stopped=False)
    assert only(gone).after.deadline == 1110
    again = transitions.container_gone(gone.book, "box", rules, 1105, stopped=False)
    assert again == Step(gone.book)
    assert transitions.container_gone(book, "unknown", rules, 1105, stopped=False) == Step(book)
    assert transitions.expire(gone.book, 1109) == Step(gone.book)
    ended = only(transitions.expire(gone.book, 1110)).after
    assert (ended.state, ended.end_reason, ended.ended_at) == ("released", "exited", 1100)
    assert ended.deadline is None


def test_a_container_that_somebody_stopped_did_not_end_by_itself() -> None:
    rules = TERMS.config.admission
    book, _ = bound()
    gone = transitions.container_gone(book, "box", rules, 1100, stopped=False).book
    # that it was stopped is told after that it has gone, and once
    told = transitions.container_gone(gone, "box", rules, 1101, stopped=True).book
    kept = transitions.container_gone(told, "box", rules, 1102, stopped=False)
    assert kept == Step(told)
    ended = only(transitions.expire(told, 1110)).after
    assert (ended.end_reason, ended.ended_at) == ("stopped", 1100)


def test_a_lease_ended_with_its_container_however_late_it_is_released() -> None:
    book, lease = bound()
    gone = transitions.container_gone(book, "box", TERMS.config.admission, 1100, stopped=False).book
    ended = only(transitions.release(gone, lease.id, EndReason.STOPPED, 1107)).after
    assert (ended.end_reason, ended.ended_at) == ("stopped", 1100)


@pytest.mark.parametrize("stopped", [False, True])
def test_a_container_that_comes_back_keeps_its_lease(*, stopped: bool) -> None:
    rules = TERMS.config.admission
    book, lease = bound()
    gone = transitions.container_gone(book, "box", rules, 1100, stopped=stopped).book
    back = transitions.bind(gone, lease.id, "box", 1101)
    assert isinstance(back, Step)
    assert back.book == book


def test_a_new_container_may_take_the_place_of_one_that_has_gone() -> None:
    book, lease = bound()
    book = transitions.container_gone(book, "box", TERMS.config.admission, 1100, stopped=False).book
    again = transitions.claim(book, TERMS, ONE_CORE, 1101, "other")
    assert (again.lease.id, again.lease.deadline) == (lease.id, 1201)
    step = transitions.bind(again.book, lease.id, "box2", 1150)
    assert isinstance(step, Step)
    after = only(step).after
    assert (after.container_id, after.deadline, after.bound_at) == ("box2", None, 1001)
    ended = only(transitions.release(step.book, lease.id, EndReason.STOPPED, 1300)).after
    assert ended.ended_at == 1300


# --- release, expire -----------------------------------------------------------------------


def test_a_release_ends_a_lease_of_any_state_and_is_idempotent() -> None:
    book, lease = bound()
    queue, queued = claimed(Book((FULL,)), ONE_CORE, QUEUE)
    ended = only(transitions.release(book, lease.id, EndReason.STOPPED, 1200)).after
    assert (ended.state, ended.end_reason, ended.ended_at) == ("released", "stopped", 1200)
    assert transitions.release(queue, queued.id, EndReason.CANCELLED, 1200).book == Book((FULL,))
    assert transitions.release(book, "no such", EndReason.STOPPED, 1200) == Step(book)


def test_a_lease_whose_container_runs_is_kept_from_who_may_not_end_it() -> None:
    book, lease = bound()
    end = partial(transitions.release, reason=EndReason.STOPPED, now=1200, unless_running=True)
    with pytest.raises(ConflictError) as raised:
        end(book, lease.id)
    assert raised.value.code == "lease.running"
    rules = TERMS.config.admission
    gone = transitions.container_gone(book, "box", rules, 1100, stopped=True).book
    waits, waiting = claimed(Book(), ONE_CORE)
    queue, queued = claimed(Book((FULL,)), ONE_CORE, QUEUE)
    for among, one in ((gone, lease), (waits, waiting), (queue, queued)):
        assert only(end(among, one.id)).after.state is LeaseState.RELEASED


def test_what_never_got_its_container_or_its_turn_expires() -> None:
    book, _ = claimed(Book(), ONE_CORE)
    assert transitions.expire(book, 1099) == Step(book)
    assert only(transitions.expire(book, 1100)).after.end_reason is EndReason.EXPIRED
    book, _ = claimed(Book((FULL,)), ONE_CORE, QUEUE)
    assert transitions.expire(book, 1999) == Step(book)
    assert only(transitions.expire(book, 2000)).after.end_reason is EndReason.EXPIRED


def test_what_is_held_outlives_its_deadline_and_still_gives_a_resize_back() -> None:
    book, lease = claimed(Book(), ONE_CORE)
    assert transitions.expire(book, 1100, {lease.id}) == Step(book)
    assert only(transitions.expire(book, 1100, {"another"})).after.end_reason is EndReason.EXPIRED
    resized = transitions.resize(
        book, TERMS, lease.id, Resize(cpu_limit=cores(2), seconds=50), 1000
    )
    back = only(transitions.expire(resized.book, 1100, {lease.id})).after
    assert (back.state, back.grant) == ("pending", lease.grant)


# --- promote -------------------------------------------------------------------------------


def test_the_queue_is_placed_in_its_order_while_it_fits() -> None:
    book, first = claimed(Book((FULL,)), a_claim("u", guarantee=(8, 0)), QUEUE, 1000)
    book, second = claimed(book, a_claim("v", guarantee=(6, 0)), QUEUE, 1001)
    book, third = claimed(book, a_claim("w", guarantee=(2, 0)), QUEUE, 1002)
    assert [transitions.place(book, one.id) for one in (first, second, third)] == [1, 2, 3]
    assert transitions.promote(book, QUEUE, 1500) == Step(book)
    book = transitions.release(book, FULL.id, EndReason.STOPPED, 1500).book
    change = only(transitions.promote(book, QUEUE, 1500))
    # the third would fit beside the first, but the second came before it
    assert (change.after.id, change.after.state, change.after.deadline) == (
        first.id,
        "pending",
        1600,
    )
    book = transitions.promote(book, QUEUE, 1500).book
    book = transitions.release(book, first.id, EndReason.STOPPED, 1501).book
    placed = transitions.promote(book, QUEUE, 1501)
    assert [change.after.id for change in placed.changes] == [second.id, third.id]
    assert placed.book.queued == ()


def test_one_whose_right_is_gone_is_refused_out_of_the_queue() -> None:
    book, lease = claimed(Book((FULL,)), ONE_CORE, QUEUE)
    rights = some_rights()
    for terms, why in (
        (the_terms(QUEUE.config, {"ada": replace(rights, profiles=("Small",))}), "Large"),
        (the_terms(QUEUE.config, {"ada": replace(rights, max_cpu_guarantee=cores(0))}), "at most"),
        (replace(QUEUE, rights_of=forbidden), "unsafe"),
    ):
        change = only(transitions.promote(book, terms, 1500))
        assert (change.after.id, change.after.end_reason) == (lease.id, EndReason.REFUSED)
        assert why in change.after.notes[0]
        assert why in transitions.waits_for(book, terms, lease)


def test_one_whose_right_nobody_can_tell_keeps_its_place_in_the_queue() -> None:
    book, lease = claimed(Book((FULL,)), ONE_CORE, QUEUE)
    terms = replace(QUEUE, rights_of=unknown)
    assert transitions.promote(book, terms, 1500) == Step(book)
    assert "not told yet" in transitions.waits_for(book, terms, lease)


def test_a_queued_lease_waits_for_what_the_policy_allows_by_now() -> None:
    book, lease = claimed(Book((FULL,)), a_claim(guarantee=None), QUEUE)
    assert lease.grant.cpu_guarantee == cores(8)
    terms = the_terms(QUEUE.config, {"ada": some_rights(guarantee=(2, 2))})
    after = only_queued(transitions.promote(book, terms, 1500))
    assert after.grant == a_grant((8, 32), (2, 2))


def only_queued(step: Step) -> Lease:
    (change,) = step.changes
    assert change.after.state is LeaseState.QUEUED
    return change.after


# --- resize --------------------------------------------------------------------------------


def test_a_resize_changes_what_it_mentions() -> None:
    book, lease = bound()
    change = Resize(cpu_limit=cores(4), mem_guarantee=gib(2))
    after = only(transitions.resize(book, TERMS, lease.id, change, 1100)).after
    assert after.grant == a_grant((4, 32), (1, 2))
    assert (after.resized_until, after.grant_before) == (None, None)
    change = Resize(mem_limit=gib(16), cpu_guarantee=cores(0))
    after = only(transitions.resize(book, TERMS, lease.id, change, 1100)).after
    assert after.grant == a_grant((8, 16), (0, 0))
    assert transitions.resize(book, TERMS, lease.id, Resize(), 1100) == Step(book)


def test_a_guarantee_goes_down_with_the_limit() -> None:
    book, lease = bound(a_claim(guarantee=(4, 16)))
    change = Resize(cpu_limit=cores(2), mem_limit=gib(8))
    after = only(transitions.resize(book, TERMS, lease.id, change, 1100)).after
    assert after.grant == a_grant((2, 8), (2, 8))


def test_a_resize_for_a_time_goes_back_to_what_was_there_first() -> None:
    book, lease = bound()
    first = Resize(cpu_guarantee=cores(2), seconds=60)
    book = transitions.resize(book, TERMS, lease.id, first, 1100).book
    second = Resize(cpu_guarantee=cores(3), seconds=60)
    book = transitions.resize(book, TERMS, lease.id, second, 1130).book
    assert transitions.expire(book, 1189) == Step(book)
    change = only(transitions.expire(book, 1190))
    assert change.before is not None
    assert change.before.grant.cpu_guarantee == cores(3)
    assert change.after == lease


def test_a_resize_for_good_ends_one_for_a_time() -> None:
    book, lease = bound()
    book = transitions.resize(
        book, TERMS, lease.id, Resize(cpu_guarantee=cores(2), seconds=60), 1100
    ).book
    book = transitions.resize(book, TERMS, lease.id, Resize(cpu_guarantee=cores(3)), 1130).book
    assert transitions.expire(book, 9999) == Step(book)


def test_what_a_lease_will_go_back_to_is_promised_to_nobody_else() -> None:
    book, lease = bound(a_claim(guarantee=(8, 0)))
    shrink = Resize(cpu_guarantee=cores(1), seconds=60)
    book = transitions.resize(book, TERMS, lease.id, shrink, 1100).book
    with pytest.raises(RefusedError):
        claimed(book, a_claim("bob", guarantee=(5, 0)))


def test_a_resize_that_does_not_fit_changes_nothing_and_never_waits() -> None:
    config = replace(a_config(), admission=QUEUE.config.admission)
    rights = {"ada": some_rights(total=(8, 32))}
    book, lease = bound(terms=the_terms(config, rights))
    book = Book((replace(FULL, grant=a_grant((8, 8), (8, 0))), *book.leases))

    def error(change: Resize, lease_id: str = lease.id) -> EnforcerError:
        with pytest.raises(EnforcerError) as caught:
            transitions.resize(book, the_terms(config, rights), lease_id, change, 1100)
        return caught.value

    full = error(Resize(cpu_guarantee=cores(5)))
    assert (full.code, full.hint) == (
        "admission.no-room",
        "a running server cannot wait: ask for less",
    )
    assert isinstance(full, RefusedError)
    assert error(Resize(mem_guarantee=gib(32), cpu_limit=cores(9))).code == "limit.above-profile"
    assert error(Resize(cpu_guarantee=cores(9))).code == "guarantee.above-limit"
    assert error(Resize(cpu_limit=Cpus(-1))).code == "limit.not-positive"
    assert error(Resize(), "no such").code == "lease.not-found"
    for seconds in (0, -1, float("nan"), float("inf")):
        assert error(Resize(seconds=seconds)).code == "resize.seconds"


def test_a_resize_is_refused_for_good_where_it_can_never_fit() -> None:
    book, lease = bound()
    terms = the_terms(a_config(), {"ada": some_rights(guarantee=(2, 2))})
    with pytest.raises(RefusedError) as caught:
        transitions.resize(book, terms, lease.id, Resize(cpu_guarantee=cores(3)), 1100)
    assert caught.value.code == "admission.never-fits"


def test_only_a_live_lease_is_resized() -> None:
    book, lease = claimed(Book((FULL,)), ONE_CORE, QUEUE)
    with pytest.raises(ConflictError) as caught:
        transitions.resize(book, QUEUE, lease.id, Resize(cpu_guarantee=cores(0)), 1100)
    assert caught.value.code == "lease.queued"
    with pytest.raises(NotFoundError):
        transitions.resize(Book(), QUEUE, lease.id, Resize(), 1100)
    with pytest.raises(InvalidError):
        transitions.resize(*bound_and(TERMS), Resize(seconds=-1), 1100)


def bound_and(terms: Terms) -> tuple[Book, Terms, str]:
    book, lease = bound(terms=terms)
    return book, terms, lease.id


# --- recover -------------------------------------------------------------------------------


def test_the_book_is_recovered_in_its_order_without_what_is_finished() -> None:
    leases = [a_lease(name, name) for name in "cab"]
    finished = a_lease("d", "d", state=LeaseState.RELEASED)
    step = transitions.recover([*leases, finished])
    assert [lease.id for lease in step.book.leases] == ["a", "b", "c"]
    assert step.changes == ()


def test_of_two_leases_for_one_server_the_newer_is_recovered() -> None:
    old, new = a_lease("a"), a_lease("b")
    old = replace(old, claim=new.claim)
    step = transitions.recover([new, old])
    assert step.book == Book((new,))
    assert step.changes[0].before == old
    assert step.changes[0].after.end_reason is EndReason.LOST


# --- regrant -------------------------------------------------------------------------------


def test_a_reload_that_takes_nothing_changes_nothing() -> None:
    book = Book((a_lease("a", "x", guarantee=(6, 20)), a_lease("b", "y", guarantee=(2, 28))))
    assert regrant(book, TERMS) == Step(book)


def test_the_newest_guarantees_are_cut_first() -> None:
    book = Book(
        (
            a_lease("a", "x", guarantee=(4, 20)),
            a_lease("b", "y", guarantee=(4, 20)),
            a_lease("c", "z", guarantee=(4, 8)),
            a_lease("q", "z", guarantee=(4, 8), state=LeaseState.QUEUED),
        )
    )
    config = a_config()
    tight = replace(config, quota=replace(config.quota, cpu=cores(7), memory=gib(32)))
    step = regrant(book, the_terms(tight))
    grants = {change.after.id: change.after.grant for change in step.changes}
    assert grants == {"b": a_grant((4, 20), (2, 10)), "c": a_grant((4, 8), (0, 0))}
    assert step.changes[0].after.notes == (
        "a new configuration lowered the guarantee of cores from 4 to 2",
        "a new configuration lowered the guarantee of memory from 20 GiB to 10 GiB",
    )
    assert regrant(step.book, the_terms(tight)) == Step(step.book)


def test_limits_are_cut_to_the_profiles_and_the_users() -> None:
    lease = a_lease("a", "ada", guarantee=(6, 20))
    config = a_config(replace(LARGE, cpu_limit=cores(5)), SMALL)
    terms = the_terms(config, {"ada": some_rights(total=(16, 10))})
    after = only(regrant(Book((lease,)), terms)).after
    assert after.grant == a_grant((5, 10), (5, 10))
    assert after.notes[0] == "a new configuration lowered the limit of cores from 6 to 5"


def test_guarantees_are_cut_to_the_profiles_total_and_the_users_allowance() -> None:
    leases = (
        a_lease("a", "ada", guarantee=(2, 4)),
        a_lease("b", "ada", guarantee=(2, 4)),
        a_lease("c", "bob", profile="Small", guarantee=(2, 7)),
        a_lease("d", "bob", profile="Small", guarantee=(2, 7)),
    )
    terms = the_terms(a_config(), {"ada": some_rights(guarantee=(3, 5))})
    step = regrant(Book(leases), terms)
    assert [lease.grant for lease in step.book.leases] == [
        a_grant((2, 8), (2, 4)),
        a_grant((2, 8), (1, 1)),
        a_grant((2, 8), (2, 7)),
        a_grant((2, 8), (1, 5)),
    ]


def test_what_a_lease_will_go_back_to_is_cut_as_well() -> None:
    lease = replace(
        a_lease("a", "ada", guarantee=(2, 2)),
        grant_before=a_grant((8, 32), (4, 1)),
        resized_until=2000.0,
    )
    terms = the_terms(a_config(), {"ada": some_rights(guarantee=(3, 5), total=(6, 30))})
    after = only(regrant(Book((lease,)), terms)).after
    assert after.grant == lease.grant
    assert after.grant_before == a_grant((6, 30), (3, 1))
    assert after.notes == ()


def test_a_users_allowance_is_that_of_their_most_generous_claim() -> None:
    leases = [a_lease("a", "ada", guarantee=(2, 4)), a_lease("b", "ada", guarantee=(2, 4))]

    def by_group(claim: Claim) -> Rights:
        much = "ml" in claim.groups
        return some_rights(guarantee=(4, 8) if much else (1, 1), total=(9, 9) if much else (1, 1))

    terms = replace(the_terms(a_config()), rights_of=by_group)
    told = replace(leases[0], claim=replace(leases[0].claim, groups=("ml",)))
    book, other = claimed(Book((told,)), a_claim("ada", "x", limit=(5, 1), guarantee=(2, 1)), terms)
    assert other.grant == a_grant((5, 1), (2, 1))
    queued = replace(other, state=LeaseState.QUEUED)
    assert transitions.promote(Book((told, queued)), terms, 1000).book.live[1].grant == other.grant
    larger = transitions.resize(book, terms, other.id, Resize(cpu_limit=cores(6)), 1001)
    assert larger.book.live[1].grant.cpu_limit == cores(6)
    for number in (0, 1):
        grouped = list(leases)
        grouped[number] = replace(
            leases[number], claim=replace(leases[number].claim, groups=("ml",))
        )
        assert regrant(Book(tuple(grouped)), terms).changes == ()
        waiting = replace(grouped[number], state=LeaseState.QUEUED)
        left = regrant(Book((grouped[1 - number], waiting)), terms)
        assert left.book.live[0].grant == a_grant((1, 1), (1, 1))


def test_a_lease_goes_on_though_its_profile_or_its_users_right_has_gone() -> None:
    lease = a_lease("a", "ada", guarantee=(2, 4))
    terms = replace(the_terms(a_config(SMALL)), rights_of=forbidden)
    assert regrant(Book((lease,)), terms) == Step(Book((lease,)))


@pytest.mark.parametrize("cpu", [LARGEST_PROFILE, "user ada"])
@pytest.mark.parametrize("memory", [LARGEST_PROFILE, "user ada"])
def test_only_a_total_that_is_written_down_cuts_what_runs_in_a_lost_profile(
    cpu: str, memory: str
) -> None:
    one = a_lease("a", "ada", limit=(6, 20))
    other = replace(
        a_lease("b", "ada", limit=(2, 4)), grant_before=a_grant((7, 21)), resized_until=2000.0
    )
    lost = replace(
        some_rights(total=(1, 2)),
        profiles=("Small",),
        sources={"cpu_total": cpu, "mem_total": memory},
    )
    step = regrant(Book((one, other)), the_terms(a_config(), {"ada": lost}))
    grant = step.book.leases[0].grant
    cpu_total, mem_total = totals_of((one, other), lambda _: lost)["ada"]
    spares_cpu, spares_memory = cpu == LARGEST_PROFILE, memory == LARGEST_PROFILE
    assert (grant.cpu_limit, cpu_total) == (
        (cores(6), cores(13)) if spares_cpu else (cores(1),) * 2
    )
    assert (grant.mem_limit, mem_total) == ((gib(20), gib(41)) if spares_memory else (gib(2),) * 2)


def test_no_lease_is_left_more_than_its_users_total_whatever_groups_it_was_claimed_with() -> None:
    def by_group(claim: Claim) -> Rights:
        written = "ml" in claim.groups
        source = "group ml" if written else LARGEST_PROFILE
        return replace(
            some_rights(total=(1, 2) if written else (2, 8)),
            profiles=("Small",),
            sources={"cpu_total": source, "mem_total": source},
        )

    one = a_lease("a", "ada", limit=(6, 20))
    one = replace(one, claim=replace(one.claim, groups=("ml",)))
    other = a_lease("b", "ada", profile="Small", limit=(1, 1))
    left = regrant(Book((one, other)), replace(the_terms(a_config()), rights_of=by_group)).book.live
    assert totals_of(left, by_group) == {"ada": (cores(2), gib(8))}
    assert left[0].grant == a_grant((2, 8))


def test_an_engine_that_needs_all_leaves_no_guarantee() -> None:
    config = a_config(per_container=60)
    after = only(regrant(Book((a_lease("a", guarantee=(1, 4)),)), the_terms(config))).after
    assert after.grant == a_grant((2, 8), (1, 0))


def test_only_the_last_notes_are_kept() -> None:
    lease = replace(a_lease("a", guarantee=(1, 0)), notes=tuple("12345678"))
    terms = the_terms(a_config(), {"bob": some_rights(guarantee=(0, 0))})
    notes = only(regrant(Book((lease,)), terms)).after.notes
    assert notes[:-1] == tuple("2345678")
