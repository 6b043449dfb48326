"""The difference between wish and world, on a world that does what it is told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, assert_never

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enforcer.desired import desired
from enforcer.easing import Easing, Known
from enforcer.model import (
    Action,
    Cause,
    Cgroup,
    Config,
    Container,
    ContainerLimits,
    CreateSlice,
    Deferred,
    Desired,
    Lease,
    Limits,
    Observed,
    RemoveSlice,
    ReportDrift,
    SetLimits,
    SetOomScoreAdj,
    UpdateContainer,
    Usage,
)
from enforcer.names import (
    ADOPTED,
    ENGINE,
    ROOT,
    WORKLOAD,
    UnitName,
    ancestors,
    parent,
    profile_slice,
    user_slice,
)
from enforcer.quantities import Bytes, Cpus
from enforcer.reconcile import Reconciled, reconcile
from enforcer.shares import Contention
from tests.examples import examples
from tests.unit.test_desired import Admitted, admitted
from tests.unit.worlds import (
    LARGE,
    SMALL,
    TOP,
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
TOTALS = {"alice": (cpus(4), gib(8))}
NOW = Easing(now=1000.0)
GRACE = Easing(now=1000.0, grace_seconds=60.0)


def wish(
    *leases: Lease, caps: Mapping[UnitName, Cpus] | None = None, of: Config = CONFIG
) -> Desired:
    return desired(of, leases, observed(), contention=Contention(caps=caps or {}), totals=TOTALS)


def known_of(wanted: Desired, capped: Iterable[UnitName] = ()) -> Known:
    return Known(
        slices={unit: one.limits for unit, one in wanted.slices.items()},
        containers={one.id: one.limits for one in wanted.containers.values()},
        capped=frozenset(capped),
    )


def act(wanted: Desired, world: Observed, known: Known | None = None) -> tuple[Action, ...]:
    return reconcile(wanted, world, known=known or Known(), easing=NOW).actions


def apply(actions: Iterable[Action], world: Observed) -> Observed:
    """Return the world after the actions, with the kernel's habits."""
    cgroups, containers = dict(world.cgroups), dict(world.containers or {})
    for action in actions:
        match action:
            case CreateSlice():
                assert parent(action.unit) is None or parent(action.unit) in cgroups
                cgroups[action.unit] = Cgroup(
                    unit=action.unit, limits=action.limits, usage=Usage(), populated=False
                )
            case SetLimits():
                one = cgroups[action.unit]
                values = {name: getattr(action.limits, name) for name in action.fields}
                cgroups[action.unit] = replace(one, limits=replace(one.limits, **values))
            case RemoveSlice():
                assert not cgroups.pop(action.unit).populated
            case UpdateContainer():
                box = containers[action.container_id]
                cpu = action.limits.cpu
                rounded = None if cpu is None else Cpus(-(-cpu // 10_000) * 10_000)
                kernel = replace(action.limits, cpu=rounded, swap=None)
                containers[box.id] = replace(box, kernel=kernel)
            case SetOomScoreAdj():
                box = containers[action.container_id]
                containers[box.id] = replace(box, oom_score_adj=action.value)
            case ReportDrift():
                pass
            case _:
                assert_never(action)
    return replace(world, cgroups=cgroups, containers=containers)


def fields(actions: Iterable[Action]) -> list[tuple[UnitName, tuple[str, ...], Cause]]:
    return [(one.unit, one.fields, one.cause) for one in actions if isinstance(one, SetLimits)]


# --- slices --------------------------------------------------------------------------------


def test_what_is_missing_is_made_parents_first() -> None:
    actions = act(wish(ALICE), observed())
    made = [one.unit for one in actions if isinstance(one, CreateSlice)]
    assert made[:4] == list(TOP)
    assert made[-1] == ALICE.unit
    assert all(isinstance(one, CreateSlice) and one.cause is Cause.NEW for one in actions)


def test_nothing_is_done_where_the_world_is_as_it_ought_to_be() -> None:
    wanted = wish(ALICE)
    assert act(wanted, observed(as_desired(wanted))) == ()


def _bent(wanted: Desired, unit: UnitName, **values: object) -> Observed:
    """The world as wished for, but for one slice."""
    cgroups = {one.unit: one for one in as_desired(wanted)}
    cgroup = cgroups[unit]
    changed: dict[str, Any] = dict(values)
    cgroups[unit] = replace(cgroup, limits=replace(cgroup.limits, **changed))
    return observed(cgroups.values())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cpu_quota", None),
        ("cpu_weight", 10_000),
        ("memory_min", Bytes(0)),
        ("memory_max", None),
        ("memory_high", gib(1)),
        ("swap_max", None),
        ("tasks_max", 5),
        ("cpus", "0-1"),
    ],
)
def test_what_somebody_else_changed_is_drift_and_is_put_back(field: str, value: object) -> None:
    wanted = wish(ALICE)
    world = _bent(wanted, ALICE.unit, **{field: value})
    actions = act(wanted, world, known_of(wanted))
    assert fields(actions) == [(ALICE.unit, (field,), Cause.DRIFT)]
    assert act(wanted, apply(actions, world), known_of(wanted)) == ()


