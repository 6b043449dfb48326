"""Weights and caps: on paper, and on a machine made of paper."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enforcer.demand import machine_full
from enforcer.model import Cgroup, Config, HostUsage, Lease, LeaseState, Limits, Observed, Usage
from enforcer.names import ADOPTED, ENGINE, ROOT, WORKLOAD, UnitName, ancestors, user_slice
from enforcer.quantities import CORE, Bytes, Cpus
from enforcer.shares import (
    CALM,
    MIN_QUOTA,
    PRESSING,
    Contention,
    caps,
    hurried,
    pressed_for,
    weights,
)
from enforcer.tree import cpu_tree, dues, members, with_room
from tests.examples import examples
from tests.unit.scheduler import Load, Tick, machine_for, simulate, snapshot
from tests.unit.worlds import config, cpus, lease, observed, profile

SETTLING = 5
WATCHED = 10


@dataclass(frozen=True)
class Crowd:
    """A configuration, leases that were admitted to it, and what runs in them."""

    config: Config
    leases: tuple[Lease, ...]
    loads: Mapping[UnitName, Load]
    host: Load


@st.composite
def crowds(draw: st.DrawFn) -> Crowd:
    """Draw what admission could have let in: no sum of guarantees exceeds any level."""
    cores = draw(st.sampled_from([2, 2, 3, 4, 8, 16, 64]))
    reserved = draw(st.sampled_from([0.25, 0.5, 1.0]))
    quota = cores - reserved
    engine = round(quota * draw(st.sampled_from([0.02, 0.05, 0.1])), 3)
    workload = quota - engine
    names = ["p", "q", "r"][: draw(st.integers(1, 3))]
    profiles = []
    for name in names:
        total = draw(st.none() | st.floats(0.3, 1.0).map(lambda part: round(part * workload, 2)))
        most = workload if total is None else total
        drawn = profile(name, most, 4)
        profiles.append(drawn if total is None else replace(drawn, cpu_total=cpus(total)))
    made = config(
        *profiles, cores=cores, quota=quota, engine=engine, adopted=round(workload / 4, 3)
    )
    free = {drawn.name: drawn.cpu_limit / CORE for drawn in profiles}
    left = workload
    leases = []
    loads: dict[UnitName, Load] = {}
    for number in range(draw(st.integers(1, 7))):
        name = draw(st.sampled_from(names))
        room = min(free[name], left)
        promised = round(room * draw(st.sampled_from([0, 0, 0.1, 0.3, 0.5, 1.0])) * 0.999, 3)
        most = made.profiles[name].cpu_limit / CORE
        limit = max(promised, round(most * draw(st.sampled_from([0.1, 0.5, 1.0])), 3), 0.05)
        one = lease(f"u{number}", name, limit=(limit, 4), promised=(promised, 0))
        free[name] -= promised
        left -= promised
        leases.append(one)
        loads[one.unit] = draw(_loads(cores))
    if draw(st.booleans()):
        loads[ADOPTED] = Load(draw(st.integers(1, cores)))
    if draw(st.booleans()):
        loads[ENGINE] = Load(draw(st.integers(1, 2)), draw(st.sampled_from([0.01, 1.0])))
    host = Load(draw(st.sampled_from([0, 0, 1, cores])))
    return Crowd(config=made, leases=tuple(leases), loads=loads, host=host)


def _loads(cores: int) -> st.SearchStrategy[Load]:
    threads = st.sampled_from([0, 1, 1, 2, 4, cores]).map(lambda count: min(count, cores))
    return st.builds(Load, threads=threads, duty=st.sampled_from([1.0, 1.0, 1.0, 0.5, 0.1]))


def _wanted(one: Crowd) -> Mapping[UnitName, float]:
    return {unit: load.cores for unit, load in one.loads.items()}


def _best(one: Crowd) -> float:
    """All that containers could use together of what they may, in cores."""
    tree = cpu_tree(one.config, one.leases)
    due = dues(tree, {unit: cpus(cores) for unit, cores in _wanted(one).items()})
    return sum(amount for unit, amount in due.items() if unit != ENGINE) / CORE


def _mean(history: Sequence[Tick], unit: UnitName) -> float:
    return sum(tick.used[unit] for tick in history) / len(history)


def _alone(one: Crowd) -> float:
    """What containers use together with nobody capped."""
    return simulate(one.config, one.leases, one.loads, 1, host=one.host, enforced=False)[0].used[
        WORKLOAD
    ]


@settings(max_examples=examples(100))
@given(crowds())
def test_after_settling_everybody_gets_their_guarantee_and_no_quota_lies_idle(
    one: Crowd,
) -> None:
    history = simulate(one.config, one.leases, one.loads, SETTLING + WATCHED, host=one.host)
    watched = history[SETTLING:]
    # who is due nothing gets the least quota there is all the same
    least = MIN_QUOTA / CORE * len(one.loads)
    for held in one.leases:
        due = min(held.grant.cpu_guarantee / CORE, _wanted(one)[held.unit])
        assert _mean(watched, held.unit) >= due - least
    # on a machine that the host keeps busy, idle threads cannot be told from hindered ones
    if one.host.threads == 0 or all(load.duty == 1.0 for load in one.loads.values()):
        assert _mean(watched, WORKLOAD) >= 0.95 * min(_best(one), _alone(one))
        assert len({tuple(sorted(tick.caps.items())) for tick in watched}) == 1


@settings(max_examples=examples(50))
@given(crowds(), st.data())
def test_dues_keep_every_limit_and_every_promise_whatever_the_order(
    one: Crowd, data: st.DataObject
) -> None:
    tree = cpu_tree(one.config, one.leases)
    demand = {
        unit: Cpus(data.draw(st.integers(0, 20 * CORE)))
        for unit, level in tree.items()
        if level.leaf
    }
    due = dues(tree, demand)
    for unit, leaves in members(tree).items():
        assert sum(due[leaf] for leaf in leaves) <= tree[unit].limit
    for unit, amount in due.items():
        assert min(demand[unit], tree[unit].guarantee) <= amount
        assert amount <= min(demand[unit], tree[unit].limit)
    shuffled = data.draw(st.permutations(one.leases))
    again = dues(cpu_tree(one.config, shuffled), dict(reversed(demand.items())))
    assert again == due


@settings(max_examples=examples(50))
@given(crowds(), st.randoms())
def test_the_order_of_leases_changes_no_cap_and_no_weight(
    one: Crowd, chance: random.Random
) -> None:
    machine, quotas = machine_for(one.config, one.leases, one.loads, one.host)
    before = snapshot(machine, quotas, 0.0)
    machine.run(quotas)
    now = snapshot(machine, quotas, 2.0)
    shuffled = chance.sample(one.leases, len(one.leases))
    assert caps(one.config, shuffled, before, now, {}) == caps(
        one.config, one.leases, before, now, {}
    )
    assert weights(one.config, shuffled, [], {}) == weights(one.config, one.leases, [], {})


# --- the machine on paper, and what the caps are for ---------------------------------------

PRESSED = Contention(pressed_for=PRESSING)
A = lease("a", promised=(1, 0))
B = lease("b")
CAPPED = Contention(caps={B.unit: cpus(0.6)})
TWO_CPUS = config(cores=2, quota=1.75, engine=0.1)


@pytest.mark.parametrize("quota", [1.0, 1.5, 1.8, 1.9])
def test_weights_alone_fail_under_a_quota_that_runs_out(quota: float) -> None:
    """The trap as measured: 0.51, 0.77, 0.91 and 0.96 of one core on two CPUs."""
    small = config(profile("small", quota), cores=2, quota=quota, engine=0)
    hog = lease("hog", limit=(quota, 4))
    heavy = lease("heavy", limit=(quota, 4), promised=(quota * 0.9, 0))
    loads = {heavy.unit: Load(1), hog.unit: Load(2)}
    history = simulate(small, [heavy, hog], loads, 1, enforced=False)
    assert history[0].used[heavy.unit] == pytest.approx(quota / 2, rel=0.01)


def test_a_promised_thread_gets_its_core_and_a_hog_the_rest() -> None:
    history = simulate(TWO_CPUS, [A, B], {A.unit: Load(1), B.unit: Load(2)}, 3)
    assert history[0].used[A.unit] == pytest.approx(0.825)
    assert history[-1].used[A.unit] == pytest.approx(1.0)
    assert history[-1].used[WORKLOAD] >= 0.98 * 1.65


def test_who_wakes_has_their_guarantee_in_two_ticks_and_lends_it_while_asleep() -> None:
    loads = {A.unit: Load(1, awake=lambda period: (period // 200) % 2 == 1), B.unit: Load(2)}
    history = simulate(TWO_CPUS, [A, B], loads, 40)
    for tick in (12, 19, 32, 39):
        assert history[tick].used[A.unit] >= 0.95
    for tick in (9, 22, 29):
        assert history[tick].used[B.unit] >= 0.95 * 1.65


def test_a_busy_engine_is_held_to_what_the_workload_leaves_but_never_below_its_floor() -> None:
    loads = {A.unit: Load(1), B.unit: Load(2), ENGINE: Load(2)}
    last = simulate(TWO_CPUS, [A, B], loads, 5)[-1]
    assert last.caps[ENGINE] >= TWO_CPUS.engine.cpu
    assert last.used[ENGINE] == pytest.approx(0.1, abs=0.04)
    assert last.used[A.unit] >= 0.95


def test_without_a_guarantee_nobody_is_capped() -> None:
    history = simulate(TWO_CPUS, [B], {B.unit: Load(2), ADOPTED: Load(2)}, 4)
    assert not any(tick.caps for tick in history)


def test_caps_end_when_demand_fits() -> None:
    loads = {A.unit: Load(1), B.unit: Load(2, awake=lambda period: period < 100)}
    history = simulate(TWO_CPUS, [A, B], loads, 9)
    assert history[4].caps
    assert not history[-1].caps


def test_whole_cores_have_the_workloads_quota_all_the_same() -> None:
    whole = config(cores=4, quota=3, engine=0.5, whole_cores=True)
    last = simulate(whole, [A, B], {A.unit: Load(1), B.unit: Load(4)}, 5)[-1]
    assert last.used[A.unit] >= 0.95


def test_a_slice_nobody_asked_for_is_capped_like_a_lease() -> None:
    stray = UnitName("jupyter-workload-stray.slice")
    loads = {A.unit: Load(1), stray: Load(2)}
    machine, quotas = machine_for(TWO_CPUS, [A], loads)
    before = snapshot(machine, quotas, 0.0)
    machine.run(quotas)
    found = caps(TWO_CPUS, [A], before, snapshot(machine, quotas, 2.0), {})
    assert 0 < found[stray] < cpus(1.65)


# --- judging from snapshots ----------------------------------------------------------------


def _reading(at: float, used: Mapping[UnitName, float], throttled: int = 0) -> Observed:
    """What snapshots without PSI show: cores used since 0, and periods of the workload's quota."""
    rows = [
        Cgroup(
            unit=unit,
            limits=Limits(),
            usage=Usage(
                cpu_usec=round(cores * at * CORE),
                periods_throttled=throttled if unit == WORKLOAD else 0,
            ),
            populated=True,
        )
        for unit, cores in {WORKLOAD: sum(used.values()), **used}.items()
    ]
    return observed(rows, at=at)


