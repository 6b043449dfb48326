"""Which level is named as the one that binds, and what is said about guarantees and rights."""

from __future__ import annotations

from dataclasses import replace

from enforcer.excess import excess_reports
from enforcer.explain import Explanation, explain
from enforcer.leases import Book
from enforcer.model import Container, Deferred, Hold, Lease, LeaseState, Limits, Usage
from enforcer.names import ROOT, UnitName, profile_slice
from enforcer.policy import rights
from enforcer.quantities import CORE, GIB, Bytes, Cpus
from enforcer.tree import totals_of
from tests.fakes_operations import FakeOperations
from tests.unit.worlds import LARGE, config, container, gib, lease

SMALL_SLICE = profile_slice("small")
SECOND = 1_000_000
IDLE = Usage()


def told(
    one: Lease,
    used: dict[UnitName, Usage] | None = None,
    *,
    caps: dict[UnitName, Cpus] | None = None,
    limits: dict[UnitName, Limits] | None = None,
    others: tuple[Lease, ...] = (),
) -> Explanation:
    """Explain after a tick of one second in which each slice of `used` used that."""
    operations = FakeOperations(config())
    operations.book = Book((one, *others))
    operations.limits = limits or {}
    operations.caps = caps or {}
    totals = totals_of(operations.book.live, lambda claim: operations.rights_now(claim.user))
    operations.open_drift = excess_reports(operations.book.leases, totals)
    operations.tick()
    operations.usage = used or {}
    operations.tick()
    return explain(operations.published(), operations.rights_now(one.user), one.user, one.server)


def throttled(share: float, usage: Usage = IDLE) -> Usage:
    return replace(usage, periods=100, periods_throttled=round(share * 100))


def test_a_user_without_a_lease_is_told_their_rights() -> None:
    found = explain(
        FakeOperations(config()).published(), rights(config(), "ada", (), ()), "ada", ""
    )
    assert found.summary == "ada's server has no lease"
    assert found.levels == ()
    assert found.binding is None
    by_key = {right.key: right for right in found.rights}
    assert by_key["allowed_resources"].value == "small, large"
    assert by_key["allowed_resources"].source == "default"
    assert by_key["cpu_total"].value == "4 cores"
    assert by_key["cpu_total"].source == "the largest allowed profile"
    assert by_key["servers_max"].value == "no limit"


def test_a_queued_lease_waits() -> None:
    found = told(lease("ada", server="gpu", state=LeaseState.QUEUED))
    assert found.summary == "server gpu of ada waits in the queue"
    assert found.levels == ()


def test_a_lease_without_a_container_has_its_place() -> None:
    found = told(lease("ada", state=LeaseState.PENDING))
    assert "container has not started yet" in found.summary
    assert len(found.levels) == 5