def test_what_is_no_longer_on_disk_is_set_for_good_though_the_kernel_has_it() -> None:
    wanted = wish(ALICE)
    world = replace(observed(as_desired(wanted)), unlasting=frozenset({ROOT, ALICE.unit}))
    (action,) = act(wanted, world, known_of(wanted))
    assert isinstance(action, SetLimits)
    # the lease's slice never was on disk
    assert (action.unit, action.cause, action.lasting) == (ROOT, Cause.DRIFT, True)
    assert {"cpu_quota", "memory_max", "swap_max", "tasks_max"} <= set(action.fields)
    # nobody used these, and to set them would switch a controller on
    assert not {"io_weight", "cpus"} & set(action.fields)
    assert fields(act(wanted, world)) == [(ROOT, action.fields, Cause.CHANGED)]


def test_what_is_used_is_set_for_good_as_well() -> None:
    wanted = wish(ALICE)
    root = wanted.slices[ROOT]
    limits = replace(root.limits, io_weight=100, cpus="0-1")
    wanted = replace(wanted, slices={**wanted.slices, ROOT: replace(root, limits=limits)})
    world = replace(observed(as_desired(wanted)), unlasting=frozenset({ROOT}))
    (action,) = act(wanted, world, known_of(wanted))
    assert isinstance(action, SetLimits)
    assert {"io_weight", "cpus"} <= set(action.fields)


def test_our_own_change_of_mind_is_a_change() -> None:
    before = wish(ALICE)
    after = wish(replace(ALICE, grant=replace(ALICE.grant, mem_limit=gib(5))))
    actions = act(after, observed(as_desired(before)), known_of(before))
    assert fields(actions) == [(ALICE.unit, ("memory_max",), Cause.CHANGED)]


def test_a_difference_found_at_the_start_is_a_change() -> None:
    wanted = wish(ALICE)
    world = _bent(wanted, ALICE.unit, cpu_weight=5)
    assert fields(act(wanted, world)) == [(ALICE.unit, ("cpu_weight",), Cause.CHANGED)]


def test_a_cap_and_its_release_are_shares() -> None:
    free, capped = wish(ALICE), wish(ALICE, caps={ALICE.unit: cpus(0.5)})
    for before, after in ((free, capped), (capped, free)):
        known = known_of(before, [ALICE.unit])
        actions = act(after, observed(as_desired(before)), known)
        assert (ALICE.unit, ("cpu_quota",), Cause.SHARE) in fields(actions)
        # the engine weighs what it is due while somebody is capped
        assert {unit for unit, _, _ in fields(actions)} == {ALICE.unit, ENGINE}


def _quotas(actions: Iterable[Action]) -> list[tuple[UnitName, Cause, bool]]:
    """Of which slices the CPU quota is set, why, and whether for good."""
    sets = (one for one in actions if isinstance(one, SetLimits) and "cpu_quota" in one.fields)
    return [(one.unit, one.cause, one.lasting) for one in sets]


@pytest.mark.parametrize("unit", [ENGINE, ADOPTED])
def test_a_cap_is_not_for_good_and_its_release_is(unit: UnitName) -> None:
    free, capped = wish(ALICE), wish(ALICE, caps={unit: cpus(0.5)})
    tighter = wish(ALICE, caps={unit: cpus(0.4)})
    for before, after, lasting in (
        (free, capped, False),
        (capped, tighter, False),
        (tighter, free, True),
    ):
        actions = act(after, observed(as_desired(before)), known_of(before, [unit]))
        assert _quotas(actions) == [(unit, Cause.SHARE, lasting)]


def test_a_cap_that_is_put_back_is_not_for_good_while_what_else_is_put_back_is() -> None:
    capped = wish(ALICE, caps={ADOPTED: cpus(0.5)})
    world = _bent(capped, ADOPTED, cpu_quota=None, swap_max=None)
    found = act(capped, world, known_of(capped, [ADOPTED]))
    lasting = {one.fields: one.lasting for one in found if isinstance(one, SetLimits)}
    assert lasting == {("cpu_quota",): False, ("swap_max",): True}
    assert {cause for _, _, cause in fields(found)} == {Cause.DRIFT}


