"""Leases and receipts as rows of the ledger, and back into types, or not at all."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Final, TypeVar

from enforcer.errors import InvalidError
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
from enforcer.quantities import Bytes, Cpus

E = TypeVar("E", LeaseState, EndReason, AdmissionMode)

Row = Mapping[str, object]

LEASE_COLUMNS: Final = tuple(field.name for field in fields(Lease) if field.init)
RECEIPT_COLUMNS: Final = tuple(field.name for field in fields(Receipt))


def lease_row(lease: Lease) -> Row:
    """Return a lease as a row of `leases`; what has parts is JSON."""
    return {
        "id": lease.id,
        "claim": _json(asdict(lease.claim)),
        "profile": lease.profile,
        "image": lease.image,
        "grant": _json(asdict(lease.grant)),
        "state": lease.state.value,
        "created_at": lease.created_at,
        "notes": _json(lease.notes),
        "deadline": lease.deadline,
        "container_id": lease.container_id,
        "bound_at": lease.bound_at,
        "ended_at": lease.ended_at,
        "end_reason": None if lease.end_reason is None else lease.end_reason.value,
        "resized_until": lease.resized_until,
        "grant_before": None if lease.grant_before is None else _json(asdict(lease.grant_before)),
    }


def parse_lease(row: sqlite3.Row) -> Lease:
    """Read a row of `leases`.

    Raises:
        InvalidError: ``state.unreadable``, with the column.
    """
    one = _Columns("lease", dict(row))
    return Lease(
        id=one.text("id"),
        claim=_claim(one.object("claim")),
        profile=one.text("profile"),
        image=one.text("image"),
        grant=_grant(one.object("grant")),
        state=one.member("state", LeaseState),
        created_at=one.number("created_at"),
        notes=one.texts("notes"),
        deadline=one.number_or_none("deadline"),
        container_id=one.text_or_none("container_id"),
        bound_at=one.number_or_none("bound_at"),
        ended_at=one.number_or_none("ended_at"),
        end_reason=None if one.is_none("end_reason") else one.member("end_reason", EndReason),
        resized_until=one.number_or_none("resized_until"),
        grant_before=None if one.is_none("grant_before") else _grant(one.object("grant_before")),
    )


def receipt_row(receipt: Receipt) -> Row:
    """Return a receipt as a row of `receipts`."""
    return {
        **asdict(receipt),
        "grant": _json(asdict(receipt.grant)),
        "reason": receipt.reason.value,
    }


def parse_receipt(row: sqlite3.Row) -> Receipt:
    """Read a row of `receipts`.

    Raises:
        InvalidError: ``state.unreadable``, with the column.
    """
    one = _Columns("receipt", dict(row))
    limit = one.count_or_none("limit_at_kill")
    return Receipt(
        lease_id=one.text("lease_id"),
        user=one.text("user"),
        server=one.text("server"),
        profile=one.text("profile"),
        image=one.text("image"),
        grant=_grant(one.object("grant")),
        started_at=one.number("started_at"),
        ended_at=one.number("ended_at"),
        reason=one.member("reason", EndReason),
        cpu_seconds=one.number("cpu_seconds"),
        throttled_seconds=one.number("throttled_seconds"),
        memory_peak=Bytes(one.count("memory_peak")),
        oom_kills=one.count("oom_kills"),
        oom_kills_as_victim=one.count("oom_kills_as_victim"),
        limit_at_kill=None if limit is None else Bytes(limit),
    )


def account_text(values: Sequence[int]) -> str:
    """Return an account's integers as JSON."""
    return _json(list(values))


def parse_account(text: object) -> tuple[int, ...]:
    """Read what `account_text` wrote.

    Raises:
        InvalidError: ``state.unreadable``.
    """
    values = _parse_json("account", "ints", text)
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise _unreadable("account", "ints", text)
    return tuple(values)


def profile_row(profile: ResourceProfile) -> Row:
    """Return a profile as a row of `profiles`."""
    content = asdict(profile)
    del content["name"]
    return {"name": profile.name, "content": _json(content)}


def parse_profile(row: sqlite3.Row) -> ResourceProfile:
    """Read a row of `profiles`.

    Raises:
        InvalidError: ``state.unreadable``, with the column.
    """
    row_of_it = _Columns("profile", dict(row))
    one = row_of_it.object("content")
    mem_throttle, shm_size = one.count_or_none("mem_throttle"), one.count_or_none("shm_size")
    cpu_total, mem_total = one.count_or_none("cpu_total"), one.count_or_none("mem_total")
    return ResourceProfile(
        name=row_of_it.text("name"),
        cpu_limit=Cpus(one.count("cpu_limit")),
        mem_limit=Bytes(one.count("mem_limit")),
        swap_limit=Bytes(one.count("swap_limit")),
        mem_throttle=None if mem_throttle is None else Bytes(mem_throttle),
        tasks_limit=one.count_or_none("tasks_limit"),
        io_weight=one.count_or_none("io_weight"),
        shm_size=None if shm_size is None else Bytes(shm_size),
        cpu_total=None if cpu_total is None else Cpus(cpu_total),
        mem_total=None if mem_total is None else Bytes(mem_total),
        tasks_total=one.count_or_none("tasks_total"),
        admission=None if one.is_none("admission") else one.member("admission", AdmissionMode),
    )


