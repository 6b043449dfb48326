"""What a client says and how it reads the answer, whatever carries the bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote, urlencode

from pydantic import ValidationError

from enforcer.api import types
from enforcer.errors import (
    ConflictError,
    EnforcerError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from enforcer.model import Claim, LeaseState, Resize
from enforcer.quantities import CORE

_JSON: Final = "application/json"
_TEXT: Final = "text/plain; charset=utf-8"

ReplyT = TypeVar("ReplyT", bound=types.Reply)

_FAMILIES: Final[dict[int, type[EnforcerError]]] = {
    HTTPStatus.BAD_REQUEST: InvalidError,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: InvalidError,
    HTTPStatus.FORBIDDEN: ForbiddenError,
    HTTPStatus.NOT_FOUND: NotFoundError,
    HTTPStatus.CONFLICT: ConflictError,
    HTTPStatus.SERVICE_UNAVAILABLE: UnavailableError,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask(Generic[ReplyT]):
    """One request, and the type of its reply. wait_seconds: how long it may take by itself.

    Every request may be sent twice: the same claim gets the same lease.
    """

    method: str
    target: str
    reply: type[ReplyT]
    body: bytes | None = None
    content_type: str = _JSON
    wait_seconds: float = 0.0
    headers: dict[str, str] = field(default_factory=lambda: {"Accept": _JSON})

    @property
    def all_headers(self) -> dict[str, str]:
        """The headers to send."""
        return self.headers | ({} if self.body is None else {"Content-Type": self.content_type})

    def read(self, status: int, body: bytes) -> ReplyT:
        """Return the reply.

        Raises:
            EnforcerError: the one that the daemon raised.
            UnavailableError: ``daemon.unintelligible``.
        """
        check(status, body)
        try:
            return self.reply.model_validate_json(body or b"{}")
        except ValidationError as error:
            raise _unintelligible(status) from error


class Nothing(types.Reply):
    """The reply where nothing is said."""


def check(status: int, body: bytes) -> None:
    """Raise the error that an answer carries, if it does."""
    if status < HTTPStatus.BAD_REQUEST:
        return
    try:
        said = types.Problem.model_validate_json(body)
    except ValidationError as error:
        raise _unintelligible(status) from error
    family = _FAMILIES.get(status, EnforcerError)
    if status == HTTPStatus.CONFLICT and said.code.startswith("admission."):
        family = RefusedError
    raise family(said.code, said.detail, said.hint)


def status() -> Ask[types.StatusReply]:
    """Ask how everything is."""
    return _get("/v1/status", types.StatusReply)


def slices() -> Ask[types.SlicesReply]:
    """Ask for the slice tree."""
    return _get("/v1/slices", types.SlicesReply)


def catalogue(user: str | None, server: str, groups: Sequence[str]) -> Ask[types.CatalogueReply]:
    """Ask what a user may choose from."""
    return _get("/v1/catalogue", types.CatalogueReply, *_whose(user, server, groups))


def explain(user: str | None, server: str, groups: Sequence[str]) -> Ask[types.ExplainReply]:
    """Ask why a server has what it has."""
    return _get("/v1/explain", types.ExplainReply, *_whose(user, server, groups))


def leases(user: str | None) -> Ask[types.LeasesReply]:
    """Ask for the leases there are."""
    return _get("/v1/leases", types.LeasesReply, ("user", user))


def lease(lease_id: str, wait_seconds: float, state: LeaseState | None) -> Ask[types.LeaseReply]:
    """Ask for one lease."""
    query = [("wait_seconds", f"{wait_seconds:g}" if wait_seconds else None), ("state", state)]
    return _get(_lease(lease_id), types.LeaseReply, *query, wait_seconds=wait_seconds)


def bounds(lease_id: str) -> Ask[types.BoundsReply]:
    """Ask for the most that a resize may ask for."""
    return _get(f"{_lease(lease_id)}/bounds", types.BoundsReply)


def history(lease_id: str) -> Ask[types.HistoryReply]:
    """Ask for a lease's samples."""
    return _get(f"{_lease(lease_id)}/history", types.HistoryReply)


def receipts(user: str | None, limit: int) -> Ask[types.ReceiptsReply]:
    """Ask for receipts."""
    return _get("/v1/receipts", types.ReceiptsReply, ("user", user), ("limit", str(limit)))


def claim(wanted: Claim) -> Ask[types.LeaseReply]:
    """Claim a lease."""
    said = {
        "user": wanted.user,
        "server": wanted.server,
        "profile": wanted.profile,
        "image": wanted.image,
        **_numbers(wanted),
        "groups": list(wanted.groups),
    }
    return Ask(method="POST", target="/v1/leases", reply=types.LeaseReply, body=_json(said))


def resize(lease_id: str, change: Resize) -> Ask[types.LeaseReply]:
    """Ask for other numbers."""
    body = _json({**_numbers(change), "seconds": change.seconds})
    return Ask(method="PATCH", target=_lease(lease_id), reply=types.LeaseReply, body=body)


def release(lease_id: str) -> Ask[Nothing]:
    """End a lease."""
    return Ask(method="DELETE", target=_lease(lease_id), reply=Nothing)


def reload() -> Ask[types.ReloadReply]:
    """Have the configuration read again."""
    return Ask(method="POST", target="/v1/reload", reply=types.ReloadReply)


def plan(text: str) -> Ask[types.PlanReply]:
    """Ask what a configuration would change; what was no UTF-8 in the file is sent as it was."""
    return Ask(
        method="POST",
        target="/v1/plan",
        reply=types.PlanReply,
        body=text.encode(errors="surrogateescape"),
        content_type=_TEXT,
    )


def _get(
    path: str, reply: type[ReplyT], *query: tuple[str, str | None], wait_seconds: float = 0.0
) -> Ask[ReplyT]:
    given = [(key, value) for key, value in query if value is not None]
    try:
        text = urlencode(given)
    except UnicodeEncodeError:
        raise InvalidError("request.not-utf8", "a name has no UTF-8 form") from None
    target = f"{path}?{text}" if text else path
    return Ask(method="GET", target=target, reply=reply, wait_seconds=wait_seconds)


def _whose(
    user: str | None, server: str, groups: Sequence[str]
) -> Sequence[tuple[str, str | None]]:
    return [("user", user), ("server", server or None), *(("group", one) for one in groups)]


def _lease(lease_id: str) -> str:
    return f"/v1/leases/{quote(lease_id, safe='', errors='replace')}"


def _numbers(wanted: Claim | Resize) -> dict[str, str | int | None]:
    """CPU as text, because a float of few microseconds would be written with an exponent."""
    return {
        "cpu_limit": _cores(wanted.cpu_limit),
        "mem_limit": wanted.mem_limit,
        "cpu_guarantee": _cores(wanted.cpu_guarantee),
        "mem_guarantee": wanted.mem_guarantee,
    }


def _cores(cpus: int | None) -> str | None:
    return None if cpus is None else f"{cpus / CORE:.6f}"


def _json(said: dict[str, Any]) -> bytes:
    return json.dumps({key: value for key, value in said.items() if value is not None}).encode()


def _unintelligible(status: int) -> UnavailableError:
    return UnavailableError(
        "daemon.unintelligible",
        f"the daemon's answer, status {status}, is not one this client understands",
        "is something else listening there, or is the daemon older than its client?",
    )