def test_without_psi_the_throttled_periods_tell_who_is_hindered() -> None:
    used = {A.unit: 0.8, B.unit: 0.85}
    before, now = _reading(0.0, used), _reading(2.0, used, throttled=20)
    assert caps(TWO_CPUS, [A, B], before, now, {})[B.unit] < cpus(0.85)


def test_without_psi_a_sleeper_wants_nothing() -> None:
    used = {A.unit: 0.001, B.unit: 1.64}
    before, now = _reading(0.0, used), _reading(2.0, used, throttled=20)
    assert caps(TWO_CPUS, [A, B], before, now, {}) == {}


def test_caps_stay_as_they_are_while_there_is_nothing_to_judge_by() -> None:
    now = _reading(2.0, {A.unit: 1.0})
    before = {B.unit: cpus(0.5), lease("gone").unit: cpus(0.1)}
    assert caps(TWO_CPUS, [A, B], None, now, before) == {B.unit: cpus(0.5)}
    assert caps(TWO_CPUS, [A, B], _reading(1.5, {}), now, before) == {B.unit: cpus(0.5)}


def test_a_cap_moves_only_by_more_than_two_per_cent() -> None:
    loads = {A.unit: Load(1), B.unit: Load(2)}
    machine, quotas = machine_for(TWO_CPUS, [A, B], loads)
    before = snapshot(machine, quotas, 0.0)
    machine.run(quotas)
    now = snapshot(machine, quotas, 2.0)
    fresh = caps(TWO_CPUS, [A, B], before, now, {})[B.unit]
    for change, kept in ((0.99, True), (1.005, True), (0.97, False), (1.05, False)):
        old = Cpus(round(fresh * change))
        assert (caps(TWO_CPUS, [A, B], before, now, {B.unit: old})[B.unit] == old) is kept


