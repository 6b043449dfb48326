"""What every ledger does: the one in memory and the one on disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from enforcer.adapters.fakes import MemoryLedger
from enforcer.adapters.ledger import SqliteLedger
from enforcer.model import (
    AdmissionMode,
    Claim,
    Deferred,
    EndReason,
    Grant,
    Lease,
    LeaseState,
    Receipt,
    ResourceProfile,
)
from enforcer.ports import IDLE_RECEIPTS_KEPT as KEPT_IDLE
from enforcer.ports import Ledger
from enforcer.quantities import CORE, GIB, Bytes, Cpus

pytestmark = pytest.mark.asyncio

KEPT = 5
CANCELLED = EndReason.CANCELLED

LEASE = Lease(
    id="0" * 32,
    claim=Claim(user="alice", server="", profile="small", mem_guarantee=Bytes(GIB)),
    profile="small",
    image="base:latest",
    grant=Grant(cpu_limit=CORE, mem_limit=Bytes(2 * GIB), mem_guarantee=Bytes(GIB)),
    state=LeaseState.PENDING,
    created_at=1000.5,
)
FULL = Lease(
    id="1" * 32,
    claim=Claim(
        user="Å b-c@d/../\u202e'; DROP TABLE leases; --",
        server="näme 💥",
        profile="small",
        image="base:latest",
        cpu_limit=Cpus(1_500_000),
        mem_limit=Bytes(1 << 59),
        cpu_guarantee=Cpus(1),
        mem_guarantee=Bytes(4096),
        groups=("ml", "ünï, \n"),
    ),
    profile="small",
    image="base:latest",
    grant=Grant(cpu_limit=CORE, mem_limit=Bytes(2 * GIB)),
    state=LeaseState.BOUND,
    created_at=1001.25,
    notes=("less than you asked for", 'a "quoted" one'),
    deadline=1.0e10 / 3,
    container_id="f" * 64,
    bound_at=1002.0,
    ended_at=1003.0,
    end_reason=EndReason.OOM_VICTIM,
    resized_until=1004.0,
    grant_before=Grant(cpu_limit=Cpus(10_000), mem_limit=Bytes(4096)),
)

SMALL = ResourceProfile(name="small", cpu_limit=CORE, mem_limit=Bytes(2 * GIB))
WHOLE = ResourceProfile(
    name="Å b-c@d/../\u202e'; DROP TABLE profiles; --",
    cpu_limit=Cpus(1_500_000),
    mem_limit=Bytes(1 << 59),
    swap_limit=Bytes(4096),
    mem_throttle=Bytes(GIB),
    tasks_limit=100,
    io_weight=300,
    shm_size=Bytes(1 << 26),
    cpu_total=Cpus(3_000_000),
    mem_total=Bytes(1 << 60),
    tasks_total=400,
    admission=AdmissionMode.QUEUE,
)


def receipt(number: int, user: str = "alice") -> Receipt:
    return Receipt(
        lease_id=f"{number:032x}",
        user=user,
        server="",
        profile="small",
        image="base:latest",
        grant=LEASE.grant,
        started_at=1000.0,
        ended_at=2000.0 + number,
        reason=EndReason.OOM_LIMIT,
        cpu_seconds=1 / 3,
        throttled_seconds=0.0,
        memory_peak=Bytes(GIB),
        oom_kills=1,
        oom_kills_as_victim=2,
    )


@pytest_asyncio.fixture(params=["memory", "sqlite"])
async def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Ledger]:
    if request.param == "memory":
        yield MemoryLedger(receipts_kept=KEPT)
    else:
        real = await SqliteLedger.open(tmp_path / "enforcer.db", receipts_kept=KEPT)
        yield real
        await real.close()


async def test_a_new_ledger_is_empty(ledger: Ledger) -> None:
    assert await ledger.load() == ()
    assert await ledger.receipts(None, 10) == ()
    assert await ledger.load_accounts() == {}
    assert await ledger.load_profiles() == {}


@pytest.mark.parametrize("lease", [LEASE, FULL])
async def test_a_lease_comes_back_as_it_was(ledger: Ledger, lease: Lease) -> None:
    await ledger.store([lease])
    assert await ledger.load() == (lease,)


async def test_leases_come_back_the_oldest_first(ledger: Ledger) -> None:
    await ledger.store([FULL, LEASE])
    assert await ledger.load() == (LEASE, FULL)


async def test_a_lease_stored_again_replaces_itself_and_keeps_its_account(ledger: Ledger) -> None:
    await ledger.store([LEASE])
    await ledger.store_accounts({LEASE.id: [1, 2]})
    bound = replace(LEASE, state=LeaseState.BOUND, container_id="f" * 64)
    await ledger.store([bound])
    assert await ledger.load() == (bound,)
    assert await ledger.load_accounts() == {LEASE.id: (1, 2)}


async def test_a_released_lease_goes_with_its_account_and_its_receipt_comes(ledger: Ledger) -> None:
    await ledger.store([LEASE, FULL])
    await ledger.store_accounts({LEASE.id: [1], FULL.id: [2]})
    await ledger.store([replace(LEASE, state=LeaseState.RELEASED)], [receipt(0)])
    assert await ledger.load() == (FULL,)
    assert await ledger.load_accounts() == {FULL.id: (2,)}
    assert await ledger.receipts(None, 10) == (receipt(0),)


async def test_releasing_a_lease_that_was_never_stored_changes_nothing(ledger: Ledger) -> None:
    await ledger.store([replace(LEASE, state=LeaseState.RELEASED)])
    assert await ledger.load() == ()


async def test_the_newest_receipts_come_first_and_only_so_many(ledger: Ledger) -> None:
    for number in range(4):
        await ledger.store([], [receipt(number)])
    assert await ledger.receipts(None, 2) == (receipt(3), receipt(2))
    assert await ledger.receipts(None, 0) == ()
    assert await ledger.receipts(None, -1) == ()


async def test_the_oldest_receipts_beyond_the_bound_are_dropped(ledger: Ledger) -> None:
    for number in range(KEPT + 3):
        await ledger.store([], [receipt(number)])
    kept = await ledger.receipts(None, 100)
    assert kept == tuple(receipt(number) for number in range(KEPT + 2, 2, -1))


async def test_receipts_of_leases_that_never_ran_drive_out_no_others(ledger: Ledger) -> None:
    ledger.receipts_kept = 2 * KEPT_IDLE
    idle = [replace(receipt(n, "bob"), reason=CANCELLED) for n in range(2, 2 + 3 * KEPT_IDLE)]
    await ledger.store([], [receipt(0), replace(receipt(1), reason=CANCELLED)])
    await ledger.store([], [receipt(1000, "bob")])
    for one in idle:
        await ledger.store([], [one])
    kept = await ledger.receipts(None, 1000)
    ran = (receipt(1000, "bob"), replace(receipt(1), reason=CANCELLED), receipt(0))
    assert kept == (*idle[: -KEPT_IDLE - 1 : -1], *ran)


async def test_receipts_of_one_user_are_those_of_nobody_else(ledger: Ledger) -> None:
    await ledger.store([], [receipt(1), receipt(2, "bob"), receipt(3)])
    assert await ledger.receipts("alice", 10) == (receipt(3), receipt(1))
    assert await ledger.receipts("carol", 10) == ()


async def test_a_receipt_stored_again_replaces_itself(ledger: Ledger) -> None:
    await ledger.store([], [receipt(1)])
    await ledger.store([], [replace(receipt(1), oom_kills=7)])
    assert [one.oom_kills for one in await ledger.receipts(None, 10)] == [7]


async def test_a_receipt_keeps_the_limit_of_its_last_kill(ledger: Ledger) -> None:
    killed = replace(receipt(1), limit_at_kill=Bytes(8 * GIB))
    await ledger.store([], [killed])
    assert await ledger.receipts(None, 10) == (killed,)


async def test_an_account_of_a_lease_that_is_not_kept_is_dropped(ledger: Ledger) -> None:
    await ledger.store([LEASE])
    await ledger.store_accounts({LEASE.id: [3, 4], "unknown": [5]})
    await ledger.store_accounts({LEASE.id: [5, 1 << 70]})
    assert await ledger.load_accounts() == {LEASE.id: (5, 1 << 70)}


async def test_a_lease_is_stored_with_the_account_it_begins_with(ledger: Ledger) -> None:
    await ledger.store([LEASE, FULL], accounts={LEASE.id: [1, 2], "unknown": [5]})
    assert await ledger.load_accounts() == {LEASE.id: (1, 2)}
    await ledger.store([replace(LEASE, state=LeaseState.RELEASED)], accounts={LEASE.id: [3, 4]})
    assert await ledger.load_accounts() == {}


async def test_a_profile_comes_back_as_it_was_stored_last(ledger: Ledger) -> None:
    await ledger.store([], profiles=[SMALL, WHOLE])
    assert await ledger.load_profiles() == {"small": SMALL, WHOLE.name: WHOLE}
    await ledger.store([], profiles=[replace(SMALL, tasks_limit=5), WHOLE])
    assert (await ledger.load_profiles())["small"].tasks_limit == 5
    await ledger.store([LEASE])
    assert len(await ledger.load_profiles()) == 2


async def test_a_profile_goes_once_nothing_names_it(ledger: Ledger) -> None:
    await ledger.store([LEASE], profiles=[SMALL, WHOLE])
    await ledger.store([], profiles=[replace(SMALL, name="other")])
    assert set(await ledger.load_profiles()) == {"small", "other"}
    await ledger.store([replace(LEASE, state=LeaseState.RELEASED)], [receipt(0)])
    await ledger.store([], profiles=[WHOLE])
    assert set(await ledger.load_profiles()) == {"small", WHOLE.name}
    for number in range(1, KEPT + 1):
        await ledger.store([], [replace(receipt(number), profile="third")])
    await ledger.store([], profiles=[WHOLE])
    assert set(await ledger.load_profiles()) == {WHOLE.name}


async def test_what_waits_until_when_comes_back_as_it_was_stored_last(ledger: Ledger) -> None:
    assert await ledger.load_waits() == ()
    memory = Deferred(subject="a.slice", limit="memory_max", wanted=Bytes(5), deadline=1e9 + 0.5)
    swap = Deferred(
        subject="a.slice", limit="swap_max", wanted=Bytes(0), deadline=None, given=Bytes(9)
    )
    await ledger.store_waits([memory, swap])
    assert await ledger.load_waits() == (memory, swap)
    await ledger.store_waits([swap])
    assert await ledger.load_waits() == (swap,)


async def test_storing_nothing_is_no_error(ledger: Ledger) -> None:
    await ledger.store([])
    await ledger.store_accounts({})
