"""What the daemon and its actuator say to each other: one JSON object a line, bounded.

Framing and typing only; what a call means is known to systemd.py (who asks) and actuator.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

MAX_REQUEST: Final = 64 * 1024
MAX_REPLY: Final = 4 * 1024 * 1024
"""Bytes in a line, its end included."""

EXISTS: Final = "exists"
NO_SUCH_UNIT: Final = "no-such-unit"
REFUSED: Final = "refused"
DISCONNECTED: Final = "disconnected"
TIMEOUT: Final = "timeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call: its number, which one, and its arguments as JSON has them."""

    id: int
    call: str
    arguments: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer to the request of the same number: a result, or an error's word and message."""

    id: int
    result: object = None
    error: str = ""
    message: str = ""


class WireError(ValueError):
    """The other side does not speak as agreed; nothing it says from here on can be trusted."""


def encode_request(request: Request) -> bytes:
    """Return the line of a request.

    Raises:
        WireError: it would be longer than `MAX_REQUEST`.
    """
    line = _line({"id": request.id, "call": request.call, "arguments": request.arguments})
    if len(line) > MAX_REQUEST:
        raise WireError(f"a request of {len(line)} bytes is too long")
    return line


def decode_request(line: bytes) -> Request:
    """Parse the line of a request.

    Raises:
        WireError: it is none.
    """
    message = _object(line, MAX_REQUEST)
    match message:
        case {"id": int(number), "call": str(call), "arguments": dict(arguments)}:
            return Request(id=number, call=call, arguments=arguments)
        case _:
            raise WireError(f"not a request: {line[:100]!r}")


def encode_reply(reply: Reply) -> bytes:
    """Return the line of a reply; a result that is too long becomes an error."""
    if reply.error:
        return _line({"id": reply.id, "error": reply.error, "message": reply.message[:1000]})
    line = _line({"id": reply.id, "result": reply.result})
    if len(line) > MAX_REPLY:
        return _line({"id": reply.id, "error": REFUSED, "message": "the result is too long"})
    return line


def decode_reply(line: bytes) -> Reply:
    """Parse the line of a reply.

    Raises:
        WireError: it is none.
    """
    message = _object(line, MAX_REPLY)
    match message:
        case {"id": int(number), "error": str(error), "message": str(text)}:
            return Reply(id=number, error=error, message=text)
        case {"id": int(number), "result": result}:
            return Reply(id=number, result=result)
        case _:
            raise WireError(f"not a reply: {line[:100]!r}")


def _line(message: Mapping[str, object]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def _object(line: bytes, most: int) -> dict[str, object]:
    if len(line) > most or not line.endswith(b"\n"):
        raise WireError(f"a line of {len(line)} bytes is too long, or cut off")
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not JSON: {line[:100]!r}") from error
    if not isinstance(message, dict):
        raise WireError(f"not an object: {line[:100]!r}")
    return message
