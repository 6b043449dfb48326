"""The ledger's file: made, brought up to date and checked, or moved aside where it is broken."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from enforcer.errors import UnavailableError

log = logging.getLogger(__name__)

_MIGRATIONS: Final = (
    (
        """CREATE TABLE leases (
            id TEXT PRIMARY KEY, claim TEXT NOT NULL, profile TEXT NOT NULL, image TEXT NOT NULL,
            "grant" TEXT NOT NULL, state TEXT NOT NULL, created_at REAL NOT NULL,
            notes TEXT NOT NULL, deadline REAL, container_id TEXT, bound_at REAL, ended_at REAL,
            end_reason TEXT, resized_until REAL, grant_before TEXT) STRICT""",
        """CREATE TABLE accounts (
            lease_id TEXT PRIMARY KEY REFERENCES leases (id) ON DELETE CASCADE,
            ints TEXT NOT NULL) STRICT""",
        """CREATE TABLE receipts (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, lease_id TEXT NOT NULL UNIQUE,
            user TEXT NOT NULL, server TEXT NOT NULL, profile TEXT NOT NULL, image TEXT NOT NULL,
            "grant" TEXT NOT NULL, started_at REAL NOT NULL, ended_at REAL NOT NULL,
            reason TEXT NOT NULL, cpu_seconds REAL NOT NULL, throttled_seconds REAL NOT NULL,
            memory_peak INTEGER NOT NULL, oom_kills INTEGER NOT NULL,
            oom_kills_as_victim INTEGER NOT NULL) STRICT""",
        "CREATE INDEX receipts_of_user ON receipts (user, seq)",
        """CREATE TABLE unreadable (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, kind TEXT NOT NULL,
            why TEXT NOT NULL, content TEXT NOT NULL) STRICT""",
    ),
    ("ALTER TABLE receipts ADD COLUMN limit_at_kill INTEGER",),
    ("CREATE TABLE profiles (name TEXT PRIMARY KEY, content TEXT NOT NULL) STRICT",),
    ("CREATE TABLE graces (name TEXT PRIMARY KEY, content TEXT NOT NULL) STRICT",),
    # it holds whatever waits by now, with a grace or without
    ("ALTER TABLE graces RENAME TO waits", "UPDATE waits SET name = 'waits'"),
)
"""From one version of the schema (PRAGMA user_version) to the next. Only ever added to."""

_BROKEN: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}
"""What says that the content is not a ledger. SQLITE_ERROR: no such table or column."""


def open_ledger(path: Path) -> tuple[sqlite3.Connection, str]:
    """Open the file, making it and its directory (0700) where they are missing.

    Return the connection, and a sentence for the operator if a broken file was moved aside; it is
    empty otherwise. The file is locked for as long as it is open.

    Raises:
        UnavailableError: ``state.locked``, ``state.newer``, ``state.unwritable``.
    """
    notice = ""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        try:
            return _open(path), ""
        except sqlite3.DatabaseError as error:
            if code(error) not in _BROKEN:
                raise
            notice = _move_aside(path, str(error))
        return _open(path), notice
    except OSError as error:
        raise unwritable(path, error.strerror or str(error)) from error
    except sqlite3.Error as error:
        raise translated(path, error) from error


def translated(path: Path, error: sqlite3.Error) -> UnavailableError:
    """Return what an error of SQLite's means here."""
    if code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return UnavailableError(
            "state.locked", f"{path} is in use by another process", "is another daemon running?"
        )
    return unwritable(path, str(error))


def unwritable(path: Path, why: str) -> UnavailableError:
    """Return the error of a disk that does not take or give what it should."""
    return UnavailableError(
        "state.unwritable",
        f"{path}: {why}",
        f"see that there is room and a healthy disk under {path.parent}",
    )


def code(error: sqlite3.Error) -> int | None:
    """Return SQLite's primary result code (sqlite.org/rescode.html); None for the module's own."""
    found = getattr(error, "sqlite_errorcode", None)
    return None if found is None else int(found) & 0xFF


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing, on the disk when this ends."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # After a full disk SQLite has rolled back by itself.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _open(path: Path) -> sqlite3.Connection:
    # One thread at a time uses it, but not always the one that opened it.
    connection = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
    try:
        connection.row_factory = sqlite3.Row
        # Exclusive first: then there is no shared memory file, and a second daemon is kept out.
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA trusted_schema=OFF")
        with transaction(connection):  # takes the lock at once
            pass
        _check(connection)
        _migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection) -> None:
    found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(3)")]
    if found != ["ok"]:
        error = sqlite3.DatabaseError("; ".join(found))
        error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise error


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    newest = len(_MIGRATIONS)
    if version > newest:
        raise UnavailableError(
            "state.newer",
            f"{path} was written by a newer version (schema {version}, this one knows {newest})",
            "install that version again, or move the file away",
        )
    for number, statements in enumerate(_MIGRATIONS[version:], start=version + 1):
        with transaction(connection):
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
    for table in ("leases", "accounts", "receipts", "unreadable", "profiles", "waits"):
        connection.execute(f"SELECT * FROM {table} LIMIT 0")  # noqa: S608  # our own names


def _move_aside(path: Path, why: str) -> str:
    """Rename the file, and its log of unfinished writes; nothing is ever deleted."""
    stem = f"{path.name}.broken-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
    aside = path.with_name(stem)
    number = 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{stem}-{number}")
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
    notice = (
        f"the ledger was broken ({why}) and is now {aside}: begun anew with what the world shows"
    )
    log.error("%s", notice)
    return notice
