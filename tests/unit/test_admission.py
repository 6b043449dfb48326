"""What admission answers: yes with which numbers, no with which reason, not yet behind whom."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from enforcer.admission import MOST_STARTING, Admitted, Decision, Refused, Wait, decide, free
from enforcer.model import AdmissionMode, LeaseState
from enforcer.quantities import GIB, Bytes
from enforcer.room import Amount, Level, profile_total, promised, workload
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
)

SCALE, REFUSE, QUEUE = AdmissionMode.SCALE, AdmissionMode.REFUSE, AdmissionMode.QUEUE
QUEUED = LeaseState.QUEUED


def refusal(decision: Decision) -> Refused:
    assert isinstance(decision, Refused)
    return decision


def waiting(decision: Decision) -> Wait:
    assert isinstance(decision, Wait)
    return decision


def admitted(decision: Decision) -> Admitted:
    assert isinstance(decision, Admitted)
    return decision


# --- room ----------------------------------------------------------------------------------


def test_an_empty_machine_has_the_quota_less_the_engines_floor_to_promise() -> None:
    room = free(a_config(), [], 0, "Large", some_rights(guarantee=(100, 100)))
    assert room.workload.free == Amount(cores(12), gib(48))
    assert room.guarantees == Amount(cores(8), gib(32))  # Large's limit
    assert room.promisable == Amount(cores(12), gib(48))
    assert not room.crowded


def test_the_engines_floor_grows_with_leases_other_containers_and_the_claim() -> None:
    config = a_config(per_container=1)
    leases = [a_lease("a"), a_lease("b"), a_lease("q", state=QUEUED)]
    room = free(config, leases, 3, "Large", some_rights())
    assert room.workload.total.memory == gib(48 - 2 - 3 - 1)


def test_each_level_binds_in_its_turn() -> None:
    config, leases = a_config(), [a_lease("a", profile="Small", guarantee=(2, 8))]
    room = free(config, leases, 0, "Small", some_rights())
    assert room.profile.free == Amount(cores(1), gib(4))
    assert (room.cpu_binds, room.memory_binds) == (Level.PROFILE, Level.PROFILE)
    room = free(config, leases, 0, "Large", some_rights())
    assert (room.cpu_binds, room.memory_binds) == (Level.USER, Level.USER)
    room = free(config, leases, 0, "Large", some_rights(guarantee=(10, 100)))
    assert (room.cpu_binds, room.memory_binds) == (Level.WORKLOAD, Level.WORKLOAD)


def test_a_users_own_part_is_told_apart() -> None:
    leases = [a_lease("a", guarantee=(1, 1)), a_lease("b", "ada", guarantee=(2, 4))]
    room = free(a_config(), leases, 0, "Large", some_rights())
    assert room.workload.held == Amount(cores(3), gib(5))
    assert room.workload.own == room.user.held == Amount(cores(2), gib(4))
    assert room.limits == Amount(cores(8), gib(32))
    assert room.limits_used == Amount(cores(2), gib(8))
    assert room.servers == 1
    assert len(room.spaces) == 3


def test_a_profile_that_is_gone_bounds_nothing() -> None:
    above = workload(a_config(), 0)
    assert profile_total(a_config(), "Gone", above) == above


def test_the_order_of_live_leases_changes_no_sum() -> None:
    leases = [
        a_lease(name, user, profile=profile, guarantee=(0.5, 1))
        for name, user, profile in zip("abcdef", "xyzxyz", ["Large", "Small"] * 3, strict=True)
    ]
    config, rights = a_config(per_container=0.5), some_rights("x")
    expected = free(config, leases, 2, "Small", rights)
    for _ in range(10):
        random.shuffle(leases)
        assert free(config, leases, 2, "Small", rights) == expected


def test_a_temporary_resize_holds_room_for_both_numbers() -> None:
    lease = replace(a_lease("a", guarantee=(2, 1)), grant_before=a_grant((4, 4), (1, 4)))
    assert promised(lease) == Amount(cores(2), gib(4))
    room = free(a_config(), [lease], 0, "Large", some_rights("bob", total=(6, 20)))
    assert room.limits_used == Amount(cores(4), gib(8))


# --- limits --------------------------------------------------------------------------------


def test_what_was_not_asked_is_the_profiles_limit_and_the_most_that_may_be_guaranteed() -> None:
    rights = some_rights(guarantee=(3, 10))
    decision = decide(a_config(), rights, a_claim(guarantee=None), [], 0)
    assert decision == Admitted(a_grant((8, 32), (3, 10)))


def test_a_limit_that_was_not_asked_stays_within_the_users_total() -> None:
    rights = some_rights(total=(4, 16))
    decision = decide(a_config(), rights, a_claim(guarantee=None), [], 0)
    assert decision == Admitted(a_grant((4, 16), (4, 16)))


def test_limits_above_the_users_total_are_refused_in_every_mode() -> None:
    leases = [a_lease("a", "ada", limit=(6, 8)), a_lease("q", "ada", limit=(1, 8), state=QUEUED)]
    rights = some_rights(total=(8, 32))
    for mode in AdmissionMode:
        refused = refusal(decide(a_config(mode=mode), rights, a_claim(limit=(2, 8)), leases, 0))
        assert refused == Refused(
            "admission.user-total",
            "asked for a limit of 2 cores, your other servers have 7 cores of the 8 cores you may"
            " use in all: that leaves 1 core",
            "ask for at most 1 core",
        )


def test_a_user_with_nothing_left_is_told_to_stop_a_server() -> None:
    leases = [a_lease("a", "ada", limit=(2, 32))]
    refused = refusal(
        decide(a_config(), some_rights(total=(8, 32)), a_claim(limit=(2, 1)), leases, 0)
    )
    assert refused.code == "admission.user-total"
    assert refused.hint == "stop another of them first"


def test_one_server_too_many_is_refused() -> None:
    leases = [a_lease("a", "ada"), a_lease("b", "ada", state=QUEUED), a_lease("c")]
    claim = a_claim(limit=(1, 1))
    refused = refusal(decide(a_config(), some_rights(servers_max=2), claim, leases, 0))
    assert refused.code == "admission.servers-max"
    admitted(decide(a_config(), some_rights(servers_max=3), claim, leases, 0))


def test_nobody_fills_the_machine_with_leases_that_get_no_container() -> None:
    config = a_config(mode=SCALE, per_container=1)
    claim = a_claim(limit=(0.01, 0.01))
    held = [
        a_lease(f"{n}", "ada", limit=(0.01, 0.01), state=QUEUED if n % 2 else LeaseState.PENDING)
        for n in range(MOST_STARTING)
    ]
    refused = refusal(decide(config, some_rights(), claim, held, 0))
    assert refused.code == "admission.too-many-starting"
    admitted(decide(config, some_rights(), claim, held[1:], 0))
    admitted(decide(config, some_rights("bob"), a_claim("bob"), held, 0))
    # those that are there go on: out of the queue, with other numbers, and once they run
    admitted(decide(config, some_rights(), held[1].claim, held, 0, without="1"))
    running = replace(held[0], id="r", state=LeaseState.BOUND)
    admitted(decide(config, some_rights(), running.claim, [*held, running], 0, without="r"))
    bound = [replace(one, state=LeaseState.BOUND) for one in held]
    admitted(decide(config, some_rights(), claim, bound, 0))


# --- scale ---------------------------------------------------------------------------------


def test_scale_shrinks_to_what_is_free_and_says_so() -> None:
    config = a_config(mode=SCALE)
    leases = [a_lease("a", guarantee=(10, 42.5))]
    decision = decide(config, some_rights(), a_claim(guarantee=(4, 8)), leases, 0)
    assert decision == Admitted(
        a_grant((8, 32), (2, 5.5)),
        (
            "asked for 4 cores guaranteed, 2 cores are free: 2 cores less",
            "asked for 8 GiB guaranteed, 5.5 GiB are free: 2.5 GiB less",
        ),
    )


def test_scale_names_the_bound_that_cut() -> None:
    config = a_config(LARGE, SMALL, mode=SCALE)

    def notes(guarantee: tuple[float, float] | None) -> list[str]:
        claim = a_claim(profile="Small", guarantee=guarantee)
        leases = [a_lease("a", profile="Small", guarantee=(2.5, 9))]
        own = a_lease("b", "ada", limit=(1, 1), guarantee=(1, 1))
        decision = decide(config, some_rights(), claim, [*leases, own], 0)
        return list(admitted(decision).notes)

    assert notes((1, 9)) == [
        "asked for 1 core guaranteed, 0.5 cores of profile Small are free: 0.5 cores less",
        "asked for 9 GiB guaranteed, 3 GiB of profile Small are free: 6 GiB less",
    ]
    assert notes(None) == [
        "would have had 2 cores guaranteed, 0.5 cores of profile Small are free: 1.5 cores less",
        "would have had 8 GiB guaranteed, 3 GiB of profile Small are free: 5 GiB less",
    ]


def test_scale_names_the_limit_the_allowance_and_what_is_left_of_it() -> None:
    config = a_config(mode=SCALE)
    claim = a_claim(limit=(2, 4), guarantee=(3, 6))
    assert admitted(decide(config, some_rights(), claim, [], 0)).notes == (
        "asked for 3 cores guaranteed, its limit is 2 cores: 1 core less",
        "asked for 6 GiB guaranteed, its limit is 4 GiB: 2 GiB less",
    )
    rights = replace(some_rights(), max_cpu_guarantee=cores(1), max_mem_guarantee=gib(6))
    own = a_lease("b", "ada", guarantee=(0, 5))
    claim = a_claim(guarantee=(2, 3))
    assert admitted(decide(config, rights, claim, [own], 0)).notes == (
        "asked for 2 cores guaranteed, you may have at most 1 core guaranteed: 1 core less",
        "asked for 3 GiB guaranteed, 1 GiB of what you may have guaranteed is free: 2 GiB less",
    )


def test_scaled_memory_is_whole_pages() -> None:
    config = a_config(mode=SCALE)
    lease = a_lease("a")
    odd = replace(lease, grant=replace(lease.grant, mem_guarantee=Bytes(gib(40) + 1)))
    grant = admitted(decide(config, some_rights(), a_claim(guarantee=(0, 20)), [odd], 0)).grant
    assert grant.mem_guarantee == 8 * GIB - 4096


def test_scale_refuses_when_not_even_the_engines_share_is_free() -> None:
    config = a_config(mode=SCALE, per_container=1)
    leases = [a_lease("a", guarantee=(0, 46.5))]
    refused = refusal(decide(config, some_rights(), a_claim(), leases, 0))
    assert refused.code == "admission.no-room"
    assert "one more container" in refused.message
    assert refused.hint == "try again when another server has stopped"


# --- refuse --------------------------------------------------------------------------------


def test_refuse_says_what_was_asked_what_is_free_and_who_holds_the_rest_as_a_sum() -> None:
    leases = [
        a_lease("a", guarantee=(4, 20)),
        a_lease("b", "carol", guarantee=(4, 14)),
        a_lease("c", "ada", guarantee=(2, 0)),
    ]
    refused = refusal(decide(a_config(), some_rights(), a_claim(guarantee=(4, 15)), leases, 0))
    assert refused.code == "admission.no-room"
    assert refused.message == (
        "asked for 4 cores guaranteed, 2 cores are free: servers hold 10 cores of 12 cores,"
        " 2 cores of it yours; asked for 15 GiB guaranteed, 14 GiB are free: servers hold 34 GiB of"
        " 48 GiB"
    )
    assert refused.hint == (
        "2 cores and 14 GiB guaranteed would fit now; or try again when a server has stopped"
    )
    assert "bob" not in refused.message
    assert "carol" not in refused.message


def test_what_just_fits_is_admitted() -> None:
    leases = [a_lease("a", guarantee=(8, 33))]
    decision = decide(a_config(), some_rights(), a_claim(guarantee=(4, 15)), leases, 0)
    assert decision == Admitted(a_grant((8, 32), (4, 15)))


@pytest.mark.parametrize("mode", [REFUSE, QUEUE])
@pytest.mark.parametrize(
    ("claim", "most", "why"),
    [
        (a_claim(limit=(2, 2), guarantee=(3, 0)), "2 cores", "its limit is 2 cores"),
        (a_claim(guarantee=(7, 0)), "6 cores", "at most 6 cores"),
        (
            a_claim("ada", profile="Small", guarantee=(0, 5)),
            "4 GiB",
            "profile Small has 4 GiB in all",
        ),
        (a_claim(profile="Vast", guarantee=(0, 49)), "48 GiB", "no more than 48 GiB to promise"),
    ],
)
def test_what_could_never_fit_is_refused_at_once(
    mode: AdmissionMode, claim: object, most: str, why: str
) -> None:
    assert isinstance(claim, type(a_claim()))
    config = a_config(
        LARGE,
        replace(SMALL, mem_total=gib(4)),
        replace(LARGE, name="Vast", mem_limit=gib(60)),
        mode=mode,
    )
    refused = refusal(decide(config, some_rights(guarantee=(6, 64)), claim, [], 0))
    assert refused.code == "admission.never-fits"
    assert why in refused.message
    assert refused.hint == f"ask for at most {most} guaranteed"


@pytest.mark.parametrize("mode", [REFUSE, QUEUE])
def test_nobody_waits_for_their_own_servers(mode: AdmissionMode) -> None:
    leases = [a_lease("a", "ada", guarantee=(0, 20))]
    claim = a_claim(guarantee=(0, 20))
    refused = refusal(decide(a_config(mode=mode), some_rights(), claim, leases, 0))
    assert refused.code == "admission.no-room"
    assert "12 GiB of what you may have guaranteed are free" in refused.message


# --- modes ---------------------------------------------------------------------------------


def test_the_users_own_mode_wins_then_the_profiles_then_the_general_one() -> None:
    leases = [a_lease("a", guarantee=(12, 0))]
    claim = a_claim(guarantee=(1, 0))
    queueing = a_config(replace(LARGE, admission=QUEUE), mode=REFUSE)
    waiting(decide(queueing, some_rights(), claim, leases, 0))
    admitted(decide(queueing, some_rights(mode=SCALE), claim, leases, 0))
    refusal(decide(a_config(), some_rights(), claim, leases, 0))


# --- queue ---------------------------------------------------------------------------------


def test_queue_waits_with_what_it_asked_for() -> None:
    leases = [a_lease("a", guarantee=(12, 0))]
    decision = decide(a_config(mode=QUEUE), some_rights(), a_claim(guarantee=(1, 2)), leases, 0)
    assert decision == Wait(
        a_grant((8, 32), (1, 2)),
        "asked for 1 core guaranteed, 0 cores are free: servers hold 12 cores of 12 cores",
    )


def test_a_later_small_claim_does_not_overtake_an_earlier_big_one() -> None:
    config = a_config(mode=QUEUE)
    leases = [a_lease("a", guarantee=(0, 40)), a_lease("q", guarantee=(0, 20), state=QUEUED)]
    wait = waiting(decide(config, some_rights(), a_claim(guarantee=(0, 1)), leases, 0))
    assert wait.message == (
        "asked for 1 GiB guaranteed, 0 B are free: servers hold 40 GiB of 48 GiB;"
        " earlier claims wait for 20 GiB"
    )


def test_a_scaled_claim_does_not_take_what_the_queue_waits_for() -> None:
    leases = [a_lease("a", guarantee=(0, 40)), a_lease("q", guarantee=(0, 20), state=QUEUED)]
    decision = decide(a_config(mode=SCALE), some_rights(), a_claim(guarantee=(1, 1)), leases, 0)
    assert decision == Admitted(
        a_grant((8, 32), (1, 0)), ("asked for 1 GiB guaranteed, 0 B are free: 1 GiB less",)
    )


def test_a_claim_that_asks_for_nothing_waits_for_nobody() -> None:
    leases = [a_lease("a", guarantee=(0, 40)), a_lease("q", guarantee=(0, 20), state=QUEUED)]
    admitted(decide(a_config(mode=QUEUE), some_rights(), a_claim(), leases, 0))


def test_who_waits_for_a_profile_stands_in_nobodys_way_elsewhere() -> None:
    config = a_config(mode=QUEUE)
    leases = [
        a_lease("a", profile="Small", guarantee=(0, 10)),
        a_lease("q", profile="Small", guarantee=(0, 8), state=QUEUED),
    ]
    admitted(decide(config, some_rights(), a_claim(guarantee=(8, 32)), leases, 0))
    waiting(decide(config, some_rights(), a_claim(profile="Small", guarantee=(0, 1)), leases, 0))


def test_who_waits_for_the_workload_keeps_its_room_in_the_profile() -> None:
    config = a_config(mode=QUEUE)
    leases = [
        a_lease("a", guarantee=(0, 44)),
        a_lease("q", profile="Small", guarantee=(1, 8), state=QUEUED),
    ]
    claim = a_claim(profile="Small", guarantee=(2.5, 0), limit=(2.5, 1))
    wide = replace(config, profiles={"Large": LARGE, "Small": replace(SMALL, cpu_limit=cores(3))})
    waiting(decide(wide, some_rights(), claim, leases, 0))


def test_the_next_in_the_queue_holds_its_room_until_it_is_placed() -> None:
    leases = [a_lease("q", guarantee=(0, 30), state=QUEUED)]
    config = a_config(mode=QUEUE, per_container=1)
    wait = waiting(decide(config, some_rights(), a_claim(guarantee=(0, 17)), leases, 0))
    assert "earlier claims wait for 31 GiB" in wait.message
    admitted(decide(config, some_rights(), a_claim(guarantee=(0, 16)), leases, 0))


def test_a_queued_claim_is_decided_by_those_before_it_only() -> None:
    config = a_config(mode=QUEUE)
    first = a_lease("p", "ada", guarantee=(0, 20), state=QUEUED)
    second = a_lease("q", "carol", guarantee=(0, 30), state=QUEUED)
    leases = [a_lease("a", guarantee=(0, 20)), first, second]
    admitted(decide(config, some_rights(), first.claim, leases, 0, without="p"))
    waiting(decide(config, some_rights("carol"), second.claim, leases, 0, without="q"))


def test_a_full_queue_takes_no_more_but_keeps_those_in_it() -> None:
    config = a_config(mode=QUEUE, queue_length=1)
    queued = a_lease("q", "carol", guarantee=(0, 20), state=QUEUED)
    leases = [a_lease("a", guarantee=(0, 40)), queued]
    refused = refusal(decide(config, some_rights(), a_claim(guarantee=(0, 9)), leases, 0))
    assert refused.code == "admission.queue-full"
    assert refused.message.endswith("all 1 places in line are taken")
    waiting(decide(config, some_rights("carol"), queued.claim, leases, 0, without="q"))


def test_a_queue_waits_for_the_engines_share_too() -> None:
    config = a_config(mode=QUEUE, per_container=1)
    leases = [a_lease("a", guarantee=(0, 46.5))]
    assert (
        "one more container" in waiting(decide(config, some_rights(), a_claim(), leases, 0)).message
    )


# --- other numbers for a live lease --------------------------------------------------------


def test_a_live_lease_keeps_what_it_has_though_the_room_has_shrunk() -> None:
    config = a_config(per_container=1)
    lease = a_lease("a", "ada", limit=(2, 32), guarantee=(1, 32))
    claim = replace(lease.claim, cpu_limit=cores(3), mem_limit=gib(32))
    rights = some_rights(total=(8, 32), servers_max=1)
    decision = decide(config, rights, claim, [lease], 40, without="a")
    assert decision == Admitted(a_grant((3, 32), (1, 32)))


def test_a_live_lease_gets_no_more_than_there_is() -> None:
    lease = a_lease("a", "ada", limit=(8, 32), guarantee=(1, 20))
    leases = [lease, a_lease("b", guarantee=(0, 20))]
    claim = replace(lease.claim, mem_guarantee=gib(30))
    refused = refusal(decide(a_config(), some_rights(), claim, leases, 0, without="a"))
    assert "28 GiB are free" in refused.message
    admitted(decide(a_config(), some_rights(), claim, leases[:1], 0, without="a"))