def test_nothing_holds_back_who_wants_little() -> None:
    one = lease("ada")
    found = told(one, {one.unit: Usage(cpu_usec=SECOND // 2)})
    assert found.summary == "nothing holds ada's server back"
    assert found.binding is None
    assert [level.title for level in found.levels] == [
        "ada's server",
        "ada in profile small",
        "profile small",
        "all containers",
        "everything",
    ]
    assert found.levels[0].sentence == "ada's server: 0.5 of 2 cores and 0 B of 4 GiB in use"


def test_the_profiles_quota_is_named_when_it_throttled_most() -> None:
    one = lease("ada")
    busy = Usage(cpu_usec=SECOND, cpu_pressure_usec=SECOND // 2)
    found = told(one, {one.unit: busy, SMALL_SLICE: throttled(0.37), ROOT: throttled(0.10)})
    assert found.summary == "profile small's CPU quota throttled it 37 % of the last tick"
    assert found.binding is not None
    assert found.binding.unit == SMALL_SLICE
    assert [level.binds for level in found.levels] == [False, False, True, False, False]
    assert "its quota held all below back 37 % of the last tick" in found.binding.sentence


def test_a_quota_above_does_not_bind_who_had_nothing_to_run() -> None:
    one = lease("ada")
    found = told(one, {one.unit: Usage(cpu_usec=SECOND // 100), SMALL_SLICE: throttled(0.9)})
    assert found.binding is None


def test_its_own_limit_is_named() -> None:
    one = lease("ada")
    busy = throttled(0.5, Usage(cpu_usec=2 * SECOND, cpu_pressure_usec=SECOND))
    assert told(one, {one.unit: busy}).summary == (
        "its own CPU quota throttled it 50 % of the last tick"
    )


def test_a_cap_in_force_is_named_with_its_reason() -> None:
    one = lease("ada")
    busy = throttled(0.5, Usage(cpu_usec=SECOND, cpu_pressure_usec=SECOND))
    found = told(one, {one.unit: busy}, caps={one.unit: Cpus(CORE)})
    assert found.summary == "its own CPU cap throttled it 50 % of the last tick"
    assert found.sentences[0].startswith("ada's server is held to 1 core for now, so that")
    assert found.levels[0].cpu_limit == 2 * CORE


def test_busy_cpus_without_a_quota_are_shared_by_weight() -> None:
    one = lease("ada")
    found = told(one, {one.unit: Usage(cpu_usec=SECOND, cpu_pressure_usec=SECOND // 2)})
    assert found.summary == "no limit holds ada's server back: it shares busy CPUs by weight"


def test_a_kill_in_the_last_tick_comes_before_all_else() -> None:
    one = lease("ada")
    used = throttled(0.9, Usage(oom_local=1, cpu_pressure_usec=SECOND))
    found = told(one, {one.unit: used})
    assert found.summary.startswith("its own memory limit was hit in the last tick")
    assert "its memory limit was hit once" in found.levels[0].sentence


def test_full_memory_is_named() -> None:
    one = lease("ada")
    found = told(one, {one.unit: Usage(memory_current=Bytes(4 * GIB))})
    assert found.summary == "its own memory is full: 4 GiB of 4 GiB"


def test_page_cache_does_not_make_memory_full() -> None:
    one = lease("ada")
    cache = Usage(memory_current=Bytes(4 * GIB), memory_inactive_file=Bytes(3 * GIB))
    assert told(one, {one.unit: cache}).binding is None


def limited(tasks: int | None = None, throttle: Bytes | None = None, swap: int = 0) -> Limits:
    return Limits(
        memory_max=gib(4), memory_high=throttle, swap_max=Bytes(swap * GIB), tasks_max=tasks
    )


def test_its_own_limit_of_tasks_is_named_with_what_it_refused() -> None:
    one = lease("ada")
    used = throttled(0.9, Usage(tasks=64, forks_refused=12, cpu_pressure_usec=SECOND))
    found = told(one, {one.unit: used}, limits={one.unit: limited(tasks=64)})
    assert found.summary == (
        "its own limit of 64 processes and threads is reached: 12 more were refused in the last"
        " tick"
    )
    assert found.binding is not None
    assert (found.binding.unit, found.binding.hold) == (one.unit, Hold.TASKS)
    assert "64 of 64 tasks, 12 more refused in the last tick" in found.binding.sentence


def test_a_full_limit_of_tasks_that_refused_nobody_comes_last() -> None:
    one = lease("ada")
    limits = {one.unit: limited(tasks=64)}
    found = told(one, {one.unit: Usage(tasks=64)}, limits=limits)
    assert found.summary.endswith("64 processes and threads is reached: no further one can start")
    assert found.levels[0].sentence.endswith("64 of 64 tasks")
    busy = throttled(0.5, Usage(tasks=64, cpu_pressure_usec=SECOND))
    assert told(one, {one.unit: busy}, limits=limits).summary.startswith("its own CPU quota")
    assert told(one, {one.unit: Usage(tasks=63)}, limits=limits).binding is None


def test_the_profiles_or_the_machines_tasks_are_named_where_they_ran_out() -> None:
    """What a level refused is counted above it too, as no refusal of that one's own."""
    one = lease("ada")
    for unit, title in ((SMALL_SLICE, "profile small"), (ROOT, "everything")):
        used = {above: Usage(tasks=300, forks_refused=5) for above in (SMALL_SLICE, ROOT)}
        used[unit] = replace(used[unit], forks_refused_local=5)
        limits = {above: limited(tasks=300) for above in used}
        found = told(one, used, limits=limits)
        assert found.summary.startswith(f"{title}'s limit of 300 processes and threads is reached")
        assert [level.unit for level in found.levels if level.binds] == [unit]


def test_what_was_refused_before_the_last_tick_is_over() -> None:
    one = lease("ada")
    operations = FakeOperations(config())
    operations.book = Book((one,))
    operations.limits = {one.unit: limited(tasks=64)}
    operations.usage = {one.unit: Usage(tasks=9, forks_refused=12, memory_high_local=7)}
    operations.tick()
    operations.tick()
    assert explain(operations.published(), operations.rights_now("ada"), "ada", "").binding is None


def test_an_older_kernel_counts_what_was_refused_in_the_container_alone() -> None:
    one = lease("ada", container_id="c")
    operations = FakeOperations(config())
    operations.book = Book((one,))
    operations.limits = {one.unit: limited(tasks=64), SMALL_SLICE: limited(tasks=100)}
    operations.usage = {one.unit: Usage(tasks=40), SMALL_SLICE: Usage(tasks=99)}
    operations.tick()
    operations.tick()
    published = operations.published()
    assert published.previous is not None
    for before, now, unit in ((3, 3, None), (3, 10, SMALL_SLICE)):
        given = replace(
            published,
            previous=replace(published.previous, containers={"c": refused(before)}),
            observed=replace(published.observed, containers={"c": refused(now)}),
        )
        found = explain(given, operations.rights_now("ada"), "ada", "")
        assert (found.binding and found.binding.unit) == unit, found.summary
        assert unit is None or "reached: 7 more were refused" in found.summary


def refused(count: int) -> Container:
    return replace(container("c"), usage=Usage(forks_refused=count))


def test_the_memory_throttle_is_named_with_how_often_and_how_much() -> None:
    one = lease("ada")
    used = throttled(0.4, Usage(memory_high_local=9, memory_pressure_usec=SECOND * 4 // 5))
    limits = {one.unit: limited(throttle=gib(3))}
    found = told(one, {one.unit: used}, limits=limits)
    assert found.summary == (
        "its own memory throttle of 3 GiB slowed it down: it waited for memory 80 % of the last"
        " tick, and hit the throttle 9 times"
    )
    assert found.levels[0].hold is Hold.MEMORY_THROTTLE
    assert "throttle of 3 GiB was hit 9 times in the last tick" in found.levels[0].sentence
    hardly = replace(used, memory_pressure_usec=SECOND // 100)
    assert told(one, {one.unit: hardly}, limits=limits).levels[0].hold is Hold.CPU
    less = replace(used, memory_pressure_usec=SECOND // 5)
    assert told(one, {one.unit: less}, limits=limits).levels[0].hold is Hold.CPU
    assert told(one, {one.unit: used}).levels[0].hold is Hold.CPU, "there is no throttle"


def test_who_sits_out_a_pause_longer_than_a_tick_is_still_held_by_the_throttle() -> None:
    one = lease("ada")
    waits = Usage(memory_current=gib(3), memory_pressure_usec=SECOND)
    limits = {one.unit: limited(throttle=gib(3))}
    found = told(one, {one.unit: waits}, limits=limits)
    assert found.summary.endswith("it waited for memory 100 % of the last tick")
    assert "its memory throttle of 3 GiB is reached" in found.levels[0].sentence
    swaps = replace(waits, memory_current=gib(1))
    assert told(one, {one.unit: swaps}, limits=limits).binding is None


def test_a_throttle_above_is_named_as_the_levels_it_is() -> None:
    one = lease("ada")
    waits = Usage(memory_pressure_usec=SECOND)
    used = {one.unit: waits, SMALL_SLICE: Usage(memory_high_local=1)}
    found = told(one, used, limits={SMALL_SLICE: limited(throttle=gib(20))})
    assert found.summary.startswith("profile small's memory throttle of 20 GiB")
    assert found.summary.endswith("hit the throttle once")
    used[one.unit] = Usage()
    assert told(one, used, limits={SMALL_SLICE: limited(throttle=gib(20))}).binding is None


def test_full_swap_is_told_beside_full_memory() -> None:
    one = lease("ada")
    full = Usage(memory_current=gib(4), swap_current=gib(1))
    found = told(one, {one.unit: full}, limits={one.unit: limited(swap=1)})
    assert found.summary == "its own memory is full: 4 GiB of 4 GiB, and so is its swap"
    assert "its swap is full: 1 GiB of 1 GiB" in found.levels[0].sentence
    more = told(one, {one.unit: full}, limits={one.unit: limited(swap=2)})
    assert more.summary == "its own memory is full: 4 GiB of 4 GiB"


def test_a_cpu_guarantee_is_met_missed_or_not_wanted() -> None:
    one = lease("ada", promised=(1, 0))
    for usage, end in (
        (Usage(cpu_usec=SECOND, cpu_pressure_usec=SECOND), ": met"),
        (Usage(cpu_usec=SECOND // 2), "wanted no more: met"),
        (Usage(cpu_usec=SECOND // 2, cpu_pressure_usec=SECOND), "not met in the last tick"),
    ):
        assert told(one, {one.unit: usage}).sentences[0].endswith(end)
    assert told(lease("bob")).sentences[0].startswith("it has no guaranteed CPU")


def test_a_memory_guarantee_is_protected_on_every_level_or_not_at_all() -> None:
    one = lease("ada", promised=(0, 1))
    assert told(one).sentences[1] == "of its guaranteed 1 GiB it uses 0 B: protected"
    bare = told(one, limits={SMALL_SLICE: Limits()})
    assert bare.sentences[1].startswith(
        f"its guaranteed 1 GiB are not protected yet at {SMALL_SLICE}"
    )
    assert told(lease("bob")).sentences[1] == "it has no guaranteed memory"


def test_a_profile_that_is_gone_from_the_configuration_has_its_name() -> None:
    one = lease("ada", "old")
    assert told(one).levels[2].title == "profile old"


def test_who_runs_in_a_profile_that_is_gone_is_told_so() -> None:
    sentence = (
        "profile old is no longer in the configuration: it runs on within what that was, but cannot"
        " be started again"
    )
    assert told(lease("ada", "old")).sentences[0] == sentence
    assert sentence not in told(lease("ada")).sentences


def test_who_may_use_their_profile_no_more_is_told_so() -> None:
    one = lease("ada")
    operations = FakeOperations(config())
    operations.book = Book((one,))
    operations.tick()
    allowed = operations.rights_now("ada")
    sentence = "profile small is no longer allowed to ada: it runs on, but cannot be started again"
    lost = explain(operations.published(), replace(allowed, profiles=("large",)), "ada", "")
    assert lost.sentences[0] == sentence
    assert sentence not in explain(operations.published(), allowed, "ada", "").sentences


def test_whole_cores_are_the_roots_limit() -> None:
    assert told(lease("ada")).levels[-1].cpu_limit == 7 * CORE


def test_who_holds_more_than_their_total_is_told_so() -> None:
    servers = [lease("ada", server=name) for name in ("a", "b", "c")]
    above = (
        "ada may use 4 cores in all: servers with limits of 6 cores together run on,"
        " but no other starts until they hold less"
    )
    queued = lease("ada", state=LeaseState.QUEUED)
    bob = lease("bob")
    assert told(servers[0], others=(*servers[1:], bob)).sentences[-1] == above
    assert told(queued, others=tuple(servers)).sentences == (above,)
    assert above not in told(servers[0], others=(servers[1], bob)).sentences


def test_a_lowered_limit_that_waits_is_told_to_whose_it_is() -> None:
    operations = FakeOperations(config())
    ada, bob = lease("ada"), lease("bob")
    operations.book = Book((ada, bob))
    operations.tick()
    waits = Deferred(subject=ada.unit, limit="swap_max", wanted=Bytes(GIB), deadline=None)
    soon = replace(waits, limit="memory_max", deadline=60.0)
    published = operations.published()
    observed = replace(published.observed, taken_at=50.0)
    published = replace(published, observed=observed, deferred=(waits, soon))
    rights_now = operations.rights_now("ada")
    for_ever, ends = explain(published, rights_now, "ada", "").sentences[-2:]
    assert for_ever == "the swap limit of 1 GiB waits until less is used"
    assert ends.startswith("the memory limit of 1 GiB waits until less is used; in 10 s it is")
    assert "waits" not in " ".join(explain(published, rights_now, "bob", "").sentences)


def test_others_stay_sums() -> None:
    found = told(lease("ada"), others=(lease("bob"), lease("carl", LARGE.name)))
    text = repr((found.summary, found.sentences, found.levels))
    assert "bob" not in text
    assert "carl" not in text


def test_before_the_first_rates_nothing_is_concluded() -> None:
    operations = FakeOperations(config())
    one = lease("ada", promised=(1, 1))
    # the lease is there, its slice not yet
    published = replace(operations.published(), leases=(one,))
    found = explain(published, operations.rights_now("ada"), "ada", "")
    assert found.binding is None
    assert "not protected yet" in found.sentences[1]