def test_a_cap_in_force_is_not_set_for_good_with_the_rest() -> None:
    capped = wish(ALICE, caps={ENGINE: cpus(0.5)})
    world = replace(observed(as_desired(capped)), unlasting=frozenset({ENGINE}))
    (action,) = act(capped, world, known_of(capped, [ENGINE]))
    assert isinstance(action, SetLimits)
    assert action.lasting
    assert "memory_min" in action.fields
    assert "cpu_quota" not in action.fields


def test_a_cap_that_was_kept_by_mistake_is_lifted_for_good() -> None:
    capped = wish(ALICE, caps={ENGINE: cpus(0.5)})
    actions = act(wish(ALICE), observed(as_desired(capped)))
    assert _quotas(actions) == [(ENGINE, Cause.CHANGED, True)]


def test_one_slice_is_told_apart_by_cause_and_by_direction_and_repairs_come_first() -> None:
    before = wish(ALICE)
    smaller = replace(ALICE, grant=replace(ALICE.grant, mem_limit=gib(3), cpu_limit=cpus(3)))
    world = _bent(before, ALICE.unit, cpu_weight=7)
    found = fields(act(wish(smaller), world, known_of(before)))
    assert found == [
        (ALICE.unit, ("cpu_weight",), Cause.DRIFT),
        (ALICE.unit, ("cpu_quota",), Cause.CHANGED),
        (ALICE.unit, ("memory_max",), Cause.CHANGED),
    ]


def test_what_grows_grows_from_the_root_and_what_shrinks_from_the_leaves() -> None:
    little = wish(lease("alice", promised=(0, 1)))
    much = wish(lease("alice", promised=(0, 3)))
    path = [ROOT, WORKLOAD, profile_slice("small"), user_slice("small", "alice"), ALICE.unit]
    up = fields(act(much, observed(as_desired(little)), known_of(little)))
    down = fields(act(little, observed(as_desired(much)), known_of(much)))
    assert [unit for unit, names, _ in up if names == ("memory_min",)] == path
    assert [unit for unit, names, _ in down if names == ("memory_min",)] == path[::-1]


def test_an_io_weight_counts_only_where_both_sides_know_one() -> None:
    weighed = config(replace(CONFIG.profiles["small"], io_weight=300))
    wanted = wish(ALICE, of=weighed)
    assert act(wanted, _bent(wanted, ALICE.unit, io_weight=None)) == ()
    assert fields(act(wanted, _bent(wanted, ALICE.unit, io_weight=100))) == [
        (ALICE.unit, ("io_weight",), Cause.CHANGED)
    ]
    plain = wish(ALICE)
    assert act(plain, _bent(plain, ALICE.unit, io_weight=100)) == ()


@pytest.mark.parametrize(("there", "cause"), [(100, Cause.CHANGED), (500, Cause.DRIFT)])
def test_the_kernels_own_io_weight_is_nobodys_doing(there: int, cause: Cause) -> None:
    plain = wish(ALICE)
    weighed = wish(ALICE, of=config(replace(CONFIG.profiles["small"], io_weight=300)))
    actions = act(weighed, _bent(weighed, ALICE.unit, io_weight=there), known_of(plain))
    assert fields(actions) == [(ALICE.unit, ("io_weight",), cause)]


def test_a_leaf_that_may_go_is_removed_once_it_is_empty() -> None:
    wanted = replace(wish(), removable=frozenset({ALICE.unit, lease("never").unit}))
    there = (*as_desired(wanted), *as_desired(wish(ALICE))[-1:])
    assert act(wanted, observed(there)) == ()
    empty = (*there[:-1], replace(there[-1], populated=False))
    assert act(wanted, observed(empty)) == (RemoveSlice(unit=ALICE.unit),)


def test_what_only_an_operator_can_mend_is_handed_on() -> None:
    report = ReportDrift(what="engine-outside", subject="x", message="y", command="z")
    wanted = replace(wish(), reports=(report,))
    assert act(wanted, observed(as_desired(wanted))) == (report,)


# --- containers ----------------------------------------------------------------------------


def _with_container(kernel: ContainerLimits | None, score: int | None = None) -> Observed:
    box = replace(container("box", ALICE), kernel=kernel, oom_score_adj=score)
    wanted = desired(CONFIG, [ALICE], observed(containers=[box]), totals=TOTALS)
    return observed(as_desired(wanted, empty=[ADOPTED]), [box])


def _wish_in(world: Observed) -> Desired:
    return desired(CONFIG, [ALICE], world, totals=TOTALS)


