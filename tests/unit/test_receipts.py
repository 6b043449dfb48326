"""What an account adds up from a leaf's counters, and what the receipt says of the end."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enforcer.errors import InvalidError
from enforcer.model import Cgroup, Container, ContainerLimits, EndReason, Limits, Observed, Usage
from enforcer.quantities import Bytes
from enforcer.receipts import (
    Account,
    from_ints,
    memory_limit,
    observe,
    open_account,
    receipt,
)
from tests.unit.lab import a_lease, gib


def usage(
    cpu: int = 0,
    throttled: int = 0,
    peak: int = 0,
    kills: int = 0,
    hits: int = 0,
    current: int = 0,
) -> Usage:
    return Usage(
        cpu_usec=cpu,
        throttled_usec=throttled,
        memory_peak=Bytes(peak),
        oom_kills=kills,
        oom_events=hits,
        memory_current=Bytes(current),
    )


def after(*readings: Usage, opened: Usage | None = None) -> Account:
    account = open_account(opened)
    for second, reading in enumerate(readings):
        account = observe(account, reading, 1000.0 + second)
    return account


def test_a_new_leafs_counters_are_the_leases() -> None:
    account = after(usage(cpu=5, throttled=1, peak=70), usage(cpu=9, throttled=4, peak=80))
    assert (account.cpu_usec, account.throttled_usec, account.memory_peak) == (9, 4, 80)


def test_what_an_earlier_lease_used_of_the_leaf_does_not_count() -> None:
    before = usage(cpu=100, throttled=50, peak=900, kills=3, hits=2)
    account = after(
        usage(cpu=110, throttled=51, peak=900, kills=3, hits=2, current=300),
        usage(cpu=120, throttled=52, peak=900, kills=3, hits=2, current=200),
        opened=before,
    )
    assert (account.cpu_usec, account.throttled_usec) == (20, 2)
    assert (account.killed_own, account.killed_victim) == (0, 0)
    assert account.memory_peak == 300
    higher = usage(cpu=120, throttled=52, peak=950, kills=3, hits=2, current=200)
    assert observe(account, higher, 1).memory_peak == 950


@pytest.mark.parametrize(
    "anew",
    [
        usage(cpu=3, throttled=20, peak=400, kills=2, hits=2),
        usage(cpu=30, throttled=2, peak=400, kills=2, hits=2),
        usage(cpu=30, throttled=20, peak=40, kills=2, hits=2),
        usage(cpu=30, throttled=20, peak=400, kills=0, hits=2),
        usage(cpu=30, throttled=20, peak=400, kills=2, hits=0),
    ],
)
def test_counters_that_go_back_begin_an_epoch_and_add_up(anew: Usage) -> None:
    account = after(usage(cpu=10, throttled=10, peak=100, kills=1, hits=1), anew)
    assert account.cpu_usec == 10 + anew.cpu_usec
    assert account.throttled_usec == 10 + anew.throttled_usec
    assert account.memory_peak == max(100, anew.memory_peak)
    assert account.killed == 1 + anew.oom_kills


def test_a_kill_with_a_hit_is_its_own_and_one_without_is_somebody_elses() -> None:
    account = after(usage(kills=1, hits=1), usage(kills=2, hits=1), usage(kills=5, hits=4))
    assert (account.killed_own, account.killed_victim) == (4, 1)


def test_both_counters_may_jump_by_several() -> None:
    assert after(usage(kills=3, hits=7)).killed_own == 3
    mixed = after(usage(kills=3, hits=1))
    assert (mixed.killed_own, mixed.killed_victim) == (1, 2)
    many = after(usage(kills=4))
    assert (many.killed_own, many.killed_victim) == (0, 4)


def test_a_hit_read_just_before_its_kill_still_belongs_to_it() -> None:
    account = after(usage(hits=1), usage(hits=1, kills=1))
    assert (account.killed_own, account.killed_victim) == (1, 0)


def test_a_hit_that_killed_nobody_excuses_no_later_kill() -> None:
    account = after(usage(hits=1), usage(hits=1), usage(hits=1, kills=1))
    assert (account.killed_own, account.killed_victim) == (0, 1)


def test_a_receipt_names_the_limit_of_the_last_kill_at_its_own() -> None:
    account = observe(open_account(), usage(kills=1, hits=1), 1, gib(8))
    raised = observe(account, usage(cpu=1, kills=2, hits=1), 2, gib(12))  # a victim since
    made = receipt(a_lease("a", limit=(2, 12)), raised, 3, EndReason.STOPPED)
    assert (made.limit_at_kill, made.grant.mem_limit) == (gib(8), gib(12))
    again = observe(raised, usage(cpu=1, kills=3, hits=2), 3, None)
    assert receipt(a_lease("a"), again, 4, EndReason.STOPPED).limit_at_kill is None


@pytest.mark.parametrize(
    ("leaf", "container", "found"),
    [
        (gib(8), gib(8), gib(8)),
        (gib(12), gib(8), gib(8)),  # a raise that Docker has not followed yet
        (gib(8), None, gib(8)),
        (None, None, None),
    ],
)
def test_the_limit_in_force_is_the_kernels_lowest(
    leaf: Bytes | None, container: Bytes | None, found: Bytes | None
) -> None:
    lease = a_lease("a", limit=(2, 16))
    cgroup = Cgroup(unit=lease.unit, limits=Limits(memory_max=leaf), usage=usage(), populated=True)
    there = Container(
        id=lease.container_id or "",
        name="lab",
        image="base",
        running=True,
        cgroup_parent=lease.unit,
        kernel=ContainerLimits(memory=container),
    )
    observed = Observed(
        taken_at=0, at=0, cgroups={lease.unit: cgroup}, containers={there.id: there}
    )
    assert memory_limit(lease, observed) == found
    starting = replace(observed, containers={there.id: replace(there, kernel=None)})
    assert memory_limit(lease, starting) == leaf
    without_docker = replace(observed, containers=None)
    assert memory_limit(lease, without_docker) == leaf
    assert memory_limit(lease, replace(without_docker, cgroups={})) is None


def test_a_receipt_holds_what_was_used_in_seconds_and_bytes() -> None:
    lease = replace(a_lease("a"), bound_at=500.0)
    account = after(usage(cpu=2_500_000, throttled=500_000, peak=77, kills=1, hits=1))
    made = receipt(lease, account, 2000.0, EndReason.STOPPED)
    assert (made.lease_id, made.user, made.server, made.profile) == ("a", "bob", "a", "Large")
    assert (made.started_at, made.ended_at) == (500.0, 2000.0)
    assert (made.cpu_seconds, made.throttled_seconds, made.memory_peak) == (2.5, 0.5, 77)
    assert (made.oom_kills, made.oom_kills_as_victim) == (1, 0)
    assert made.reason is EndReason.STOPPED
    assert made.grant == lease.grant


def test_a_lease_that_never_had_a_container_started_when_it_was_claimed() -> None:
    lease = a_lease("a")
    assert receipt(lease, Account(), 3, EndReason.EXPIRED).started_at == lease.created_at


@pytest.mark.parametrize(
    ("readings", "ended_at", "reason"),
    [
        ([], 1001.0, EndReason.EXITED),
        ([usage(kills=1, hits=1)], 1010.0, EndReason.OOM_LIMIT),
        ([usage(kills=1)], 1010.0, EndReason.OOM_VICTIM),
        ([usage(kills=1, hits=1), usage(kills=2, hits=1)], 1010.0, EndReason.OOM_VICTIM),
        ([usage(kills=1), usage(kills=2, hits=1), usage(kills=2, hits=1)], 1010.0, "oom-limit"),
        ([usage(kills=1, hits=1)], 4600.0, EndReason.EXITED),
    ],
)
def test_what_ended_by_itself_soon_after_a_kill_was_killed(
    readings: list[Usage], ended_at: float, reason: str
) -> None:
    assert receipt(a_lease("a"), after(*readings), ended_at, EndReason.EXITED).reason == reason


def test_what_the_hub_stopped_was_stopped_whatever_was_killed_before() -> None:
    account = after(usage(kills=1, hits=1))
    assert receipt(a_lease("a"), account, 1001, EndReason.STOPPED).reason is EndReason.STOPPED


counters = st.builds(usage, *[st.integers(0, 100)] * 6)


@given(st.lists(counters, max_size=12), st.none() | counters)
def test_an_account_never_falls_and_survives_the_ledger(
    readings: list[Usage], opened: Usage | None
) -> None:
    account = open_account(opened)
    for reading in readings:
        later = observe(account, reading, 5)
        assert later.cpu_usec >= account.cpu_usec
        assert later.throttled_usec >= account.throttled_usec
        assert later.memory_peak >= account.memory_peak
        assert later.killed_own >= account.killed_own
        assert later.killed_victim >= account.killed_victim
        account = later
        assert from_ints(account.as_ints()) == account


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(1, 11))
def test_a_restart_of_the_daemon_between_readings_changes_nothing(
    steps: list[int], cut: int
) -> None:
    readings = [usage(cpu=sum(steps[: n + 1]), kills=n // 3) for n in range(len(steps))]
    account = after(*readings[:cut])
    account = from_ints(account.as_ints())
    for reading in readings[cut:]:
        account = observe(account, reading, 1000.0)
    whole = after(*readings)
    assert account.cpu_usec == whole.cpu_usec == sum(steps)
    assert account.killed_victim == whole.killed_victim


def test_an_account_of_an_older_ledger_is_whole_but_for_what_it_did_not_know() -> None:
    account = after(usage(cpu=7, throttled=1, peak=3, kills=2, hits=1, current=9))
    assert from_ints(account.as_ints()[:14]) == account


@pytest.mark.parametrize(
    "values", [(), (1, 2), (1,) * 13, (1,) * 16, (-1,) * 15, (1.5,) * 15, (True,) * 15]
)
def test_other_numbers_are_no_account(values: tuple[int, ...]) -> None:
    assert len(Account().as_ints()) == 15
    with pytest.raises(InvalidError) as caught:
        from_ints(values)
    assert caught.value.code == "account.malformed"
