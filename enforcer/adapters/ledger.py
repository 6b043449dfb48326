"""The port Ledger: an SQLite file, written by a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from enforcer.adapters import ledgerfile as file
from enforcer.adapters.ledgerrows import (
    LEASE_COLUMNS,
    RECEIPT_COLUMNS,
    account_text,
    lease_row,
    parse_account,
    parse_lease,
    parse_profile,
    parse_receipt,
    parse_waits,
    profile_row,
    receipt_row,
    waits_text,
)
from enforcer.errors import InvalidError
from enforcer.model import NEVER_RAN, Deferred, Lease, LeaseState, Receipt, ResourceProfile
from enforcer.ports import IDLE_RECEIPTS_KEPT, NO_ACCOUNTS

log = logging.getLogger(__name__)

T = TypeVar("T")

_UNREADABLE_KEPT: Final = 1000


def _insert(table: str, columns: Sequence[str]) -> str:
    names = ", ".join(f'"{name}"' for name in columns)
    marks = ", ".join(f":{name}" for name in columns)
    return f"INSERT INTO {table} ({names}) VALUES ({marks})"  # noqa: S608  # our own names


# Not OR REPLACE: that would delete the old row first, and its account with it.
_UPSERT_LEASE: Final = f"""{_insert("leases", LEASE_COLUMNS)}
    ON CONFLICT (id) DO UPDATE SET {", ".join(f'"{c}" = excluded."{c}"' for c in LEASE_COLUMNS)}"""
_REPLACE_RECEIPT: Final = _insert("receipts", RECEIPT_COLUMNS).replace(
    "INSERT", "INSERT OR REPLACE", 1
)
_RECEIPTS: Final = "SELECT * FROM receipts ORDER BY seq DESC LIMIT ?"
_RECEIPTS_OF_USER: Final = "SELECT * FROM receipts WHERE user = ? ORDER BY seq DESC LIMIT ?"
_PRUNE_RECEIPTS: Final = """DELETE FROM receipts WHERE seq <=
    (SELECT seq FROM receipts ORDER BY seq DESC LIMIT 1 OFFSET ?)"""
_REASONS: Final = ", ".join(f"'{one}'" for one in sorted(NEVER_RAN))
_IDLE: Final = f"FROM receipts WHERE user = ?1 AND reason IN ({_REASONS})"
_PRUNE_IDLE: Final = f"""DELETE {_IDLE} AND seq <=
    (SELECT seq {_IDLE} ORDER BY seq DESC LIMIT 1 OFFSET ?2)"""
_UPSERT_ACCOUNT: Final = """INSERT INTO accounts (lease_id, ints)
    SELECT ?1, ?2 WHERE EXISTS (SELECT 1 FROM leases WHERE id = ?1)
    ON CONFLICT (lease_id) DO UPDATE SET ints = excluded.ints"""
_REPLACE_PROFILE: Final = _insert("profiles", ("name", "content")).replace(
    "INSERT", "INSERT OR REPLACE", 1
)
_PRUNE_PROFILES: Final = """DELETE FROM profiles WHERE name NOT IN
    (SELECT profile FROM leases UNION SELECT profile FROM receipts)"""
_TABLES: Final = (
    ("leases", "id"),
    ("accounts", "lease_id"),
    ("receipts", "lease_id"),
    ("profiles", "name"),
    ("waits", "name"),
)
_WAITS: Final = "waits"
"""The name of the only row of that table."""
_REPLACE_WAITS: Final = "INSERT OR REPLACE INTO waits (name, content) VALUES (?, ?)"


class SqliteLedger:
    """Keeps leases, their accounts, receipts, and the profiles that they were granted in.

    notice: a sentence for the operator if a broken file was found and moved aside, else empty.
    """

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        thread: ThreadPoolExecutor,
        timeout_seconds: float,
    ) -> None:
        """Take over what `open` made."""
        self._path = path
        self._connection = connection
        self._thread = thread
        self._timeout = timeout_seconds
        self._hanging: Future[Any] | None = None
        self.receipts_kept = 10_000
        self.notice = ""

    @classmethod
    async def open(
        cls, path: Path, *, receipts_kept: int = 10_000, timeout_seconds: float = 10.0
    ) -> Self:
        """Open the file; a broken one is moved aside and a new one begun.

        Raises:
            UnavailableError: ``state.locked``: another daemon has it; ``state.newer``: a newer
                version wrote it; ``state.unwritable``.
        """
        thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        opening = asyncio.get_running_loop().run_in_executor(thread, file.open_ledger, path)
        try:
            connection, notice = await asyncio.wait_for(opening, timeout_seconds)
        except TimeoutError as error:
            thread.shutdown(wait=False)
            raise file.unwritable(path, f"not opened within {timeout_seconds:g} s") from error
        except BaseException:
            thread.shutdown(wait=False)
            raise
        ledger = cls(path, connection, thread, timeout_seconds)
        ledger.receipts_kept = receipts_kept
        ledger.notice = notice
        return ledger

    async def load(self) -> tuple[Lease, ...]:
        """Return every lease that is not finished, the oldest first.

        A row that cannot be read is logged and kept in the table ``unreadable``.
        """
        return await self._do(self._load)

    async def store(
        self,
        leases: Sequence[Lease],
        receipts: Sequence[Receipt] = (),
        accounts: Mapping[str, Sequence[int]] = NO_ACCOUNTS,
        profiles: Sequence[ResourceProfile] = (),
    ) -> None:
        """Write all of these or none. A released lease is removed, its receipt takes its place.

        accounts: what some of these leases begin with, as for `store_accounts`.
        profiles: in place of those of the same names; with them those go that nothing names.

        Raises:
            UnavailableError: ``state.unwritable``: the disk is full, broken or too slow; nothing
                changed. A write that comes too late, or whose caller was cancelled, is undone.
        """
        if not leases and not receipts and not profiles:
            return
        kept = [lease for lease in leases if lease.state is not LeaseState.RELEASED]
        ended = [lease for lease in leases if lease.state is LeaseState.RELEASED]
        touched = [
            *(lease.id for lease in leases),
            *(one.lease_id for one in receipts),
            *(one.name for one in profiles),
        ]

        def write() -> None:
            execute = self._connection.executemany
            execute(_UPSERT_LEASE, [lease_row(lease) for lease in kept])
            execute("DELETE FROM leases WHERE id = ?", [(lease.id,) for lease in ended])
            execute(_UPSERT_ACCOUNT, _account_rows(accounts))
            execute(_REPLACE_RECEIPT, [receipt_row(one) for one in receipts])
            idle = {one.user for one in receipts if one.reason in NEVER_RAN}
            execute(_PRUNE_IDLE, [(user, IDLE_RECEIPTS_KEPT) for user in idle])
            if receipts:
                self._connection.execute(_PRUNE_RECEIPTS, (self.receipts_kept,))
            if profiles:
                self._connection.execute(_PRUNE_PROFILES)
                execute(_REPLACE_PROFILE, [profile_row(one) for one in profiles])

        await self._write(write, touched)

    async def receipts(self, user: str | None, limit: int) -> tuple[Receipt, ...]:
        """Return the newest receipts first; of one user, or of all."""
        return await self._do(lambda: self._receipts(user, max(0, limit)))

    async def store_accounts(self, accounts: Mapping[str, Sequence[int]]) -> None:
        """Write what leases used so far; an account of a lease that is not kept is dropped.

        Raises:
            UnavailableError: as `store`.
        """
        rows = _account_rows(accounts)
        if rows:
            await self._write(
                lambda: self._connection.executemany(_UPSERT_ACCOUNT, rows), list(accounts)
            )

    async def load_accounts(self) -> Mapping[str, tuple[int, ...]]:
        """Return what was written last; what cannot be read is logged and left out."""
        return await self._do(self._load_accounts)

    async def load_profiles(self) -> Mapping[str, ResourceProfile]:
        """Return the profiles as they were written last; what cannot be read is left out."""
        return await self._do(self._load_profiles)

    async def store_waits(self, deferred: Sequence[Deferred]) -> None:
        """Write which lowered limits wait until when (Unix seconds), in place of all before.

        Raises:
            UnavailableError: as `store`.
        """
        row = (_WAITS, waits_text(deferred))
        await self._write(lambda: self._connection.execute(_REPLACE_WAITS, row), [_WAITS])

    async def load_waits(self) -> tuple[Deferred, ...]:
        """Return what was written last; what cannot be read is logged and left out."""
        return await self._do(self._load_waits)

    async def close(self) -> None:
        """Close the file, after what is under way."""
        try:
            await self._do(self._connection.close)
        finally:
            self._thread.shutdown(wait=False)

    async def _do(self, call: Callable[[], T]) -> T:
        """Call something in the ledger's thread, within bounds.

        While a call that was given up still hangs there, the next ones fail at once: whoever waits
        holds up everything else.
        """
        if self._hanging is not None and not self._hanging.done():
            raise file.unwritable(self._path, "the disk still hangs")
        running = self._thread.submit(call)
        try:
            # not wait_for(): in Python 3.11 that can swallow a cancellation (gh-86296)
            async with asyncio.timeout(self._timeout):
                return await asyncio.wrap_future(running)
        except TimeoutError as error:
            # One that had not begun is cancelled: then it is another's that hangs before it.
            self._hanging = self._thread.submit(_nothing) if running.cancelled() else running
            raise file.unwritable(self._path, f"no answer within {self._timeout:g} s") from error
        except sqlite3.Error as error:
            raise file.translated(self._path, error) from error

    async def _write(self, write: Callable[[], object], touched: Sequence[str]) -> None:
        """Write in one transaction; one that nobody waits for (any more) is undone."""
        writing = _Writing(self._connection, write, touched)
        done = False
        try:
            await self._do(writing.run)
            done = True
        finally:
            if not done and writing.abandon():
                # It was committed in the very moment it was given up.
                self._thread.submit(writing.undo)

    def _load(self) -> tuple[Lease, ...]:
        found: list[Lease] = []
        broken: list[tuple[sqlite3.Row, str]] = []
        for row in self._connection.execute("SELECT * FROM leases ORDER BY created_at, id"):
            try:
                found.append(parse_lease(row))
            except InvalidError as error:
                broken.append((row, error.message))
        if broken:
            self._set_aside(broken)
        return tuple(found)

    def _set_aside(self, rows: Iterable[tuple[sqlite3.Row, str]]) -> None:
        """Move rows of leases to where they are in nobody's way, but not lost."""
        moved = []
        for row, why in rows:
            log.error("set aside: %s", why, extra={"lease": row["id"]})
            moved.append((time.time(), "lease", why, json.dumps(dict(row))))
        # On a full disk they stay, and are met again at the next start.
        with contextlib.suppress(sqlite3.Error), file.transaction(self._connection):
            self._connection.executemany(
                "INSERT INTO unreadable (at, kind, why, content) VALUES (?, ?, ?, ?)", moved
            )
            self._connection.executemany(
                "DELETE FROM leases WHERE id = ?", [(row["id"],) for row, _ in rows]
            )
            self._connection.execute(
                "DELETE FROM unreadable WHERE seq <= (SELECT MAX(seq) FROM unreadable) - ?",
                (_UNREADABLE_KEPT,),
            )

    def _receipts(self, user: str | None, limit: int) -> tuple[Receipt, ...]:
        found = []
        if user is None:
            rows = self._connection.execute(_RECEIPTS, (limit,))
        else:
            rows = self._connection.execute(_RECEIPTS_OF_USER, (user, limit))
        for row in rows:
            try:
                found.append(parse_receipt(row))
            except InvalidError as error:
                log.warning("left out: %s", error.message, extra={"lease": row["lease_id"]})
        return tuple(found)

    def _load_accounts(self) -> Mapping[str, tuple[int, ...]]:
        found = {}
        for row in self._connection.execute("SELECT lease_id, ints FROM accounts"):
            try:
                found[str(row["lease_id"])] = parse_account(row["ints"])
            except InvalidError as error:
                log.warning("left out: %s", error.message, extra={"lease": row["lease_id"]})
        return found

    def _load_profiles(self) -> Mapping[str, ResourceProfile]:
        found = {}
        for row in self._connection.execute("SELECT * FROM profiles ORDER BY name"):
            try:
                found[str(row["name"])] = parse_profile(row)
            except InvalidError as error:
                log.warning("left out profile %s: %s", row["name"], error.message)
        return found

    def _load_waits(self) -> tuple[Deferred, ...]:
        for row in self._connection.execute("SELECT content FROM waits"):
            try:
                return parse_waits(row["content"])
            except InvalidError as error:
                log.warning("left out: %s", error.message)
        return ()