def test_a_scope_is_mended_through_docker_and_runcs_rounding_is_no_drift() -> None:
    right = ContainerLimits(cpu=cpus(2.009), memory=gib(4), cpus="0-7")
    for fine in (right, replace(right, cpus="")):
        world = _with_container(fine, score=-250)
        assert act(_wish_in(world), world) == ()
    for wrong in (
        replace(right, cpu=cpus(2.01)),
        replace(right, cpu=None),
        replace(right, memory=gib(5)),
        replace(right, tasks=5),
        replace(right, cpu_period_usec=10_000),
        replace(right, cpus="0"),
        replace(right, memory_high=gib(1)),
    ):
        world = _with_container(wrong, score=-250)
        wanted = _wish_in(world)
        (action,) = act(wanted, world, known_of(wanted))
        assert isinstance(action, UpdateContainer)
        assert action.cause is Cause.DRIFT
        assert act(wanted, apply([action], world)) == ()


def test_a_new_wish_for_a_scope_is_a_change() -> None:
    world = _with_container(ContainerLimits(cpu=cpus(2), memory=gib(1)), score=-250)
    (unknown,) = act(_wish_in(world), world)
    known = Known(containers={"box0123456789abcdef": ContainerLimits(cpu=cpus(2), memory=gib(1))})
    (changed,) = act(_wish_in(world), world, known)
    assert isinstance(unknown, UpdateContainer)
    assert isinstance(changed, UpdateContainer)
    assert unknown.cause is changed.cause is Cause.CHANGED


def test_a_leaf_grows_before_its_scope_and_shrinks_after_it() -> None:
    small = _with_container(ContainerLimits(cpu=cpus(2), memory=gib(4)), score=-250)
    bigger = replace(ALICE, grant=replace(ALICE.grant, mem_limit=gib(6)))
    grown = desired(CONFIG, [bigger], small, totals=TOTALS)
    up = act(grown, small)
    assert [type(one) for one in up] == [SetLimits, UpdateContainer]
    down = act(_wish_in(small), apply(up, small))
    assert [type(one) for one in down] == [UpdateContainer, SetLimits]


def test_the_oom_score_is_written_where_it_is_read_and_differs() -> None:
    right = ContainerLimits(cpu=cpus(2), memory=gib(4))
    world = _with_container(right, score=0)
    wanted = _wish_in(world)
    (action,) = act(wanted, world)
    assert isinstance(action, SetOomScoreAdj)
    assert action.value == -250
    assert act(wanted, apply([action], world)) == ()
    unread = _with_container(right, score=None)
    assert act(_wish_in(unread), unread) == ()


def test_a_container_that_is_just_starting_or_gone_is_left_alone() -> None:
    world = _with_container(None)
    wanted = _wish_in(world)
    assert act(wanted, world) == ()
    assert act(wanted, replace(world, containers={})) == ()
    assert act(wanted, replace(world, containers=None)) == ()


# --- easing --------------------------------------------------------------------------------


def _using(wanted: Desired, used: Bytes, *boxes: Container) -> Observed:
    usage = {ALICE.unit: Usage(memory_current=used)}
    return observed(as_desired(wanted, usage=usage), boxes)


def _resized(memory: float) -> Lease:
    return replace(ALICE, grant=replace(ALICE.grant, mem_limit=gib(memory)))


def ease(wanted: Desired, world: Observed, known: Known, easing: Easing = NOW) -> Reconciled:
    return reconcile(wanted, world, known=known, easing=easing)


def test_a_lowered_limit_waits_until_usage_allows() -> None:
    before, after = wish(ALICE), wish(_resized(3))
    full = ease(after, _using(before, gib(3.5)), known_of(before))
    assert full.actions == ()
    assert full.eased.waiting == (
        Deferred(
            subject=ALICE.unit, limit="memory_max", wanted=gib(3), deadline=None, given=gib(4)
        ),
    )
    free = ease(after, _using(before, gib(2.8)), known_of(before))
    assert fields(free.actions) == [(ALICE.unit, ("memory_max",), Cause.CHANGED)]
    assert free.eased.waiting == ()


def test_after_the_grace_it_is_applied_whatever_is_used() -> None:
    before, after = wish(ALICE), wish(_resized(3))
    world = _using(before, gib(3.5))
    first = ease(after, world, known_of(before), GRACE)
    assert first.eased.waiting[0].deadline == 1060.0
    later = replace(GRACE, now=1059.0, deferred=first.eased.waiting)
    assert ease(after, world, known_of(before), later).eased.waiting == first.eased.waiting
    over = replace(GRACE, now=1060.0, deferred=first.eased.waiting)
    result = ease(after, world, known_of(before), over)
    assert fields(result.actions) == [(ALICE.unit, ("memory_max",), Cause.CHANGED)]
    # it is remembered until the kernel has it
    assert not result.eased.waiting
    assert result.eased.ending == first.eased.waiting
    assert not ease(after, _using(after, gib(3.5)), known_of(after), over).eased.ending


