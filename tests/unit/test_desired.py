"""The tree as it ought to be, slice by slice and container by container."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enforcer.containers import oom_score_adj
from enforcer.desired import desired, desired_path
from enforcer.model import (
    Cgroup,
    Config,
    Container,
    DesiredSlice,
    EnginePlace,
    Lease,
    LeaseState,
    Limits,
    Usage,
)
from enforcer.names import (
    ADOPTED,
    ENGINE,
    ROOT,
    WORKLOAD,
    UnitName,
    ancestors,
    cgroup_path,
    parent,
    profile_slice,
    user_slice,
)
from enforcer.quantities import MIB, PAGE, Bytes, Cpus
from enforcer.shares import MIN_QUOTA, Contention
from enforcer.slices import KERNELS_OWN, World, slice_tree
from enforcer.tree import Totals
from tests.examples import examples
from tests.unit.worlds import (
    LARGE,
    SMALL,
    TOP,
    config,
    container,
    cpus,
    gib,
    lease,
    observed,
    profile,
)

ALICE = lease("alice", promised=(1, 2))
BOB = lease("bob", "large", server="gpu", limit=(4, 16), promised=(2, 8))
TOTALS: Totals = {"alice": (cpus(3), gib(6)), "bob": (cpus(8), gib(100))}
CONFIG = config()
NOBODY = observed()


def want(*leases: Lease) -> Mapping[UnitName, Limits]:
    found = desired(CONFIG, leases, NOBODY, totals=TOTALS)
    return {unit: one.limits for unit, one in found.slices.items()}


# --- slices --------------------------------------------------------------------------------


def test_the_four_top_slices_are_always_there_and_lasting() -> None:
    found = desired(CONFIG, [], NOBODY, totals={})
    assert tuple(found.slices) == TOP
    assert all(one.lasting for one in found.slices.values())
    limits = {unit: one.limits for unit, one in found.slices.items()}
    assert limits[ROOT].cpu_quota == cpus(7)
    assert limits[ROOT].memory_max == gib(60)
    assert limits[ROOT].swap_max == gib(4)
    assert limits[ROOT].tasks_max == 50_000
    assert limits[ROOT].memory_min == limits[ENGINE].memory_min == 384 * MIB
    assert limits[ENGINE].cpu_quota is None
    assert limits[WORKLOAD].cpu_quota == cpus(6.8)
    assert limits[WORKLOAD].memory_max == gib(60) - 384 * MIB
    assert limits[ADOPTED].tasks_max == 1000


def test_a_lease_has_its_leaf_its_users_and_its_profiles_slice_parents_first() -> None:
    found = desired(CONFIG, [BOB, ALICE], NOBODY, totals=TOTALS)
    order = list(found.slices)
    for unit in order:
        above = parent(unit)
        assert above is None or order.index(above) < order.index(unit)
    limits = {unit: one.limits for unit, one in found.slices.items()}
    assert limits[profile_slice("small")].cpu_quota is None
    assert limits[profile_slice("small")].memory_max is None
    assert limits[profile_slice("large")].cpu_quota == cpus(6)
    assert limits[profile_slice("large")].tasks_max == 9000
    assert limits[user_slice("small", "alice")].cpu_quota == cpus(3)
    assert limits[user_slice("small", "alice")].memory_max == gib(6) + KERNELS_OWN
    assert limits[user_slice("large", "bob")].cpu_quota == cpus(6)
    assert limits[user_slice("large", "bob")].memory_max == gib(24)  # the total of large
    assert limits[BOB.unit].memory_max == gib(16)
    assert limits[BOB.unit].swap_max == 0
    assert not found.slices[BOB.unit].lasting
    assert "bob" in found.slices[BOB.unit].description


def test_memory_is_protected_on_every_level_by_the_sum_of_what_is_below() -> None:
    limits = want(ALICE, BOB)
    engine = (384 + 8 * 16) * MIB
    assert limits[ALICE.unit].memory_min == gib(2)
    assert limits[user_slice("large", "bob")].memory_min == gib(8)
    assert limits[WORKLOAD].memory_min == gib(10)
    assert limits[ENGINE].memory_min == engine
    assert limits[ROOT].memory_min == gib(10) + engine
    assert limits[ADOPTED].memory_min == 0


def test_a_total_above_the_workloads_limit_is_the_same_however_many_containers_there_are() -> None:
    carol = lease("carol", limit=(1, 64))
    totals: Totals = {"carol": (cpus(3), gib(600))}

    def limits(*containers: Container) -> Mapping[UnitName, Limits]:
        found = desired(CONFIG, [carol], observed(containers=containers), totals=totals)
        return {unit: one.limits for unit, one in found.slices.items()}

    few, many = limits(), limits(*(container(f"x{number}") for number in range(20)))
    of_user = user_slice("small", "carol")
    assert few[of_user].memory_max == many[of_user].memory_max == gib(60) - 384 * MIB
    assert many[WORKLOAD].memory_max == gib(60) - (384 + 24 * 16) * MIB
    assert many[carol.unit].memory_max == many[WORKLOAD].memory_max


def test_a_user_without_a_total_is_bounded_by_the_profile() -> None:
    carol = lease("carol")
    assert want(carol)[user_slice("small", "carol")].memory_max is None
    dave = lease("dave", "large")
    assert want(dave)[user_slice("large", "dave")].memory_max == gib(24)


def test_leases_that_are_not_live_have_no_slice() -> None:
    assert tuple(want(replace(ALICE, state=LeaseState.QUEUED))) == TOP


def test_a_lease_may_use_no_more_than_any_level_above_it() -> None:
    tight = desired(CONFIG, [ALICE], NOBODY, totals={"alice": (cpus(0.5), gib(1))})
    leaf = tight.slices[ALICE.unit].limits
    assert leaf.cpu_quota == cpus(0.5)
    assert leaf.memory_max == leaf.memory_min == gib(1)


def test_a_cap_lowers_the_quota_and_never_raises_it() -> None:
    caps = {ALICE.unit: cpus(0.7), BOB.unit: cpus(9), ENGINE: cpus(0.3)}
    found = desired(
        CONFIG, [ALICE, BOB], NOBODY, contention=Contention(caps=caps), totals=TOTALS
    ).slices
    assert found[ALICE.unit].limits.cpu_quota == cpus(0.7)
    assert found[BOB.unit].limits.cpu_quota == cpus(4)
    assert found[ENGINE].limits.cpu_quota == cpus(0.3)
    assert {unit for unit, one in found.items() if one.capped} == {ALICE.unit, ENGINE}


def test_quotas_are_what_the_kernel_can_show_again() -> None:
    odd = config(replace(SMALL, cpu_total=Cpus(1_234_567)))
    made = desired(
        odd, [ALICE], NOBODY, contention=Contention(caps={ALICE.unit: Cpus(17)}), totals={}
    ).slices
    assert made[profile_slice("small")].limits.cpu_quota == 1_234_560
    assert made[ALICE.unit].limits.cpu_quota == MIN_QUOTA


def test_whole_cores_are_the_last_ones_in_place_of_a_quota() -> None:
    whole = config(cores=8, quota=6, whole_cores=True)
    root = desired(whole, [], NOBODY, totals={}).slices[ROOT].limits
    assert (root.cpus, root.cpu_quota) == ("2-7", None)
    one = config(cores=2, quota=1, whole_cores=True)
    assert desired(one, [], NOBODY, totals={}).slices[ROOT].limits.cpus == "1"


@pytest.mark.parametrize(
    ("online", "last_three"),
    [
        ((0, 2, 4, 6), "2,4,6"),
        ((0, 1, 2, 3), "1-3"),
        ((0, 1, 6, 7), "1,6-7"),
        ((0, 5, 6, 9), "5-6,9"),
    ],
)
def test_whole_cores_are_such_as_are_online(online: tuple[int, ...], last_three: str) -> None:
    whole = config(cores=4, quota=3, adopted=0.5, whole_cores=True)
    gaps = replace(whole, capacity=replace(whole.capacity, online=online))
    assert desired(gaps, [], NOBODY, totals={}).slices[ROOT].limits.cpus == last_three


def test_throttling_before_the_limit_is_set_only_below_it() -> None:
    slow = config(replace(SMALL, mem_throttle=gib(3)))
    for limit, high in ((4.0, gib(3)), (3.0, None)):
        one = lease("alice", limit=(2, limit))
        leaf = desired(slow, [one], NOBODY, totals={}).slices[one.unit].limits
        assert leaf.memory_high == high


@pytest.mark.parametrize(("there", "wanted"), [(None, None), (100, None), (300, 100)])
def test_an_io_weight_that_nobody_wants_any_more_goes_back_to_the_kernels(
    there: int | None, wanted: int | None
) -> None:
    limits = replace(want(ALICE)[ALICE.unit], io_weight=there)
    leaf = Cgroup(unit=ALICE.unit, limits=limits, usage=Usage(), populated=True)
    found = desired(CONFIG, [ALICE], observed(cgroups=[leaf]), totals=TOTALS)
    assert found.slices[ALICE.unit].limits.io_weight == wanted


def test_nothing_of_a_slices_own_is_lost_where_its_weight_and_floor_are_added() -> None:
    every = replace(SMALL, mem_throttle=gib(1), swap_limit=gib(1), tasks_limit=200, io_weight=300)
    full = config(every, LARGE, whole_cores=True)
    own = Limits(memory_min=gib(1), cpu_period_usec=20_000)
    left = Cgroup(unit=user_slice("small", "gone"), limits=own, usage=Usage(), populated=False)
    seen = observed([left])
    world = World(config=full, live=(ALICE, BOB), kept=(), observed=seen, totals=TOTALS)
    capped = Contention(caps={BOB.unit: cpus(1)})
    found = desired(full, world.live, seen, totals=TOTALS, contention=capped).slices
    set_somewhere: set[str] = set()
    for unit, one in slice_tree(world, frozenset()).items():
        made = found[unit]
        added = replace(
            one.limits,
            cpu_quota=cpus(1) if unit == BOB.unit else one.limits.cpu_quota,
            cpu_weight=made.limits.cpu_weight,
            memory_min=made.limits.memory_min,
            io_weight=made.limits.io_weight,
        )
        assert made == replace(one, limits=added, capped=unit == BOB.unit)
        set_somewhere |= {
            field.name
            for value in (made, made.limits)
            for field in fields(value)
            if getattr(value, field.name) != field.default
        }
    # what is at its default everywhere could be lost unseen: give it a value above
    assert set_somewhere == {
        field.name for kind in (DesiredSlice, Limits) for field in fields(kind)
    }


def test_io_weights_add_up_where_a_profile_has_one() -> None:
    weighed = config(replace(SMALL, io_weight=300), LARGE)
    two = [lease("alice"), lease("alice", server="b"), BOB]
    found = desired(weighed, two, NOBODY, totals={}).slices
    assert found[two[0].unit].limits.io_weight == 300
    assert found[user_slice("small", "alice")].limits.io_weight == 600
    assert found[profile_slice("small")].limits.io_weight == 600
    assert found[BOB.unit].limits.io_weight is None
    assert found[WORKLOAD].limits.io_weight is None


def test_a_lease_lives_on_when_its_profile_is_gone() -> None:
    orphan = lease("alice", "gone", promised=(0, 1))
    limits = want(orphan)
    assert limits[profile_slice("gone")].memory_max is None
    assert limits[orphan.unit].memory_max == gib(4)
    assert limits[orphan.unit].memory_min == gib(1)


def _there(unit: str, *, populated: bool = True) -> Cgroup:
    return Cgroup(unit=UnitName(unit), limits=Limits(), usage=Usage(), populated=populated)


def test_a_profile_whose_slice_is_there_keeps_its_limits_without_leases() -> None:
    world = observed([_there(profile_slice("large"), populated=False)])
    found = desired(CONFIG, [], world, totals={}).slices
    assert found[profile_slice("large")].limits.cpu_quota == cpus(6)


def test_a_leaf_that_a_container_still_names_keeps_its_limits_without_its_guarantee() -> None:
    old = replace(ALICE, state=LeaseState.RELEASED)
    found = desired(CONFIG, [], NOBODY, totals=TOTALS, kept=[old], removable=[old.unit])
    assert found.slices[old.unit].limits.memory_max == gib(4)
    assert found.slices[old.unit].limits.memory_min == 0
    assert not found.removable


def test_a_leaf_that_is_let_again_is_not_kept_for_the_old_lease_nor_removed() -> None:
    old = replace(ALICE, id="old", state=LeaseState.RELEASED)
    found = desired(CONFIG, [ALICE], NOBODY, totals=TOTALS, kept=[old], removable=[ALICE.unit])
    assert found.slices[ALICE.unit].limits.memory_min == gib(2)
    assert not found.removable


def test_a_populated_slice_nobody_asked_for_gets_the_adopted_quotas_limits() -> None:
    stray = "jupyter-workload-small-mallory-x.slice"
    world = observed(
        [
            _there(profile_slice("small")),
            _there(user_slice("small", "mallory")),
            _there(stray),
            _there("jupyter-x.slice"),
            _there("jupyter-workload-not-seen.slice"),
        ]
    )
    found = desired(CONFIG, [], world, totals={}).slices
    for unit in (stray, "jupyter-workload-small-mallory.slice", "jupyter-x.slice"):
        limits = found[UnitName(unit)].limits
        assert (limits.cpu_quota, limits.memory_max) == (cpus(1), gib(2))
        assert limits.tasks_max == 1000
    assert found[UnitName(stray)].limits.cpu_weight == 340


def test_an_empty_slice_and_one_about_to_go_are_left_alone() -> None:
    gone = lease("gone").unit
    world = observed([_there("jupyter-workload-a.slice", populated=False), _there(gone)])
    found = desired(CONFIG, [], world, totals={}, removable=[gone])
    assert tuple(found.slices) == TOP
    assert found.removable == {gone}


def test_an_empty_slice_of_a_user_who_left_protects_nothing_any_more() -> None:
    limits = Limits(memory_min=gib(1), memory_max=gib(3), cpu_quota=cpus(2))
    unit = user_slice("small", "gone")
    left = Cgroup(unit=unit, limits=limits, usage=Usage(), populated=False)
    world = observed([_there(profile_slice("small"), populated=False), left])
    found = desired(CONFIG, [], world, totals={}).slices[unit].limits
    assert found == replace(limits, memory_min=Bytes(0), cpu_weight=1)


def test_an_adopted_container_takes_its_share_of_the_weight() -> None:
    world = observed([_there(ADOPTED)])
    alone = desired(CONFIG, [ALICE], NOBODY, totals={}).slices[ALICE.unit]
    shared = desired(CONFIG, [ALICE], world, totals={}).slices[ALICE.unit]
    assert (alone.limits.cpu_weight, shared.limits.cpu_weight) == (680, 390)


def test_who_holds_more_than_their_total_is_reported_as_long_as_they_do() -> None:
    more = replace(ALICE, resized_until=9.0, grant_before=replace(ALICE.grant, mem_limit=gib(7)))
    two = [more, lease("alice", "large", server="x", limit=(1, 1)), lease("carol")]
    (told,) = desired(CONFIG, two, NOBODY, totals=TOTALS).reports
    assert (told.what, told.subject, told.command) == ("total-exceeded", "alice", "")
    assert told.message == (
        "alice may use 6 GiB in all: servers with limits of 8 GiB together run on,"
        " but no other starts until they hold less"
    )
    queued = replace(two[1], state=LeaseState.QUEUED)
    assert not desired(CONFIG, [ALICE, queued], NOBODY, totals=TOTALS).reports


# --- containers ----------------------------------------------------------------------------


def test_a_leases_container_has_its_leafs_limits_without_the_cap() -> None:
    box = container("box", ALICE)
    world = observed(containers=[box])
    capped = Contention(caps={ALICE.unit: cpus(0.5)})
    found = desired(CONFIG, [ALICE], world, contention=capped, totals=TOTALS)
    wish = found.containers[box.id]
    assert (wish.limits.cpu, wish.limits.memory, wish.limits.swap) == (cpus(2), gib(4), 0)
    assert wish.oom_score_adj == -333
    assert found.slices[ENGINE].limits.memory_min == (384 + 8 * 16) * MIB


@pytest.mark.parametrize(("others", "step"), [(0, 8), (7, 8), (8, 16)])
def test_containers_that_are_no_leases_make_the_engines_floor_grow_by_steps(
    others: int, step: int
) -> None:
    boxes = [container(f"x{number}") for number in range(others)]
    world = observed(containers=[*boxes, replace(container("y"), running=False)])
    found = desired(CONFIG, [ALICE], world, totals={})
    assert found.slices[ENGINE].limits.memory_min == (384 + step * 16) * MIB
    assert not found.containers


def test_the_engines_floor_takes_nothing_in_advance_that_was_promised() -> None:
    everything_but_5 = CONFIG.quota.memory - (384 + 16 + 5) * MIB
    one = replace(ALICE, grant=replace(ALICE.grant, mem_guarantee=Bytes(everything_but_5)))
    found = desired(CONFIG, [one], observed(), totals={})
    assert found.slices[ENGINE].limits.memory_min == (384 + 16 + 5) * MIB


def test_a_label_without_its_lease_or_of_one_that_has_another_container_is_worth_nothing() -> None:
    bound = replace(ALICE, container_id="another")
    boxes = [container("a", bound), replace(container("b"), lease_id="made-up")]
    found = desired(CONFIG, [bound], observed(containers=boxes), totals={})
    assert not found.containers


def test_a_label_elsewhere_than_in_its_leases_leaf_gives_no_protection() -> None:
    forged = replace(container("forged", ALICE), cgroup_parent=ADOPTED)
    found = desired(CONFIG, [ALICE], observed(containers=[forged]), totals={})
    assert not found.containers


def test_a_restarted_container_of_a_released_lease_has_limits_and_no_protection() -> None:
    old = replace(ALICE, state=LeaseState.RELEASED)
    box = container("box", old)
    found = desired(CONFIG, [], observed(containers=[box]), totals={}, kept=[old])
    assert found.containers[box.id].limits.memory == gib(4)
    assert found.containers[box.id].oom_score_adj == 0


def test_a_container_outside_is_reported_and_held_to_the_adopted_quota() -> None:
    old = replace(container("old", ALICE), scope="system.slice/docker-old.scope", cgroup_parent="")
    away = replace(container("away"), scope="evil.slice/docker-x.scope", cgroup_parent="evil.slice")
    found = desired(CONFIG, [ALICE], observed(containers=[old, away]), totals={})
    assert found.containers[old.id].limits.memory == gib(2)
    assert found.containers[old.id].oom_score_adj is None
    commands = {one.subject: one.command for one in found.reports}
    assert commands == {old.id: f"docker restart {old.id}", away.id: f"docker stop {away.id}"}
    assert "--cgroup-parent=evil.slice" in found.reports[1].message
    assert {one.what for one in found.reports} == {"container-outside"}


@pytest.mark.parametrize(
    "unit",
    [
        ROOT,
        ENGINE,
        WORKLOAD,
        profile_slice("small"),
        profile_slice("large"),
        user_slice("small", "alice"),
    ],
)
def test_a_container_in_a_slice_that_is_for_many_counts_as_one_outside(unit: UnitName) -> None:
    scope = f"{cgroup_path(unit)}/docker-hog.scope"
    hog = replace(container("hog", ALICE), cgroup_parent=unit, scope=scope)
    found = desired(CONFIG, [ALICE], observed(containers=[hog]), totals=TOTALS)
    assert found.containers[hog.id].limits.memory == gib(2)
    assert found.containers[hog.id].leaf is None
    (told,) = found.reports
    assert told.message.startswith(f"container hog runs in {unit} itself: ")
    assert told.command == f"docker stop {hog.id}"


@pytest.mark.parametrize(
    "unit",
    [
        ADOPTED,
        ALICE.unit,
        profile_slice("mine"),
        user_slice("large", "gone"),
        UnitName("jupyter-engine-x.slice"),
    ],
)
def test_a_container_in_a_slice_that_has_limits_for_it_is_not_reported(unit: UnitName) -> None:
    scope = f"{cgroup_path(unit)}/docker-x.scope"
    box = replace(container("x"), cgroup_parent=unit, scope=scope)
    found = desired(CONFIG, [ALICE], observed([_there(unit)], [box]), totals=TOTALS)
    assert not found.reports
    assert not found.containers
    assert found.slices[unit].limits.memory_max in {gib(2), gib(4)}


def test_a_container_that_cannot_be_inspected_is_reported_by_name_whether_or_not_it_runs() -> None:
    scope = "system.slice/docker-away.scope"
    away = replace(container("away"), cgroup_parent="system.slice", scope=scope, unread="hangs")
    stopped = replace(container("old"), running=False, scope=None, cgroup_parent="", unread="gone")
    found = desired(CONFIG, [ALICE], observed(containers=[away, stopped]), totals=TOTALS)
    assert [(one.what, one.message) for one in found.reports] == [
        ("container-unread", "container away cannot be inspected: hangs"),
        (
            "container-outside",
            f"container away runs outside {ROOT}, in {scope}: Docker cannot tell why",
        ),
        ("container-unread", "container old cannot be inspected: gone"),
    ]
    assert list(found.containers) == [away.id]
    making = [replace(one, starting=True) for one in (away, stopped)]
    found = desired(CONFIG, [ALICE], observed(containers=making), totals=TOTALS)
    assert not found.reports
    assert not found.containers


def test_a_container_that_is_just_starting_is_taken_to_be_in_its_place() -> None:
    starting = replace(container("x"), cgroup_parent=ENGINE, scope=None)
    found = desired(CONFIG, [ALICE], observed(containers=[starting]), totals={})
    assert not found.reports
    assert not found.containers


def test_nothing_is_concluded_about_containers_while_docker_does_not_answer() -> None:
    found = desired(CONFIG, [ALICE], observed(containers=None), totals={})
    assert not found.containers
    assert not found.reports


def test_an_engine_outside_its_slice_is_reported_with_the_command_that_mends_it() -> None:
    places = (
        EnginePlace(service="docker.service", cgroup="system.slice/docker.service"),
        EnginePlace(service="containerd.service", cgroup=f"{ROOT}/{ENGINE}/containerd.service"),
        EnginePlace(service="other.service", cgroup=None),
    )
    found = desired(CONFIG, [], replace(NOBODY, engine=places), totals={})
    assert [one.command for one in found.reports] == ["systemctl restart docker.service"]
    assert found.reports[0].what == "engine-outside"


@pytest.mark.parametrize(
    ("guarantee", "score"), [(0, 0), (3, -500), (6, -999), (60, -999), (0.012, -2)]
)
def test_the_oom_killer_spares_in_proportion_to_the_guarantee(guarantee: float, score: int) -> None:
    slices = desired(CONFIG, [ALICE], NOBODY, totals=TOTALS).slices
    assert oom_score_adj(slices, ALICE.unit, gib(guarantee)) == score


def test_without_any_limit_above_there_is_no_proportion() -> None:
    assert oom_score_adj({}, ALICE.unit, gib(1)) == 0


# --- for any valid leases ------------------------------------------------------------------


@dataclass(frozen=True)
class Admitted:
    """A configuration, leases that fit it, and totals that are theirs."""

    config: Config
    leases: tuple[Lease, ...]
    totals: Totals


@st.composite
def admitted(draw: st.DrawFn) -> Admitted:
    cores = draw(st.integers(2, 64))
    memory = draw(st.integers(8, 512))
    profiles = []
    for name in ("p", "q")[: draw(st.integers(1, 2))]:
        one = profile(name, draw(st.floats(0.1, cores - 1.5)), draw(st.floats(0.1, memory - 6)))
        if draw(st.booleans()):
            one = replace(one, mem_total=Bytes(one.mem_limit * 2), cpu_total=one.cpu_limit)
        profiles.append(one)
    made = config(*profiles, cores=cores, memory=memory, whole_cores=draw(st.booleans()))
    left = made.quota.memory - made.engine.memory - 8 * made.engine.memory_per_container
    free = {one.name: one.mem_total or left for one in profiles}
    leases = []
    totals: dict[str, tuple[Cpus, Bytes]] = {}
    for number in range(draw(st.integers(0, 6))):
        one = draw(st.sampled_from(profiles))
        user = f"u{number % 3}"
        room = min(left, free[one.name], one.mem_limit)
        promised = Bytes(int(room * draw(st.floats(0, 1))) // PAGE * PAGE)
        made_lease = lease(user, one.name, server=f"s{number}")
        grant = replace(
            made_lease.grant,
            cpu_limit=one.cpu_limit,
            mem_limit=one.mem_limit,
            mem_guarantee=promised,
        )
        leases.append(replace(made_lease, grant=grant))
        left -= promised
        free[one.name] -= promised
        cpu, all_memory = totals.get(user, (Cpus(0), Bytes(0)))
        totals[user] = (Cpus(cpu + one.cpu_limit), Bytes(all_memory + one.mem_limit))
    return Admitted(config=made, leases=tuple(leases), totals=totals)


@settings(max_examples=examples(80))
@given(admitted(), st.data())
def test_floors_add_up_limits_narrow_down_and_no_order_matters(
    one: Admitted, data: st.DataObject
) -> None:
    found = desired(one.config, one.leases, NOBODY, totals=one.totals)
    limits = {unit: made.limits for unit, made in found.slices.items()}
    leaves = {held.unit for held in one.leases}
    for unit, own in limits.items():
        below = [limits[other].memory_min for other in limits if parent(other) == unit]
        assert sum(below) <= own.memory_min or not below
        assert own.memory_max is None or own.memory_min <= own.memory_max
        assert 1 <= own.cpu_weight <= 10_000
        for above in ancestors(unit):
            if own.memory_max is not None and (above != WORKLOAD or unit in leaves):
                assert own.memory_max <= (limits[above].memory_max or own.memory_max)
            if own.cpu_quota is not None:
                assert own.cpu_quota <= (limits[above].cpu_quota or own.cpu_quota)
    for held in one.leases:
        assert limits[held.unit].memory_min == held.grant.mem_guarantee
    shuffled = data.draw(st.permutations(one.leases))
    assert desired(one.config, shuffled, NOBODY, totals=one.totals) == found
    for held in one.leases:
        path = desired_path(one.config, shuffled, NOBODY, held, totals=one.totals)
        assert path.keys() == {held.unit, *ancestors(held.unit)}
        assert path == {unit: found.slices[unit] for unit in path}
