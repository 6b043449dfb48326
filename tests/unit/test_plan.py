"""What a new configuration would do, before it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from enforcer.desired import desired
from enforcer.errors import ForbiddenError
from enforcer.model import (
    Cgroup,
    Claim,
    Config,
    DaemonSettings,
    Lease,
    LeaseState,
    Limits,
    Observed,
    PlannedChange,
    Rights,
    Sample,
    Usage,
)
from enforcer.names import ENGINE, ROOT, WORKLOAD, UnitName, profile_slice, user_slice
from enforcer.plan import plan
from enforcer.quantities import MIB, Bytes
from enforcer.tree import Totals, totals_of
from tests.unit.worlds import (
    LARGE,
    SMALL,
    as_desired,
    config,
    container,
    cpus,
    gib,
    lease,
    observed,
)

CONFIG = config()
ALICE = lease("alice", promised=(1, 2))
OF_ALICE = user_slice("small", "alice")


def rights_of(
    *profiles: str, total: tuple[float, float] = (4, 8), guarantee: tuple[float, float] = (8, 64)
) -> Callable[[Claim], Rights]:
    def rights(claim: Claim) -> Rights:
        if claim.user == "mallory":
            raise ForbiddenError("user.name-unsafe", "no")
        return Rights(
            user=claim.user,
            profiles=profiles,
            images=("base",),
            home=None,
            max_cpu_guarantee=cpus(guarantee[0]),
            max_mem_guarantee=gib(guarantee[1]),
            cpu_total=cpus(total[0]),
            mem_total=gib(total[1]),
            servers_max=None,
            admission=None,
        )

    return rights


SAME = rights_of("small", "large")


def totals_by(rights: Callable[[Claim], Rights], *leases: Lease) -> Totals:
    return totals_of(leases, rights)


def world(*leases: Lease, usage: Usage | None = None) -> Observed:
    boxes = [container("hers", ALICE), container("someones")]
    wanted = desired(CONFIG, leases, observed(containers=boxes), totals=totals_by(SAME, *leases))
    used = {ALICE.unit: usage or Usage()}
    return observed(as_desired(wanted, usage=used), boxes)


def changes(
    after: Config,
    rights: Callable[[Claim], Rights] = SAME,
    *,
    usage: Usage | None = None,
    rate: float | None = None,
) -> dict[tuple[str, str], PlannedChange]:
    rates = {}
    if rate is not None:
        rates[ALICE.unit] = Sample(
            cpu=cpus(rate),
            memory=Bytes(0),
            throttled=0,
            cpu_pressure=0,
            memory_pressure=0,
            io_pressure=0,
            oom_kills=0,
        )
    found = plan(CONFIG, after, [ALICE], rights, world(ALICE, usage=usage), rates)
    return {(one.subject, one.what): one for one in found}


def test_the_same_configuration_changes_nothing() -> None:
    assert changes(CONFIG) == {}


@pytest.mark.parametrize(
    ("host", "port", "told"), [("127.0.0.1", 9800, "127.0.0.1:9800"), ("::1", 9753, "[::1]:9753")]
)
def test_what_takes_a_restart_is_said_to_be_so_and_puts_nobody_at_risk(
    host: str, port: int, told: str
) -> None:
    after = replace(CONFIG, daemon=DaemonSettings(metrics_host=host, metrics_port=port))
    (found,) = changes(after).values()
    assert (found.subject, found.what, found.before) == ("daemon", "metrics", "127.0.0.1:9753")
    assert (found.after, found.risk) == (f"{told}, at the next restart", "")


def test_nor_does_it_for_a_user_who_may_have_all_that_the_profile_has() -> None:
    bob = lease("bob", "large", limit=(4, 16))
    everything = rights_of("large", total=(6, 24))
    wanted = desired(CONFIG, [bob], observed(), totals=totals_by(everything, bob))
    assert plan(CONFIG, CONFIG, [bob], everything, observed(as_desired(wanted)), {}) == ()


def test_a_leases_limit_is_said_before_and_after() -> None:
    smaller = config(replace(SMALL, mem_limit=gib(3), cpu_limit=cpus(1.5)), LARGE)
    found = changes(smaller)
    memory = found[ALICE.unit, "memory limit"]
    assert (memory.before, memory.after, memory.risk) == ("4 GiB", "3 GiB", "")
    cpu = found[ALICE.unit, "CPU quota"]
    assert (cpu.before, cpu.after, cpu.risk) == ("2 cores", "1.5 cores", "")


def test_who_uses_more_than_the_new_limit_is_named_with_how_much() -> None:
    smaller = config(
        replace(SMALL, mem_limit=gib(3), cpu_limit=cpus(1.5), mem_throttle=gib(1)), LARGE
    )
    usage = Usage(memory_current=gib(3.5), tasks=70)
    found = changes(smaller, usage=usage, rate=1.75)
    assert found[ALICE.unit, "memory limit"].risk == (
        "it uses 512 MiB more than that: the OOM killer could strike"
    )
    assert found[ALICE.unit, "memory throttle"].before == "no limit"
    assert "slowed down" in found[ALICE.unit, "memory throttle"].risk
    assert found[ALICE.unit, "CPU quota"].risk == "it uses 1.75 cores and would be throttled"
    assert changes(smaller, rate=1.2)[ALICE.unit, "CPU quota"].risk == ""


def test_tasks_and_swap_are_looked_at_too() -> None:
    config_with_swap = replace(SMALL, swap_limit=gib(1))
    before = config(config_with_swap, LARGE)
    after = config(replace(SMALL, tasks_limit=50), LARGE)
    snapshot = world(ALICE, usage=Usage(tasks=70, swap_current=Bytes(64 * MIB)))
    found = {(one.subject, one.what): one for one in plan(before, after, [ALICE], SAME, snapshot)}
    assert found[ALICE.unit, "tasks limit"].risk == (
        "it uses 20 tasks more than that: it could start no more"
    )
    assert found[ALICE.unit, "swap limit"].risk == (
        "it uses 64 MiB more than that: it could swap out no more, and the OOM killer could strike"
    )
    lifted = {(one.subject, one.what): one for one in plan(after, before, [ALICE], SAME, snapshot)}
    assert lifted[ALICE.unit, "tasks limit"].after == "no limit"
    assert lifted[ALICE.unit, "tasks limit"].risk == ""


def test_the_machines_own_numbers_are_said_in_their_own_words() -> None:
    after = config(replace(SMALL, io_weight=300), LARGE, quota=6, whole_cores=True)
    found = changes(after)
    assert (found[ROOT, "CPUs"].before, found[ROOT, "CPUs"].after) == ("all", "2-7")
    assert found[ROOT, "CPU quota"].after == "no limit"
    assert found[WORKLOAD, "CPU quota"].after == "5.8 cores"
    weight = found[ALICE.unit, "I/O weight"]
    assert (weight.before, weight.after) == ("the default", "300")
    assert not any("weight" in what for _, what in changes(config(quota=6)) if what != "I/O weight")


def test_a_smaller_total_shrinks_the_users_slice_and_their_newest_guarantee() -> None:
    found = changes(CONFIG, rights_of("small", total=(1, 2), guarantee=(0.5, 1)))
    assert found[OF_ALICE, "memory limit"].before == "8 GiB"
    assert found[OF_ALICE, "memory limit"].after == "2 GiB"
    cpu, memory = found["alice", "guaranteed CPU"], found[ALICE.unit, "guaranteed memory"]
    assert (cpu.before, cpu.after) == ("1 cores", "0.5 cores")
    assert cpu.risk == "others could take 0.5 cores that it was promised"
    assert (memory.before, memory.after) == ("2 GiB", "1 GiB")
    assert memory.risk == "others could take 1 GiB that it was promised"


def test_a_lost_guarantee_is_a_risk_whatever_is_used_of_it() -> None:
    for usage in (None, Usage(memory_current=gib(3))):
        found = changes(CONFIG, rights_of("small", guarantee=(0, 0)), usage=usage)
        lost = {subject for (subject, what), one in found.items() if one.risk}
        above = {OF_ALICE, profile_slice("small"), WORKLOAD, ROOT}
        assert lost == {"alice", ALICE.unit, *above}
    with_more = replace(CONFIG, engine=replace(CONFIG.engine, memory=gib(1)))
    found = changes(with_more)
    assert found[ENGINE, "guaranteed memory"].risk == ""
    assert found[ROOT, "guaranteed memory"].risk == ""


def test_so_is_one_that_a_lease_was_to_have_again() -> None:
    resized = replace(
        ALICE,
        grant=replace(ALICE.grant, cpu_guarantee=cpus(0), mem_guarantee=gib(0)),
        grant_before=ALICE.grant,
        resized_until=1e10,
    )
    snapshot = world(resized)
    assert plan(CONFIG, CONFIG, [resized], SAME, snapshot) == ()
    found = plan(CONFIG, CONFIG, [resized], rights_of("small", guarantee=(0.5, 0.5)), snapshot)
    assert [(one.what, one.before, one.after, bool(one.risk)) for one in found] == [
        ("guaranteed CPU once its resize is over", "1 cores", "0.5 cores", True),
        ("guaranteed memory once its resize is over", "2 GiB", "512 MiB", True),
    ]


def test_who_will_hold_more_than_a_smaller_total_is_told_with_what_it_means() -> None:
    other = lease("alice", "large", server="x", limit=(3, 4))
    snapshot = world(ALICE, other)

    def found(total: tuple[float, float]) -> list[tuple[str, str, str, str]]:
        told = plan(
            CONFIG, CONFIG, [ALICE, other], rights_of("small", "large", total=total), snapshot
        )
        return [
            (one.before, one.after, one.subject, one.risk) for one in told if one.what == "total"
        ]

    assert found((4, 8)) == []  # five cores were too much already
    assert found((6, 8)) == []
    run_on = "together run on, but no other starts until they hold less"
    assert found((6, 6)) == [
        ("8 GiB", "6 GiB", "alice", f"servers with limits of 8 GiB {run_on}"),
    ]
    # each of them is cut to what one alone may have
    assert found((1, 6)) == [
        (
            "4 cores and 8 GiB",
            "1 core and 6 GiB",
            "alice",
            f"servers with limits of 2 cores and 8 GiB {run_on}",
        ),
    ]


def test_before_the_first_snapshot_no_total_is_known_to_be_new() -> None:
    two = [ALICE, lease("alice", server="x")]
    found = plan(CONFIG, CONFIG, two, rights_of("small", total=(2, 4)), observed())
    assert "total" not in {one.what for one in found}


def test_a_right_that_is_taken_away_is_said_for_the_lease() -> None:
    found = changes(CONFIG, rights_of("large"))
    assert "cannot be started again" in found["alice", "right to the profile"].risk


def test_a_user_without_rights_keeps_what_runs_within_the_profile() -> None:
    mallory = lease("mallory", server="gpu")
    found = plan(CONFIG, CONFIG, [mallory], SAME, world(mallory))
    assert [(one.subject, one.what) for one in found] == [("mallory/gpu", "right to the profile")]
    assert totals_by(SAME, mallory) == {}


def test_slices_that_only_one_of_the_two_needs_are_no_change() -> None:
    after = config(SMALL, LARGE, replace(LARGE, name="new"))
    unit = profile_slice("new")
    empty = Cgroup(unit=unit, limits=Limits(), usage=Usage(), populated=False)
    seen = world(ALICE)
    seen = replace(seen, cgroups={**seen.cgroups, unit: empty})
    assert plan(CONFIG, after, [ALICE], SAME, seen) == ()


def test_before_the_first_snapshot_nobody_is_at_risk() -> None:
    after = config(replace(SMALL, mem_limit=gib(3)), LARGE)
    waiting = replace(ALICE, id="q", state=LeaseState.QUEUED)
    found = plan(CONFIG, after, [ALICE, waiting], SAME, observed(containers=None))
    assert {one.subject for one in found} == {ALICE.unit}
    assert {one.risk for one in found} == {""}


def test_the_most_generous_rights_of_a_users_servers_are_their_total() -> None:
    def by_group(claim: Claim) -> Rights:
        return rights_of("small", total=(8, 2) if claim.groups else (4, 4))(claim)

    plain = lease("alice")
    grouped = replace(
        lease("alice", server="x"), claim=Claim(user="alice", server="x", groups=("ml",))
    )
    for leases in ((plain, grouped), (grouped, plain)):
        assert totals_by(by_group, *leases) == {"alice": (cpus(8), gib(4))}


def test_a_users_old_total_is_what_their_slices_have() -> None:
    other = lease("alice", "large", server="x", limit=(3, 4))
    seen = world(ALICE, other)
    unlimited = replace(
        seen.cgroups[OF_ALICE],
        limits=replace(seen.cgroups[OF_ALICE].limits, memory_max=None),
    )
    for cgroups in (seen.cgroups, {**seen.cgroups, OF_ALICE: unlimited}):
        found = plan(CONFIG, CONFIG, [ALICE, other], SAME, replace(seen, cgroups=cgroups))
        assert found == ()
    assert UnitName(OF_ALICE) in seen.cgroups