def test_a_deferred_limit_that_is_lowered_further_has_a_new_grace() -> None:
    before = wish(ALICE)
    world = _using(before, gib(3.9))
    first = ease(wish(_resized(3)), world, known_of(before), GRACE)
    later = replace(GRACE, now=1030.0, deferred=first.eased.waiting)
    looser = ease(wish(_resized(3.5)), world, known_of(before), later)
    assert looser.eased.waiting == (
        Deferred(
            subject=ALICE.unit, limit="memory_max", wanted=gib(3.5), deadline=1060.0, given=gib(4)
        ),
    )
    tighter = ease(wish(_resized(2)), world, known_of(before), later)
    assert tighter.eased.waiting == (
        Deferred(
            subject=ALICE.unit, limit="memory_max", wanted=gib(2), deadline=1090.0, given=gib(4)
        ),
    )


def test_a_grace_that_is_set_or_taken_away_counts_for_a_limit_that_waits_already() -> None:
    before, after = wish(ALICE), wish(_resized(3))
    world = _using(before, gib(3.5))
    for_ever = ease(after, world, known_of(before), replace(GRACE, grace_seconds=None))
    assert for_ever.eased.waiting[0].deadline is None
    later = replace(GRACE, now=2000.0, deferred=for_ever.eased.waiting)
    given = ease(after, world, known_of(before), later)
    assert given.eased.waiting[0].deadline == 2060.0
    taken = replace(GRACE, now=2061.0, grace_seconds=None, deferred=given.eased.waiting)
    assert ease(after, world, known_of(before), taken).eased.waiting[0].deadline is None


def test_a_first_limit_and_a_raise_never_wait() -> None:
    wanted = wish(ALICE)
    usage = Usage(memory_current=gib(50))
    bare = [replace(one, limits=Limits(), usage=usage) for one in as_desired(wanted)]
    first = ease(wanted, observed(bare), Known())
    assert first.eased.waiting == ()
    unlimited = Known(slices=dict.fromkeys(wanted.slices, Limits()))
    assert ease(wanted, observed(bare), unlimited).eased.waiting == ()
    raised = ease(wish(_resized(6)), _using(wanted, gib(3.99)), known_of(wanted))
    assert fields(raised.actions) == [(ALICE.unit, ("memory_max",), Cause.CHANGED)]


def _raised(wanted: Desired, found: Bytes | None, used: float) -> Observed:
    """The world as wished for, but that somebody raised a leaf's memory limit."""
    world = _bent(wanted, ALICE.unit, memory_max=found)
    cgroup = replace(world.cgroups[ALICE.unit], usage=Usage(memory_current=gib(used)))
    return replace(world, cgroups={**world.cgroups, ALICE.unit: cgroup})


def _memory(result: Reconciled) -> list[tuple[Bytes | None, Cause]]:
    """What memory limits are set, and why."""
    sets = (one for one in result.actions if isinstance(one, SetLimits))
    return [(one.limits.memory_max, one.cause) for one in sets if "memory_max" in one.fields]


@pytest.mark.parametrize("found", [None, gib(8)])
@pytest.mark.parametrize("used", [0, 3.9, 4])
def test_a_limit_somebody_raised_is_put_back_as_soon_as_it_fits(
    found: Bytes | None, used: float
) -> None:
    wanted = wish(ALICE)
    back = ease(wanted, _raised(wanted, found, used), known_of(wanted))
    assert _memory(back) == [(gib(4), Cause.DRIFT)]
    assert not back.eased.waiting
    assert not any(isinstance(one, ReportDrift) for one in back.actions)


@pytest.mark.parametrize(("found", "said"), [(None, "taken away"), (gib(8), "raised to 8 GiB")])
def test_one_that_would_kill_waits_and_is_reported(found: Bytes | None, said: str) -> None:
    wanted = wish(ALICE)
    full = _raised(wanted, found, 7)
    waiting = ease(wanted, full, known_of(wanted), GRACE)
    (report,) = waiting.actions
    assert isinstance(report, ReportDrift)
    assert (report.what, report.subject) == ("memory-raised", ALICE.unit)
    assert f", 4 GiB, was {said}, and 7 GiB are used" in report.message
    assert report.command.endswith(f"'{ALICE.unit}' MemoryMax={gib(4)}")
    assert waiting.eased.waiting == (
        Deferred(
            subject=ALICE.unit, limit="memory_max", wanted=gib(4), deadline=1060.0, given=gib(4)
        ),
    )
    over = replace(GRACE, now=1060.0, deferred=waiting.eased.waiting)
    assert _memory(ease(wanted, full, known_of(wanted), over)) == [(gib(4), Cause.DRIFT)]


def test_a_limit_that_waits_is_not_reported_unless_somebody_else_raised_it() -> None:
    before, after = wish(ALICE), wish(_resized(3))
    assert ease(after, _using(before, gib(3.5)), known_of(before)).actions == ()
    # who raised it before we came is not known
    assert ease(before, _raised(before, gib(8), 7), Known()).actions == ()


