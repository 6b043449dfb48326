"""Reading what a peer sent: bounded, UTF-8, and JSON without the things JSON ought not to have."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import Any, Final, NoReturn, TypeVar
from urllib.parse import parse_qsl

from aiohttp import web
from pydantic import ValidationError

from enforcer.api.problems import HttpError, invalid
from enforcer.api.types import Request
from enforcer.errors import InvalidError

MOST_JSON_BYTES: Final = 64 * 1024
MOST_TEXT_BYTES: Final = 1024 * 1024
BODY_SECONDS: Final = 10.0
_MOST_PARAMETERS: Final = 600

Model = TypeVar("Model", bound=Request)


async def read_model(request: web.Request, model: type[Model]) -> Model:
    """Read a JSON object into a model.

    Raises:
        InvalidError: ``request.not-json``, ``request.invalid``, or the code of the only mistake.
        HttpError: ``request.too-large``, ``request.too-slow``.
    """
    found = _parse(await _read_text(request, MOST_JSON_BYTES))
    if not isinstance(found, dict):
        raise _not_json("the body is no JSON object")
    try:
        return model.model_validate(found)
    except ValidationError as error:
        raise invalid(error) from None


async def read_text(request: web.Request) -> str:
    """Read a body of text, a configuration.

    Raises:
        InvalidError: ``request.not-utf8``.
        HttpError: ``request.too-large``.
    """
    return await _read_text(request, MOST_TEXT_BYTES)


def read_query(
    request: web.Request, single: Collection[str], several: Collection[str] = ()
) -> tuple[Mapping[str, str], Mapping[str, list[str]]]:
    """Read the query: keys that come once, and keys that may come several times.

    Raises:
        InvalidError: ``query.invalid``: an unknown key, a key given twice; ``request.not-utf8``.
    """
    _, _, raw = request.raw_path.partition("?")
    try:
        raw.encode("ascii")
        pairs = parse_qsl(
            raw,
            keep_blank_values=True,
            strict_parsing=bool(raw),
            errors="strict",
            max_num_fields=_MOST_PARAMETERS,
        )
    except UnicodeError:
        raise _not_utf8("the query") from None
    except ValueError:
        raise _query("the query is not made of key=value pairs") from None
    once: dict[str, str] = {}
    many: dict[str, list[str]] = {key: [] for key in several}
    for key, value in pairs:
        if key in many:
            many[key].append(value)
        elif key not in single:
            known = ", ".join((*single, *several)) or "none"
            raise _query(f"{ascii(key)[:60]} is no parameter here; known are: {known}")
        elif key in once:
            raise _query(f"{key} is given twice")
        else:
            once[key] = value
    return once, many


async def _read_text(request: web.Request, most: int) -> str:
    if (request.content_length or 0) > most:
        raise _too_large(most)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            raw = await _receive(request, most)
    except TimeoutError:
        raise _too_slow() from None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise _not_utf8("the body") from None


async def _receive(request: web.Request, most: int) -> bytes:
    raw = bytearray()
    # Chunked bodies and compressed ones tell no length: count what arrives.
    async for chunk in request.content.iter_chunked(64 * 1024):
        raw += chunk
        if len(raw) > most:
            raise _too_large(most)
    return bytes(raw)


def _parse(text: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise _not_json("the body is nested too deeply") from None
    except ValueError as error:  # a number of more than 4300 digits is one too
        raise _not_json(f"the body is not JSON: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise _not_json(f"the key {ascii(twice)[:60]} is there twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise _not_json(f"{name} is no JSON number")


def _not_json(message: str) -> InvalidError:
    return InvalidError("request.not-json", message, "send a JSON object, each key once")


def _not_utf8(what: str) -> InvalidError:
    return InvalidError("request.not-utf8", f"{what} is not UTF-8", "encode it as UTF-8")


def _query(message: str) -> InvalidError:
    return InvalidError("query.invalid", message, "GET /v1/openapi.json lists the parameters")


def _too_slow() -> HttpError:
    return HttpError(
        HTTPStatus.REQUEST_TIMEOUT,
        "request.too-slow",
        f"the body did not come within {BODY_SECONDS:.0f} seconds",
        "send it at once, as long as Content-Length says",
    )


def _too_large(most: int) -> HttpError:
    return HttpError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "request.too-large",
        f"the body has more than {most} bytes",
        "send less",
    )