def _account_rows(accounts: Mapping[str, Sequence[int]]) -> list[tuple[str, str]]:
    return [(lease_id, account_text(values)) for lease_id, values in accounts.items()]


def _nothing() -> None:
    """Show, by being done, that the thread is free again."""


class _Writing:
    """One transaction, which can be given up by another thread than the one that runs it."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        write: Callable[[], object],
        touched: Sequence[str],
    ) -> None:
        self._connection = connection
        self._write = write
        self._touched = [(one,) for one in dict.fromkeys(touched)]
        self._before: dict[str, list[sqlite3.Row]] = {}
        self._lock = threading.Lock()
        self._abandoned = False
        self._committed = False

    def run(self) -> None:
        """Write, and undo it if it was given up meanwhile: fsync(2) may take any time."""
        with file.transaction(self._connection):
            for table, key in _TABLES:
                select = f"SELECT * FROM {table} WHERE {key} = ?"  # noqa: S608  # our own names
                self._before[table] = [
                    row for one in self._touched for row in self._connection.execute(select, one)
                ]
            self._write()
        with self._lock:
            self._committed = True
            late = self._abandoned
        if late:
            self.undo()

    def abandon(self) -> bool:
        """Give it up; True if that is too late, and the caller has to have it undone."""
        with self._lock:
            self._abandoned = True
            return self._committed

    def undo(self) -> None:
        """Bring back what these rows were before. Runs in the ledger's thread."""
        try:
            with file.transaction(self._connection):
                for table, key in _TABLES:
                    delete = f"DELETE FROM {table} WHERE {key} = ?"  # noqa: S608  # our own names
                    self._connection.executemany(delete, self._touched)
                for table, _ in _TABLES:
                    for row in self._before[table]:
                        self._connection.execute(_insert(table, row.keys()), dict(row))
        except sqlite3.Error:
            log.exception("a write that came too late could not be undone")
        else:
            log.warning("a write that came too late was undone")