@pytest.mark.parametrize("used", [2.9, 3.5])
def test_one_that_somebody_raised_while_a_lower_one_waits_is_put_back_first(used: float) -> None:
    before, after = wish(ALICE), wish(_resized(3))
    back = ease(after, _raised(before, None, used), known_of(before))
    assert _memory(back) == [(gib(4), Cause.DRIFT)]
    assert [one.wanted for one in back.eased.waiting] == [gib(3)]
    assert not any(isinstance(one, ReportDrift) for one in back.actions)
    free = ease(after, _raised(before, None, 2.8), known_of(before))
    assert _memory(free) == [(gib(3), Cause.DRIFT)]


def test_one_that_somebody_raised_beyond_a_raise_of_ours_is_put_back_to_that() -> None:
    before, after = wish(ALICE), wish(_resized(6))
    back = ease(after, _raised(before, None, 5.9), known_of(before))
    assert _memory(back) == [(gib(6), Cause.DRIFT)]


def test_what_the_kernel_has_while_a_limit_waits_is_not_set_for_good() -> None:
    wanted = wish(ALICE)
    world = _bent(wanted, ROOT, memory_max=None)
    cgroup = replace(world.cgroups[ROOT], usage=Usage(memory_current=gib(61)))
    cgroups = {**world.cgroups, ROOT: cgroup}
    reverted = replace(world, cgroups=cgroups, unlasting=frozenset({ROOT}))
    (setting,) = (
        one
        for one in ease(wanted, reverted, known_of(wanted)).actions
        if isinstance(one, SetLimits)
    )
    assert setting.lasting
    assert "memory_max" not in setting.fields


def _swapping(limit: float, *boxes: Container) -> Desired:
    """Alice may swap out so much."""
    of = config(replace(SMALL, swap_limit=gib(limit)), LARGE)
    return desired(of, [ALICE], observed(containers=boxes), totals=TOTALS)


def _swapped(wanted: Desired, swap: float, memory: float = 4, *boxes: Container) -> Observed:
    usage = Usage(memory_current=gib(memory), swap_current=gib(swap))
    return observed(as_desired(wanted, usage={ALICE.unit: usage}), boxes)


def _swap(result: Reconciled) -> list[tuple[Bytes | None, Cause]]:
    """What swap limits are set, and why."""
    sets = (one for one in result.actions if isinstance(one, SetLimits))
    return [(one.limits.swap_max, one.cause) for one in sets if "swap_max" in one.fields]


def test_a_lowered_swap_limit_waits_until_usage_allows_or_its_grace_is_over() -> None:
    before, after = _swapping(2), _swapping(1)
    full = _swapped(before, 1.5)
    waiting = ease(after, full, known_of(before), GRACE)
    assert waiting.actions == ()
    deferred = Deferred(
        subject=ALICE.unit, limit="swap_max", wanted=gib(1), deadline=1060.0, given=gib(2)
    )
    assert waiting.eased.waiting == (deferred,)
    over = replace(GRACE, now=1060.0, deferred=waiting.eased.waiting)
    for result in (
        ease(after, full, known_of(before), over),
        ease(after, _swapped(before, 0.9), known_of(before)),
    ):
        assert _swap(result) == [(gib(1), Cause.CHANGED)]
        assert not result.eased.waiting
    raised = ease(before, _swapped(after, 1), known_of(after))
    assert _swap(raised) == [(gib(2), Cause.CHANGED)]


def test_the_swap_limits_above_the_leases_wait_too() -> None:
    before = _swapping(2)
    lower = replace(CONFIG, quota=replace(CONFIG.quota, swap=gib(1)))
    after = desired(lower, [ALICE], observed(), totals=TOTALS)
    world = observed(as_desired(before, usage={ROOT: Usage(swap_current=gib(2))}))
    waiting = ease(after, world, known_of(before))
    assert (ROOT, "swap_max") in [(one.subject, one.limit) for one in waiting.eased.waiting]
    assert ROOT not in [one[0] for one in fields(waiting.actions)]
    reverted = replace(world, unlasting=frozenset({ROOT}))
    (setting,) = (
        one
        for one in ease(after, reverted, known_of(before)).actions
        if isinstance(one, SetLimits) and one.unit == ROOT
    )
    assert "swap_max" not in setting.fields
    assert "memory_max" in setting.fields


