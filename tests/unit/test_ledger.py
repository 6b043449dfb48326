"""What the disk does to the ledger; what a ledger does anyway is in the contract."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from enforcer.adapters.ledger import SqliteLedger
from enforcer.adapters.ledgerfile import open_ledger
from enforcer.errors import UnavailableError
from enforcer.model import Deferred, Lease, LeaseState
from enforcer.quantities import GIB, Bytes
from tests.contract.test_ledger_contract import SMALL, WHOLE, receipt
from tests.unit.ledger_writer import lease

ROOT = Path(__file__).parents[2]
KILLS = 30


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "enforcer.db"


@contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    """The file as somebody else would open it; what was changed is kept."""
    with closing(sqlite3.connect(path)) as connection, connection:
        yield connection


async def stored(path: Path, *leases: Lease) -> None:
    ledger = await SqliteLedger.open(path)
    await ledger.store(leases)
    await ledger.close()


async def loaded(path: Path) -> tuple[tuple[Lease, ...], str]:
    ledger = await SqliteLedger.open(path)
    try:
        return await ledger.load(), ledger.notice
    finally:
        await ledger.close()


def writer(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tests.unit.ledger_writer", *arguments]


@pytest.mark.asyncio
async def test_what_was_stored_is_there_after_a_restart(path: Path) -> None:
    await stored(path, lease(1), lease(2))
    assert await loaded(path) == ((lease(1), lease(2)), "")


def test_nobody_else_can_read_the_ledger(path: Path) -> None:
    asyncio.run(stored(path, lease(1)))
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600


def test_every_acknowledged_write_is_there_after_a_sigkill(path: Path) -> None:
    chance = random.Random(20240607)
    acknowledged = -1
    for _ in range(KILLS):
        process = subprocess.Popen(
            writer("kill", str(path), str(acknowledged + 1)),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        with process.stdout as said:
            first = said.readline()
            time.sleep(chance.uniform(0.0, 0.05))
            process.kill()
            rest = said.readlines()
        process.wait()
        assert first, "the writer wrote nothing"
        # the last line may have been cut off by the kill
        numbers = [int(line) for line in (first, *rest) if line.endswith("\n")]
        leases, notice = asyncio.run(loaded(path))
        found = {int(one.id, 16) for one in leases}
        assert notice == ""
        assert found >= set(range(2 * numbers[-1] + 2))
        assert len(found) % 2 == 0, "half of a transaction"
        acknowledged = max(numbers[-1], len(found) // 2 - 1)


def test_a_full_disk_is_an_error_and_changes_nothing_and_is_no_longer_one_later(path: Path) -> None:
    done = subprocess.run(
        writer("full", str(path), "300000"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    acknowledged, code, there, afterwards = done.stdout.split()
    assert int(acknowledged) > 10
    assert code == "state.unwritable"
    assert there == acknowledged
    assert int(afterwards) == int(acknowledged) + 1


@pytest.mark.parametrize("damage", ["no database at all", "page", "cut"])
def test_a_broken_file_is_moved_aside_and_kept(path: Path, damage: str) -> None:
    asyncio.run(stored(path, *(lease(number, notes=("x" * 500,)) for number in range(100))))
    content = bytearray(path.read_bytes())
    if damage == "no database at all":
        content = bytearray(b"\0garbage" * 1000)
    elif damage == "page":
        content[4096:40960] = b"\xa5" * 36864
    else:
        del content[len(content) // 2 :]
    path.write_bytes(content)
    leases, notice = asyncio.run(loaded(path))
    assert leases == ()
    aside = [one for one in broken(path) if not one.name.endswith(("-wal", "-shm"))]
    assert [one.read_bytes() for one in aside] == [content]
    assert str(aside[0]) in notice
    asyncio.run(stored(path, lease(1)))
    assert asyncio.run(loaded(path)) == ((lease(1),), "")


def test_two_broken_files_in_one_second_are_both_kept(path: Path) -> None:
    path.parent.mkdir()
    for content in ("one", "other"):
        path.write_text(f"no ledger but {content} " * 100)
        asyncio.run(loaded(path))
    assert len(broken(path)) == 2


@pytest.mark.asyncio
async def test_somebody_elses_database_is_moved_aside(path: Path) -> None:
    path.parent.mkdir()
    with raw(path) as connection:
        connection.execute("CREATE TABLE leases (name TEXT)")
    assert (await loaded(path))[1] != ""


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("state", "asleep"),
        ("claim", "{"),
        ("claim", "[" * 100_000),
        ("claim", '{"user": 7}'),
        ("claim", "null"),
        ("notes", '["a", 1]'),
        ("grant", '{"cpu_limit": -1}'),
        ("grant", '{"cpu_limit": 1.5, "mem_limit": 1}'),
        ("end_reason", "boredom"),
    ],
)
async def test_a_row_that_cannot_be_read_is_set_aside_and_the_rest_is_there(
    path: Path, column: str, value: str
) -> None:
    await stored(path, lease(1), lease(2))
    with raw(path) as connection:
        connection.execute(f'UPDATE leases SET "{column}" = ? WHERE id = ?', (value, lease(1).id))  # noqa: S608  # names of ours
    assert (await loaded(path))[0] == (lease(2),)
    with raw(path) as connection:
        kind, content = connection.execute("SELECT kind, content FROM unreadable").fetchone()
        left = connection.execute("SELECT count(*) FROM leases").fetchone()
    assert (kind, json.loads(content)[column]) == ("lease", value)
    assert left == (1,)


@pytest.mark.asyncio
async def test_an_account_that_cannot_be_read_is_left_out(path: Path) -> None:
    ledger = await SqliteLedger.open(path)
    await ledger.store([lease(1), lease(2)])
    await ledger.store_accounts({lease(1).id: [1], lease(2).id: [2]})
    await ledger.close()
    with raw(path) as connection:
        connection.execute("UPDATE accounts SET ints = '[1.5]' WHERE lease_id = ?", (lease(1).id,))
    ledger = await SqliteLedger.open(path)
    assert await ledger.load_accounts() == {lease(2).id: (2,)}
    await ledger.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("content", ["{", '{"cpu_limit": 1}', '{"cpu_limit": 1.5}'])
async def test_a_profile_that_cannot_be_read_is_left_out(path: Path, content: str) -> None:
    ledger = await SqliteLedger.open(path)
    await ledger.store([], profiles=[SMALL, WHOLE])
    await ledger.close()
    with raw(path) as connection:
        connection.execute("UPDATE profiles SET content = ? WHERE name = 'small'", (content,))
    ledger = await SqliteLedger.open(path)
    assert await ledger.load_profiles() == {WHOLE.name: WHOLE}
    await ledger.close()


@pytest.mark.asyncio
async def test_a_grace_of_which_nothing_tells_what_was_given_is_kept(path: Path) -> None:
    grace = Deferred(subject="a", limit="swap_max", wanted=Bytes(1), deadline=1.0)
    ledger = await SqliteLedger.open(path)
    await ledger.store_waits([replace(grace, given=Bytes(2))])
    await ledger.close()
    with raw(path) as connection:
        row = '[{"subject":"a","limit":"swap_max","wanted":1,"deadline":1.0}]'
        connection.execute("UPDATE waits SET content = ?", (row,))
    ledger = await SqliteLedger.open(path)
    assert await ledger.load_waits() == (grace,)
    await ledger.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("content", ["{", "[1]", '[{"subject": "a", "limit": "swap_max"}]'])
async def test_graces_that_cannot_be_read_are_left_out(path: Path, content: str) -> None:
    ledger = await SqliteLedger.open(path)
    await ledger.store_waits(
        [Deferred(subject="a", limit="swap_max", wanted=Bytes(1), deadline=1.0)]
    )
    await ledger.close()
    with raw(path) as connection:
        connection.execute("UPDATE waits SET content = ?", (content,))
    ledger = await SqliteLedger.open(path)
    assert await ledger.load_waits() == ()
    await ledger.close()


@pytest.mark.asyncio
async def test_a_second_daemon_is_kept_out(path: Path) -> None:
    first = await SqliteLedger.open(path)
    with pytest.raises(UnavailableError) as raised:
        await SqliteLedger.open(path)
    assert raised.value.code == "state.locked"
    await first.store([lease(1)])
    await first.close()


def test_a_ledger_of_a_newer_version_is_left_alone(path: Path) -> None:
    asyncio.run(stored(path, lease(1)))
    with raw(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    with pytest.raises(UnavailableError, match="newer version") as raised:
        asyncio.run(loaded(path))
    assert raised.value.code == "state.newer"
    assert path.read_bytes() == before


@pytest.mark.asyncio
async def test_a_ledger_of_the_first_version_is_brought_up_to_date_and_loses_nothing(
    path: Path,
) -> None:
    ledger = await SqliteLedger.open(path)
    await ledger.store([lease(1)], [receipt(2)])
    await ledger.store_accounts({lease(1).id: [7]})
    await ledger.close()
    with raw(path) as connection:
        connection.execute("ALTER TABLE receipts DROP COLUMN limit_at_kill")
        connection.execute("DROP TABLE profiles")
        connection.execute("DROP TABLE waits")
        connection.execute("PRAGMA user_version = 1")
    ledger = await SqliteLedger.open(path)
    killed = replace(receipt(3), limit_at_kill=Bytes(GIB))
    await ledger.store([], [killed], profiles=[SMALL])
    assert await ledger.receipts(None, 10) == (killed, receipt(2))
    assert await ledger.load_profiles() == {"small": SMALL}
    assert await ledger.load() == (lease(1),)
    assert await ledger.load_accounts() == {lease(1).id: (7,)}
    assert ledger.notice == ""
    await ledger.close()


@pytest.mark.asyncio
async def test_what_waited_under_the_tables_old_name_waits_on(path: Path) -> None:
    waits = Deferred(
        subject="a", limit="memory_max", wanted=Bytes(1), deadline=None, given=Bytes(2)
    )
    ledger = await SqliteLedger.open(path)
    await ledger.store_waits([waits])
    await ledger.close()
    with raw(path) as connection:
        connection.execute("ALTER TABLE waits RENAME TO graces")
        connection.execute("UPDATE graces SET name = 'graces'")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        connection.execute(f"PRAGMA user_version = {version - 1}")
    ledger = await SqliteLedger.open(path)
    assert await ledger.load_waits() == (waits,)
    await ledger.store_waits([])
    assert await ledger.load_waits() == ()
    await ledger.close()


@pytest.mark.asyncio
async def test_a_directory_that_cannot_be_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnavailableError) as raised:
        await SqliteLedger.open(tmp_path / "file" / "enforcer.db")
    assert raised.value.code == "state.unwritable"
    assert "healthy disk" in raised.value.hint


@pytest.mark.asyncio
async def test_a_disk_that_hangs_fails_in_time_and_changes_nothing(path: Path) -> None:
    disk, release = ThreadPoolExecutor(1), threading.Event()
    ledger = SqliteLedger(path, open_ledger(path)[0], disk, timeout_seconds=0.2)
    await ledger.store([lease(1)])
    await ledger.store_accounts({lease(1).id: [7]})
    disk.submit(release.wait)
    for change in ([lease(2)], [replace(lease(1), state=LeaseState.RELEASED)]):
        with pytest.raises(UnavailableError) as raised:
            await ledger.store(change)
        assert raised.value.code == "state.unwritable"
    release.set()
    disk.submit(int).result(5)  # until then it fails at once
    assert await ledger.load() == (lease(1),)
    assert await ledger.load_accounts() == {lease(1).id: (7,)}
    await ledger.close()


@pytest.mark.asyncio
async def test_a_disk_that_hangs_keeps_only_the_first_waiting(path: Path) -> None:
    disk, release = ThreadPoolExecutor(1), threading.Event()
    ledger = SqliteLedger(path, open_ledger(path)[0], disk, timeout_seconds=0.5)
    disk.submit(release.wait)
    with pytest.raises(UnavailableError):
        await ledger.store([lease(1)])
    async with asyncio.timeout(0.4):
        for number in range(20):
            with pytest.raises(UnavailableError, match="still hangs"):
                await ledger.store([lease(number)])
    release.set()
    disk.submit(int).result(5)
    await ledger.store([lease(3)])
    assert await ledger.load() == (lease(3),)
    await ledger.close()


@pytest.mark.asyncio
async def test_a_write_that_is_given_up_in_the_middle_is_undone(path: Path) -> None:
    ledger = await SqliteLedger.open(path)
    await ledger.store([lease(number) for number in range(100)])
    await ledger.store_accounts({lease(number).id: [number] for number in range(100)})
    await ledger.store([], profiles=[SMALL])
    before = await ledger.load()
    chance = random.Random(7)
    for _ in range(40):
        changed = [replace(one, notes=("changed",)) for one in before[:50]]
        gone = [replace(one, state=LeaseState.RELEASED) for one in before[50:]]
        every = [*changed, *gone, lease(1000)]
        lower = replace(SMALL, tasks_limit=1)
        begun = {lease(1000).id: [7]}
        storing = asyncio.create_task(ledger.store(every, accounts=begun, profiles=[lower]))
        await asyncio.sleep(chance.uniform(0.0, 0.004))
        storing.cancel()
        try:
            await storing
        except asyncio.CancelledError:
            assert await ledger.load() == before
            assert len(await ledger.load_accounts()) == 100
            assert await ledger.load_profiles() == {"small": SMALL}
        else:  # it was done before it could be given up
            back = [*before, replace(lease(1000), state=LeaseState.RELEASED)]
            await ledger.store(back, profiles=[SMALL])
            await ledger.store_accounts({lease(number).id: [number] for number in range(100)})
    await ledger.close()


def broken(path: Path) -> list[Path]:
    return [one for one in path.parent.iterdir() if ".broken-" in one.name]
