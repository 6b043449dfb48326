"""What the pages say of servers, and of those that ended."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enforcer.api.replies import explain_reply, lease_reply, receipt_reply
from enforcer.api.types import ExplainReply, LeaseReply, LevelReply, SampleReply
from enforcer.explain import Explanation
from enforcer.model import Claim, EndReason, Grant, Hold, Lease, LeaseState, Receipt
from enforcer.quantities import CORE, GIB, MIB, Bytes, Cpus
from spawner.pages import told, words

GRANT = Grant(cpu_limit=Cpus(2 * CORE), mem_limit=Bytes(10 * GIB))
RECEIPT = Receipt(
    lease_id="a" * 32,
    user="alice",
    server="",
    profile="Large",
    image="Lab",
    grant=GRANT,
    started_at=1000.0,
    ended_at=5000.0,
    reason=EndReason.OOM_LIMIT,
    cpu_seconds=100.0,
    throttled_seconds=0.0,
    memory_peak=Bytes(10 * GIB),
    oom_kills=1,
    oom_kills_as_victim=0,
)


def lease(state: LeaseState = LeaseState.BOUND) -> LeaseReply:
    return lease_reply(
        Lease(
            id="a" * 32,
            claim=Claim(user="alice"),
            profile="Large",
            image="Lab",
            grant=GRANT,
            state=state,
            created_at=0.0,
        )
    )


def sample(
    at: float, memory: float, kills: int = 0, own: int = 0, limit: int | None = 10 * GIB
) -> SampleReply:
    return SampleReply(
        at=at,
        cpu=1.0,
        memory=int(memory * GIB),
        throttled=0.0,
        cpu_pressure=0.0,
        memory_pressure=0.0,
        io_pressure=0.0,
        oom_kills=kills,
        oom_own=own,
        cpu_limit=2.0,
        mem_limit=limit,
    )


def level(title: str, *, throttled: float = 0.0, waits: float = 0.0, **said: object) -> LevelReply:
    return LevelReply.model_validate(
        {
            "unit": "x.slice",
            "title": title,
            "cpu_limit": 2.0,
            "cpu_cap": None,
            "cpu_used": 1.0,
            "cpu_guarantee": 0.0,
            "mem_limit": 10 * GIB,
            "mem_throttle": None,
            "mem_used": 1 * GIB,
            "mem_guarantee": 0,
            "swap_limit": 0,
            "swap_used": 0,
            "tasks_limit": 4096,
            "tasks": 9,
            "throttled": throttled,
            "cpu_pressure": waits,
            "memory_pressure": 0.0,
            "oom_own": 0,
            "throttle_hits": 0,
            "forks_refused": 0,
            "binds": "hold" in said,
            "hold": None,
            "sentence": "",
            **said,
        }
    )


def explained(*levels: LevelReply) -> ExplainReply:
    bare = Explanation(
        user="alice", server="", lease=None, summary="", sentences=(), levels=(), rights=()
    )
    return explain_reply(bare, None).model_copy(update={"levels": list(levels)})


def said(receipt: Receipt, whose: str = "Your") -> str:
    return told.receipt_sentence(receipt_reply(receipt), whose)


def test_a_kill_at_the_own_limit_says_limit_and_peak() -> None:
    assert said(RECEIPT) == "Your kernel was killed at {at}: 10 GiB limit reached, peak 10.0 GiB."


def test_a_kill_before_a_resize_names_the_limit_of_then() -> None:
    killed = replace(RECEIPT, limit_at_kill=Bytes(8 * GIB), memory_peak=Bytes(8 * GIB))
    assert said(killed) == "Your kernel was killed at {at}: 8 GiB limit reached, peak 8.0 GiB."
    # the peak was at the other limit, and would belie this one
    more = replace(killed, memory_peak=Bytes(9 * GIB))
    assert said(more) == "Your kernel was killed at {at}: 8 GiB limit reached."


def test_a_kill_as_a_victim_blames_nobodys_own_limit() -> None:
    victim = replace(
        RECEIPT,
        server="gpu",
        reason=EndReason.OOM_VICTIM,
        oom_kills=0,
        oom_kills_as_victim=1,
        memory_peak=Bytes(700 * MIB),
    )
    assert said(victim, "alice's").startswith(
        "alice's kernel in server gpu was killed at {at} because the machine, or a level above"
    )
    assert "at most 700 MiB of its 10 GiB" in said(victim)
    assert "limit reached" not in said(victim)


def test_kills_before_a_stop_are_told_too() -> None:
    stopped = replace(RECEIPT, reason=EndReason.STOPPED, oom_kills=2)
    assert said(stopped) == (
        "Your server was stopped at {at}. Before that, 2 processes were killed in it: 10 GiB limit"
        " reached, peak 10.0 GiB."
    )
    victim = replace(stopped, oom_kills=0, oom_kills_as_victim=1)
    assert "a level above it was full" in said(victim)


@pytest.mark.parametrize("reason", list(EndReason))
def test_every_reason_has_its_sentence(reason: EndReason) -> None:
    document = told.receipt(receipt_reply(replace(RECEIPT, reason=reason, oom_kills=0)))
    assert "{at}" in document.sentence
    assert "2 cores and 10 GiB; 100 s of CPU" in document.detail


def test_what_slows_a_server_is_named() -> None:
    leaf = level("alice's server", waits=0.4)
    profile = level("profile Large", throttled=0.38, hold=Hold.CPU)
    assert (
        told.slowed_by(explained(leaf, profile)) == "profile Large's CPU quota (38 % of the time)"
    )
    own = level("alice's server", throttled=0.5, hold=Hold.CPU)
    assert told.slowed_by(explained(own)) == "its own CPU quota (50 % of the time)"
    full = level("profile Large", mem_used=10 * GIB, hold=Hold.MEMORY)
    assert "memory limit (10 GiB of 10 GiB in use)" in told.slowed_by(explained(leaf, full))
    assert "by weight" in told.slowed_by(explained(leaf))
    crawls = level("x", memory_pressure=0.8, mem_throttle=9 * GIB, hold=Hold.MEMORY_THROTTLE)
    assert (
        told.slowed_by(explained(crawls)) == "its own memory throttle of 9 GiB (80 % of the time)"
    )
    tasks = level("profile Large", tasks=4096, hold=Hold.TASKS)
    assert told.slowed_by(explained(leaf, tasks)) == (
        "profile Large's limit of 4096 processes and threads: no more can start until some have"
        " ended"
    )
    assert told.slowed_by(explained(level("x"))) == told.slowed_by(explained()) == ""


def test_a_quota_above_holds_back_only_who_has_something_to_run() -> None:
    profile = level("profile Large", throttled=0.38)
    assert told.held_back(explained(level("x", waits=0.4), profile)) == 0.38
    assert told.held_back(explained(level("x"), profile)) == 0.0
    assert told.held_back(explained()) == 0.0


def test_nearly_full_memory_is_warned_of() -> None:
    assert told.warning(lease(), [sample(0, 8.4)]) == ""
    assert "8.6 GiB of 10 GiB" in told.warning(lease(), [sample(0, 8.6)])
    assert told.warning(lease(LeaseState.PENDING), [sample(0, 9.9)]) == ""
    assert told.warning(lease(), []) == ""


def test_memory_that_will_be_full_soon_is_warned_of_with_the_time_that_is_left() -> None:
    fast = [sample(at, 5 + at / 60) for at in range(0, 61, 2)]
    assert "at this pace it is full in about 4 min" in told.warning(lease(), fast)
    slow = [sample(at, 5 + at / 6000) for at in range(0, 61, 2)]
    assert told.warning(lease(), slow) == ""
    assert told.warning(lease(), fast[:5]) == ""


def test_kills_in_a_server_that_runs_on_say_whose_fault_it_was() -> None:
    samples = [
        sample(1, 1),
        sample(2, 1, kills=1, own=1, limit=8 * GIB),  # resized since
        sample(3, 1, kills=2),
        sample(4, 1, kills=3, own=1),
        sample(5, 1, kills=1, own=1, limit=None),
    ]
    found = told.server(lease(), samples, explained(level("x", oom_own=3)), 0.0).events
    not_own = "the machine, or a level above your server, was full; it was not your own limit"
    assert [(one.at, one.sentence) for one in found] == [
        (2, "A process was killed at {at}: 8 GiB limit reached."),
        (3, f"2 processes were killed at {{at}}: {not_own}."),
        (4, "A process was killed at {at}: 10 GiB limit reached."),
        (4, f"2 processes were killed at {{at}}: {not_own}."),
        (5, "A process was killed at {at}: memory limit reached."),
    ]


def test_only_new_samples_are_sent() -> None:
    document = told.server(lease(), [sample(1, 1), sample(2, 2)], explained(level("x")), 1.0)
    assert (document.samples.at, document.samples.memory) == ([2], [2 * GIB])


def test_every_sample_has_the_limits_of_its_time() -> None:
    before = sample(1, 1, limit=8 * GIB).model_copy(update={"cpu_limit": 1.0})
    columns = told.server(lease(), [before, sample(2, 2)], explained(level("x")), 0.0).samples
    assert (columns.cpu_limit, columns.mem_limit) == ([1.0, 2.0], [8 * GIB, 10 * GIB])


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_a_field_never_says_more_than_there_is(amount: float, other: float) -> None:
    assert float(words.field(amount)) <= amount + 1e-6
    assert (amount <= other) <= (float(words.field(amount)) <= float(words.field(other)))


@pytest.mark.parametrize(
    ("amount", "written"),
    [(0.1875, "0.1875"), (0.09375, "0.09375"), (0.1, "0.1"), (2.5714285, "2.571"), (4.0, "4")],
)
def test_a_small_amount_is_written_whole(amount: float, written: str) -> None:
    assert words.field(amount) == written