def test_memory_and_swap_wait_each_for_itself() -> None:
    before = _swapping(2)
    lower = replace(ALICE, grant=replace(ALICE.grant, mem_limit=gib(3)))
    of = config(replace(SMALL, swap_limit=gib(1)), LARGE)
    after = desired(of, [lower], observed(), totals=TOTALS)
    swapped = ease(after, _swapped(before, 1.5, 2), known_of(before))
    assert _memory(swapped) == [(gib(3), Cause.CHANGED)]
    assert [one.limit for one in swapped.eased.waiting] == ["swap_max"]
    full = ease(after, _swapped(before, 0.5, 3.5), known_of(before))
    assert _swap(full) == [(gib(1), Cause.CHANGED)]
    assert [one.limit for one in full.eased.waiting] == ["memory_max"]
    both = ease(after, _swapped(before, 1.5, 3.5), known_of(before), GRACE)
    later = replace(GRACE, now=1030.0, deferred=both.eased.waiting)
    assert ease(after, _swapped(before, 1.5, 3.5), known_of(before), later).eased.waiting == (
        Deferred(
            subject=ALICE.unit, limit="memory_max", wanted=gib(3), deadline=1060.0, given=gib(4)
        ),
        Deferred(
            subject=ALICE.unit, limit="swap_max", wanted=gib(1), deadline=1060.0, given=gib(2)
        ),
    )


@pytest.mark.parametrize(
    ("swap", "memory", "lowered"), [(3, 1, True), (3, 4, False), (5, 1, False)]
)
def test_a_little_swap_that_memory_could_hold_does_not_keep_it_from_being_forbidden(
    swap: int, memory: float, *, lowered: bool
) -> None:
    """The kernel counts what was given back for a while."""
    before, after = _swapping(2), _swapping(0)
    world = _swapped(before, swap / 1024, memory)
    assert bool(_swap(ease(after, world, known_of(before)))) is lowered


def test_a_swap_limit_somebody_raised_is_put_back_once_it_fits_and_reported_until_then() -> None:
    wanted = _swapping(1)

    def taken_away(used: float) -> Reconciled:
        world = _swapped(wanted, used)
        cgroup = world.cgroups[ALICE.unit]
        taken = replace(cgroup, limits=replace(cgroup.limits, swap_max=None))
        world = replace(world, cgroups={**world.cgroups, ALICE.unit: taken})
        return ease(wanted, world, known_of(wanted))

    assert _swap(taken_away(1)) == [(gib(1), Cause.DRIFT)]
    assert not any(isinstance(one, ReportDrift) for one in taken_away(1).actions)
    (report,) = taken_away(1.5).actions
    assert isinstance(report, ReportDrift)
    assert report.what == "swap-raised"
    assert "the swap limit of" in report.message
    assert ", 1 GiB, was taken away, and 1.5 GiB are used" in report.message
    assert report.command.endswith(f"'{ALICE.unit}' MemorySwapMax={gib(1)}")


def test_a_scope_keeps_its_swap_while_its_leaf_does() -> None:
    box = replace(
        container("box", ALICE),
        kernel=ContainerLimits(cpu=cpus(1), memory=gib(4), swap=gib(2)),
        oom_score_adj=-250,
    )
    before, after = _swapping(2, box), _swapping(1, box)

    def updated(used: float, kernel: ContainerLimits) -> tuple[Bytes | None, Bytes | None]:
        one = replace(box, kernel=kernel)
        result = ease(after, _swapped(before, used, 4, one), known_of(before))
        (update,) = (one for one in result.actions if isinstance(one, UpdateContainer))
        return update.limits.memory, update.limits.swap

    assert box.kernel is not None
    assert updated(1.5, box.kernel) == (gib(4), gib(2))
    assert updated(0.5, box.kernel) == (gib(4), gib(1))
    # what somebody else has lowered is as much as the leaf's again, or that would kill
    assert updated(1.5, replace(box.kernel, swap=gib(0))) == (gib(4), gib(2))
    assert updated(1.5, replace(box.kernel, swap=None)) == (gib(4), None)


def test_a_scope_has_the_swap_that_its_leaf_has() -> None:
    def acting(found: Bytes | None) -> tuple[Action, ...]:
        kernel = ContainerLimits(cpu=cpus(2), memory=gib(4), swap=found)
        box = replace(container("box", ALICE), kernel=kernel, oom_score_adj=-250)
        wanted = _swapping(1, box)
        return act(wanted, observed(as_desired(wanted), [box]), known_of(wanted))

    assert [acting(found) for found in (None, gib(2), gib(1))] == [()] * 3
    (update,) = acting(gib(0.5))
    assert isinstance(update, UpdateContainer)
    assert (update.limits.swap, update.cause) == (gib(1), Cause.DRIFT)


