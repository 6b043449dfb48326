"""Which level is named as the one that binds, and what is said about guarantees and rights."""

from __future__ import annotations

from dataclasses import replace

from enforcer.explain import Explanation, explain
from enforcer.leases import Book
from enforcer.model import Lease, LeaseState, Limits, Usage
from enforcer.names import ROOT, UnitName, profile_slice
from enforcer.policy import rights
from enforcer.quantities import CORE, GIB, Bytes, Cpus
from tests.fakes_operations import FakeOperations
from tests.unit.worlds import LARGE, config, lease

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