def test_caps_in_force_that_exceed_a_limit_together_are_all_made_anew() -> None:
    leases = [A, *(lease(f"b{number}") for number in range(3))]
    loads = {one.unit: Load(2) for one in leases}
    machine, quotas = machine_for(TWO_CPUS, leases, loads)
    before = snapshot(machine, quotas, 0.0)
    machine.run(quotas)
    now = snapshot(machine, quotas, 2.0)
    fresh = caps(TWO_CPUS, leases, before, now, {})
    larger = {unit: Cpus(cap * 1019 // 1000) for unit, cap in fresh.items()}
    assert caps(TWO_CPUS, leases, before, now, larger) == fresh


# --- dues and weights ----------------------------------------------------------------------


def test_dues_share_the_surplus_equally_and_lend_what_is_not_wanted() -> None:
    leases = [A, B, lease("c")]
    tree = cpu_tree(TWO_CPUS, leases)
    due = dues(tree, {A.unit: cpus(2), B.unit: cpus(0.1), leases[2].unit: cpus(2)})
    assert due[A.unit] == cpus(1.275)
    assert due[B.unit] == cpus(0.1)
    assert due[leases[2].unit] == cpus(0.275)


def test_promises_that_a_reload_made_too_many_are_cut_alike() -> None:
    leases = [lease("a", promised=(1.4, 0)), lease("b", promised=(0.7, 0))]
    tree = cpu_tree(config(cores=2, quota=1.7, engine=0.2), leases)
    due = dues(tree, {one.unit: cpus(2) for one in leases})
    assert due[leases[0].unit] == cpus(1)
    assert due[leases[1].unit] == cpus(0.5)


def test_the_engine_gets_above_its_floor_what_the_workload_leaves() -> None:
    tree = cpu_tree(TWO_CPUS, [A])
    assert dues(tree, {A.unit: cpus(1), ENGINE: cpus(2)})[ENGINE] == cpus(0.75)
    assert dues(tree, {A.unit: cpus(2), ENGINE: cpus(2)})[ENGINE] == cpus(0.1)


def test_room_is_never_taken_from_what_was_promised() -> None:
    leases = [lease("a", promised=(1, 0)), lease("b", promised=(0.65, 0))]
    tight = with_room(cpu_tree(TWO_CPUS, leases), 5)
    assert tight[WORKLOAD].limit == cpus(1.65)
    assert tight[ROOT].limit == cpus(1.75)
    assert with_room(cpu_tree(TWO_CPUS, [A]), 10)[WORKLOAD].limit == cpus(1.6335)


def test_weights_are_in_proportion_to_guarantee_and_an_equal_share() -> None:
    host = {"system.slice": 100, "user.slice": 100}
    found = weights(TWO_CPUS, [A, B], [], host, PRESSED)
    assert (found[WORKLOAD], found[ENGINE]) == (165, 80)
    assert found[A.unit] == round(132.5)
    assert found[B.unit] == round(32.5)
    assert found[next(iter(ancestors(B.unit)))] == found[B.unit]
    assert found[ROOT] == 1680
    assert weights(TWO_CPUS, [A, B], [], host)[ROOT] == 60


def test_an_engine_that_goes_first_still_weighs_no_more_than_all_who_use_it() -> None:
    def found(engine: float, contention: Contention = CALM) -> tuple[int, int]:
        of = weights(config(cores=2, quota=1.8, engine=engine), [], [], {}, contention)
        return of[WORKLOAD], of[ENGINE]

    assert found(0.1) == (170, 80)
    assert found(0.5) == (130, 130)
    assert found(1.0) == (80, 100), "it is due more than they"
    assert found(0.5, CAPPED) == (130, 50)


def test_under_caps_who_was_promised_nothing_waits_for_the_others() -> None:
    host = {"system.slice": 100}
    found = weights(TWO_CPUS, [A, B], [], host, CAPPED)
    assert (found[WORKLOAD], found[ENGINE]) == (165, 10)
    assert found[A.unit] == round(132.5)
    assert found[B.unit] == found[user_slice(B.profile, B.user)] == 1
    assert weights(TWO_CPUS, [], [], host, CAPPED)[ADOPTED] == 165


def test_one_thread_that_was_promised_a_core_and_never_sleeps_goes_before_all_others() -> None:
    machine, quotas = machine_for(TWO_CPUS, [A, B], {A.unit: Load(1), B.unit: Load(2)})
    before = snapshot(machine, quotas, 0.0)
    machine.run(quotas)
    now = snapshot(machine, quotas, 2.0)
    assert hurried(TWO_CPUS, [A, B], before, now, frozenset()) == {A.unit}
    assert hurried(TWO_CPUS, [A, B], None, now, frozenset({A.unit})) == {A.unit}
    assert hurried(TWO_CPUS, [B], before, now, frozenset({A.unit})) == frozenset()
    in_a_hurry = replace(CAPPED, hurried=frozenset({A.unit}))
    found = weights(TWO_CPUS, [A, B], [], {"system.slice": 100}, in_a_hurry)
    assert found[A.unit] == found[user_slice(A.profile, A.user)] == round(132.5 * 8)
    assert (found[ROOT], found[WORKLOAD], found[ENGINE], found[B.unit]) == (840, 165, 10, 1)
    alone = weights(TWO_CPUS, [A, B], [], {}, replace(in_a_hurry, caps={}))
    assert (alone[ROOT], alone[A.unit]) == (60, round(132.5))
    assert not in_a_hurry.settles_as(CAPPED)


def test_the_host_goes_first_until_it_has_taken_from_a_promise_for_some_time() -> None:
    host = Load(2)
    most = lease("most", promised=(1.5, 0))
    loads = {most.unit: Load(2), B.unit: Load(2)}
    history = simulate(TWO_CPUS, [most, B], loads, 10, host=host)
    short = [tick.used[most.unit] < 0.95 * 1.5 for tick in history]
    assert short == [True] * PRESSING + [False] * (10 - PRESSING)
    # who was promised nothing has to give way
    history = simulate(TWO_CPUS, [B], {B.unit: Load(2)}, 10, host=host)
    assert all(tick.used[B.unit] == pytest.approx(2 * 60 / 160, rel=0.02) for tick in history)


def test_the_host_presses_no_more_once_it_has_hardly_had_to_wait_for_a_while() -> None:
    def reading(at: float, busy: float, waiting: float | None = None) -> Observed:
        rows = _reading(at, {A.unit: 0.5}, throttled=round(at * 10))
        waited = None if waiting is None else round(waiting * at * CORE)
        return replace(rows, host=HostUsage(cpu_usec=round(busy * at * CORE), waiting_usec=waited))

    def pressed(busy: float, before: int, waiting: float | None = None) -> int:
        readings = reading(2.0, busy, waiting), reading(4.0, busy, waiting)
        return pressed_for(TWO_CPUS, [A], *readings, before)

    assert [pressed(2.0, before, 0.5) for before in range(7)] == [1, 6, 6, 6, 6, 6, 6]
    assert [pressed(1.8, before, 0.1) for before in range(7)] == [0, 0, 1, 2, 3, 4, 5]
    assert pressed(2.0, 6, 0.1) == 5, "it has what it wants, on a machine that is full"
    assert pressed(1.7, 2, 0.5) == 6, "it waits, and CPUs rest for moments"
    assert pressed(1.4, 2, 0.5) == 1, "it waits for something else than a CPU"
    # without PSI nothing but the idle CPU tells
    assert (pressed(2.0, 3), pressed(1.8, 3)) == (6, 2)
    assert pressed_for(TWO_CPUS, [A], None, reading(4.0, 2.0), 2) == 2
    assert pressed_for(TWO_CPUS, [A], reading(3.5, 2.0), reading(4.0, 2.0), 2) == 2
    idle = replace(reading(2.0, 2.0), cgroups={})
    assert pressed_for(TWO_CPUS, [A], idle, reading(4.0, 2.0), 1) == 1
    # nobody is promised anything any more
    assert pressed_for(TWO_CPUS, [B], reading(2.0, 2.0), reading(4.0, 2.0), 2) == 0


def test_a_machine_is_full_by_its_idle_time_whatever_the_timer_has_counted() -> None:
    def reading(at: float, counted: float, idle: float) -> Observed:
        host = HostUsage(cpu_usec=round(counted * at * CORE), idle_usec=round(idle * at * CORE))
        return replace(_reading(at, {}), host=host)

    def full(counted: float, idle: float) -> float:
        return machine_full(cpus(2), reading(2.0, counted, idle), reading(4.0, counted, idle))

    assert full(counted=1.4, idle=0.0) == 1.0
    assert full(counted=2.0, idle=0.3) == 0.0
    assert 0.0 < full(counted=2.0, idle=0.15) < 1.0


def test_containers_nobody_asked_for_count_as_one_leaf_once_there_are_any() -> None:
    assert weights(TWO_CPUS, [A, B], [ADOPTED], {})[ADOPTED] == round(65 / 3)
    assert weights(TWO_CPUS, [A, B], [], {})[ADOPTED] == round(32.5)
    assert weights(TWO_CPUS, [], [], {})[ADOPTED] == 165


def test_a_lease_that_is_not_live_has_no_weight() -> None:
    waiting = lease("q", state=LeaseState.QUEUED)
    assert waiting.unit not in weights(TWO_CPUS, [waiting], [], {})
    assert waiting.unit not in cpu_tree(TWO_CPUS, [waiting])


def test_weights_stay_within_the_kernels_bounds_on_any_machine() -> None:
    huge = config(cores=400, quota=399.9, engine=2)
    many = [lease(f"u{number}", promised=(0, 0)) for number in range(3)]
    found = weights(huge, many, [], {"system.slice": 10_000}, PRESSED)
    assert all(1 <= weight <= 10_000 for weight in found.values())
    assert found[ROOT] == 10_000
    assert weights(config(cores=2, quota=2), [], [], {}, PRESSED)[ROOT] == 10_000
    assert weights(TWO_CPUS, [], [], {}, PRESSED)[ROOT] == 100


def test_a_users_total_bounds_all_their_servers_together() -> None:
    tree = cpu_tree(TWO_CPUS, [A, B], {"a": (cpus(0.5), Bytes(0))})
    assert tree[A.unit].limit == tree[A.unit].guarantee == cpus(0.5)
    assert tree[B.unit].limit == cpus(1.65)


def test_a_lease_of_a_profile_that_is_gone_is_bounded_by_the_workload() -> None:
    orphan = lease("o", "gone")
    assert cpu_tree(TWO_CPUS, [orphan])[orphan.unit].limit == cpus(1.65)