def test_a_scope_waits_with_its_leaf() -> None:
    box = replace(
        container("box", ALICE),
        kernel=ContainerLimits(cpu=cpus(2), memory=gib(4)),
        oom_score_adj=-250,
    )
    world = observed(containers=[box])
    before = desired(CONFIG, [ALICE], world, totals=TOTALS)
    after = desired(CONFIG, [_resized(3)], world, totals=TOTALS)
    full = ease(after, _using(before, gib(3.5), box), known_of(before))
    assert full.actions == ()
    low = replace(box, kernel=ContainerLimits(cpu=cpus(2), memory=gib(2)))
    (mending,) = ease(after, _using(before, gib(3.5), low), known_of(before)).actions
    assert isinstance(mending, UpdateContainer)
    assert mending.limits.memory == gib(4)
    free = ease(after, _using(before, gib(1), box), known_of(before))
    assert [type(one) for one in free.actions] == [UpdateContainer, SetLimits]


def _outside(used: float | None, where: str = "system.slice") -> tuple[Desired, Observed]:
    box = replace(
        container("box"),
        scope=f"{where}/docker-box.scope",
        kernel=ContainerLimits(cpu=cpus(1), tasks=1000),
        usage=None if used is None else Usage(memory_current=gib(used)),
    )
    world = observed(containers=[box])
    wanted = replace(desired(CONFIG, [], world, totals={}), reports=())
    return wanted, observed(as_desired(wanted), [box])


@pytest.mark.parametrize("where", ["system.slice", ROOT, f"{ROOT}/{WORKLOAD}"])
def test_a_container_outside_is_not_killed_by_its_first_limit_either(where: str) -> None:
    wanted, world = _outside(3, where)
    waiting = ease(wanted, world, Known(), GRACE)
    assert waiting.actions == ()
    assert [one.deadline for one in waiting.eased.waiting] == [1060.0]
    # neither is what it has of swap lowered meanwhile, whatever else is set
    (box,) = (world.containers or {}).values()
    bare = replace(box, kernel=ContainerLimits(cpu=cpus(8), swap=gib(1)))
    (update,) = ease(wanted, replace(world, containers={box.id: bare}), Known()).actions
    assert isinstance(update, UpdateContainer)
    assert (update.limits.memory, update.limits.swap) == (None, gib(1))
    over = replace(GRACE, now=1061.0, deferred=waiting.eased.waiting)
    assert [type(one) for one in ease(wanted, world, Known(), over).actions] == [UpdateContainer]
    for used in (1, None):
        wanted, world = _outside(used, where)
        assert [type(one) for one in ease(wanted, world, Known()).actions] == [UpdateContainer]


def test_on_which_cpus_a_container_outside_runs_is_its_owners_business() -> None:
    _, world = _outside(1)
    (box,) = (world.containers or {}).values()
    limits = ContainerLimits(cpu=cpus(1), memory=gib(2), tasks=1000)
    its_own = replace(limits, cpus="3", memory_high=gib(1))
    world = replace(world, containers={box.id: replace(box, kernel=its_own)})
    wanted = replace(desired(CONFIG, [], world, totals={}), reports=())
    assert act(wanted, world) == ()


def test_a_container_outside_whose_limit_somebody_raised_is_held_to_it_as_soon_as_it_fits() -> None:
    for used, held in ((1.99, True), (2.1, False)):
        wanted, world = _outside(used)
        actions = ease(wanted, world, known_of(wanted)).actions
        assert [type(one) for one in actions] == [UpdateContainer] * held


# --- for any two wishes --------------------------------------------------------------------


def _wished(one: Admitted) -> Desired:
    return desired(one.config, one.leases, observed(), totals=one.totals)


@settings(max_examples=examples(60))
@given(admitted(), admitted())
def test_from_any_wish_to_any_other_one_step_is_enough(one: Admitted, other: Admitted) -> None:
    before, after = _wished(one), _wished(other)
    world = apply(act(before, observed()), observed())
    assert act(before, world) == ()
    actions = act(after, world, known_of(before))
    settled = apply(actions, world)
    assert act(after, settled, known_of(after)) == ()


@settings(max_examples=examples(60))
@given(admitted(), st.data())
def test_on_the_way_no_floor_exceeds_the_one_above(one: Admitted, data: st.DataObject) -> None:
    world = observed()
    for _ in range(3):
        stay = set(data.draw(st.sets(st.sampled_from(one.leases)))) if one.leases else set()
        wanted = desired(
            one.config,
            stay,
            world,
            totals=one.totals,
            removable={held.unit for held in one.leases},
        )
        for action in act(wanted, world):
            world = apply([action], world)
            for unit, cgroup in world.cgroups.items():
                assert all(above in world.cgroups for above in ancestors(unit))
                below = [low.limits for low in world.cgroups.values() if parent(low.unit) == unit]
                floors = sum(limits.memory_min for limits in below)
                assert floors <= cgroup.limits.memory_min or not below
        assert {held.unit for held in stay} == {h.unit for h in one.leases} & world.cgroups.keys()