def waits_text(deferred: Sequence[Deferred]) -> str:
    """Return which limits wait, and until when, as JSON."""
    return _json([asdict(one) for one in deferred])


def parse_waits(text: object) -> tuple[Deferred, ...]:
    """Read what `waits_text` wrote.

    Raises:
        InvalidError: ``state.unreadable``.
    """
    values = _parse_json("waits", "content", text)
    if not isinstance(values, list) or not all(isinstance(one, dict) for one in values):
        raise _unreadable("waits", "content", text)
    return tuple(_wait(_Columns("wait", one)) for one in values)


def _wait(one: _Columns) -> Deferred:
    given = one.count_or_none("given")
    return Deferred(
        subject=one.text("subject"),
        limit="swap_max" if one.text("limit") == "swap_max" else "memory_max",
        wanted=Bytes(one.count("wanted")),
        deadline=one.number_or_none("deadline"),
        given=None if given is None else Bytes(given),
    )


def _claim(one: _Columns) -> Claim:
    cpu_limit, mem_limit = one.count_or_none("cpu_limit"), one.count_or_none("mem_limit")
    cpu_guarantee = one.count_or_none("cpu_guarantee")
    mem_guarantee = one.count_or_none("mem_guarantee")
    return Claim(
        user=one.text("user"),
        server=one.text("server"),
        profile=one.text_or_none("profile"),
        image=one.text_or_none("image"),
        cpu_limit=None if cpu_limit is None else Cpus(cpu_limit),
        mem_limit=None if mem_limit is None else Bytes(mem_limit),
        cpu_guarantee=None if cpu_guarantee is None else Cpus(cpu_guarantee),
        mem_guarantee=None if mem_guarantee is None else Bytes(mem_guarantee),
        groups=one.texts("groups"),
    )


def _grant(one: _Columns) -> Grant:
    return Grant(
        cpu_limit=Cpus(one.count("cpu_limit")),
        mem_limit=Bytes(one.count("mem_limit")),
        cpu_guarantee=Cpus(one.count("cpu_guarantee")),
        mem_guarantee=Bytes(one.count("mem_guarantee")),
    )


class _Columns:
    """One row, or one JSON object in it; each method returns a column as its type or raises."""

    def __init__(self, what: str, row: Mapping[str, object]) -> None:
        self._what = what
        self._row = row

    def is_none(self, name: str) -> bool:
        return self._row.get(name) is None

    def text(self, name: str) -> str:
        value = self._row.get(name)
        if not isinstance(value, str):
            raise _unreadable(self._what, name, value)
        return value

    def text_or_none(self, name: str) -> str | None:
        return None if self.is_none(name) else self.text(name)

    def number(self, name: str) -> float:
        value = self._row.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _unreadable(self._what, name, value)
        return float(value)

    def number_or_none(self, name: str) -> float | None:
        return None if self.is_none(name) else self.number(name)

    def count(self, name: str) -> int:
        value = self._row.get(name)
        if type(value) is not int or value < 0:
            raise _unreadable(self._what, name, value)
        return value

    def count_or_none(self, name: str) -> int | None:
        return None if self.is_none(name) else self.count(name)

    def member(self, name: str, kind: type[E]) -> E:
        try:
            return kind(self.text(name))
        except ValueError:
            raise _unreadable(self._what, name, self._row.get(name)) from None

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._row.get(name)
        # a column holds JSON, an object inside it a list
        found = _parse_json(self._what, name, value) if isinstance(value, str) else value
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            raise _unreadable(self._what, name, value)
        return tuple(found)

    def object(self, name: str) -> _Columns:
        value = self._row.get(name)
        found = _parse_json(self._what, name, value)
        if not isinstance(found, dict):
            raise _unreadable(self._what, name, value)
        return _Columns(f"{self._what}'s {name}", found)


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _parse_json(what: str, name: str, value: object) -> object:
    try:
        found: object = json.loads(value) if isinstance(value, str) else None
    except (ValueError, RecursionError):
        found = None
    if found is None:
        raise _unreadable(what, name, value)
    return found


def _unreadable(what: str, name: str, value: object) -> InvalidError:
    return InvalidError("state.unreadable", f"a {what} in the ledger has {name} = {value!r:.80}")
