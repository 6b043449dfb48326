"""Errors on the wire: one place where every error becomes a problem document (RFC 9457)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web
from pydantic import ValidationError

from enforcer.api.fields import MISTAKE
from enforcer.api.types import Problem
from enforcer.errors import (
    ConflictError,
    EnforcerError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)

CONTENT_TYPE: Final = "application/problem+json"
MOST_MISTAKES: Final = 20

_log = logging.getLogger(__name__)

_STATUS: Final[tuple[tuple[type[EnforcerError], HTTPStatus], ...]] = (
    (InvalidError, HTTPStatus.BAD_REQUEST),
    (ForbiddenError, HTTPStatus.FORBIDDEN),
    (NotFoundError, HTTPStatus.NOT_FOUND),
    (ConflictError, HTTPStatus.CONFLICT),
    (RefusedError, HTTPStatus.CONFLICT),
    (UnavailableError, HTTPStatus.SERVICE_UNAVAILABLE),
)

_HINTS: Final = {
    HTTPStatus.NOT_FOUND: ("route.unknown", "GET /v1/openapi.json lists the paths there are"),
    HTTPStatus.METHOD_NOT_ALLOWED: (
        "method.not-allowed",
        "GET /v1/openapi.json lists the methods of each path",
    ),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ("request.too-large", "send less"),
    HTTPStatus.BAD_REQUEST: ("request.malformed", "send an HTTP/1.1 request"),
    HTTPStatus.EXPECTATION_FAILED: ("request.malformed", 'leave out "Expect"'),
}


class HttpError(EnforcerError):
    """What only HTTP can get wrong; it carries its own status."""

    def __init__(self, status: HTTPStatus, code: str, message: str, hint: str = "") -> None:
        super().__init__(code, message, hint)
        self.status = status


def status_of(error: EnforcerError) -> HTTPStatus:
    """Return the status of an error of our family."""
    if isinstance(error, HttpError):
        return error.status
    for family, status in _STATUS:
        if isinstance(error, family):
            return status
    return HTTPStatus.INTERNAL_SERVER_ERROR


def problem(status: HTTPStatus, code: str, detail: str, hint: str = "") -> Problem:
    """Make the document; what cannot be encoded is replaced."""
    return Problem(
        title=status.phrase,
        status=status.value,
        code=code,
        detail=_encodable(detail),
        hint=_encodable(hint),
    )


def response(said: Problem) -> web.Response:
    """Make the answer."""
    answer = web.Response(
        status=said.status, body=said.model_dump_json().encode(), content_type=CONTENT_TYPE
    )
    if said.status == HTTPStatus.SERVICE_UNAVAILABLE:
        answer.headers["Retry-After"] = "2"
    return answer


def of_error(error: Exception, doing: str) -> Problem:
    """Turn any exception into a problem; what nobody foresaw is logged and told no more about."""
    match error:
        case EnforcerError():
            return problem(status_of(error), error.code, error.message, error.hint)
        case web.HTTPException():
            status = HTTPStatus(error.status)
            code, hint = _HINTS.get(status, (f"http.{status.value}", ""))
            return problem(status, code, f"{doing}: {status.phrase.lower()}", hint)
        case ConnectionError() | web.RequestPayloadError():
            code, hint = _HINTS[HTTPStatus.BAD_REQUEST]
            return problem(HTTPStatus.BAD_REQUEST, code, "the body ended too early", hint)
        case TimeoutError():
            return problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "request.timeout",
                f"{doing} took too long",
                "try again; journalctl -u enforcer may say what it waited for",
            )
        case _:
            _log.error("%s failed", doing, exc_info=error)
            return problem(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "internal",
                "the enforcer made a mistake; nothing is known to have changed",
                "journalctl -u enforcer has the details",
            )


def unparsable(status: int) -> Problem:
    """Answer what is not even HTTP; the parser's words stay in the log."""
    code, hint = _HINTS[HTTPStatus.BAD_REQUEST]
    return problem(HTTPStatus(status), code, "this is not a request the server understands", hint)


def invalid(error: ValidationError) -> InvalidError:
    """Turn pydantic's mistakes into one error that tells of every one."""
    mistakes = error.errors(include_url=False, include_input=False)
    shown = [_mistake(one) for one in mistakes[:MOST_MISTAKES]]
    if len(mistakes) > MOST_MISTAKES:
        shown.append(f"and {len(mistakes) - MOST_MISTAKES} more")
    contexts = [one.get("ctx", {}) for one in mistakes if one["type"] == MISTAKE]
    codes = {str(context["code"]) for context in contexts}
    one_code = len(codes) == 1 and len(contexts) == len(mistakes)
    hint = next((str(context["hint"]) for context in contexts if context["hint"]), "")
    return InvalidError(
        codes.pop() if one_code else "request.invalid",
        "; ".join(shown),
        hint or "GET /v1/openapi.json says what each request may hold",
    )


def _mistake(one: Any) -> str:  # noqa: ANN401 - pydantic's own dictionary
    place = _place(one["loc"])
    message = {
        "extra_forbidden": "is no key of this request",
        "missing": "is missing",
    }.get(one["type"], one["msg"])
    return f"{place}: {message}" if place else str(message)


def _place(where: Sequence[int | str]) -> str:
    return ".".join(
        ascii(part)[1:-1][:60] if isinstance(part, str) else f"{part}" for part in where
    )


def _encodable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()
