"""What the actuator process does, whatever it reaches PID 1 with: request after request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import BinaryIO, Final, Protocol

from enforcer.adapters.wire import (
    MAX_REQUEST,
    REFUSED,
    Reply,
    Request,
    decode_request,
    encode_reply,
)

_MAX_REFUSALS: Final = 1000
"""pystemd 0.15.3 never frees the message of a call that was refused; a new process has none."""


class CallError(Exception):
    """A call failed; `word` is one of wire.py's."""

    def __init__(self, word: str, message: str) -> None:
        super().__init__(message)
        self.word = word


class Bus(Protocol):
    """PID 1's methods, as far as they are needed. All block, all raise CallError."""

    def start_transient(self, unit: str, properties: Mapping[str, object]) -> None:
        """Make and start a transient unit; EXISTS if there is one."""
        ...

    def set_properties(self, unit: str, properties: Mapping[str, object], *, runtime: bool) -> None:
        """Set a unit's properties, until it ends (or the machine does) or for good."""
        ...

    def start(self, unit: str) -> None:
        """Start a unit; nothing happens to one that runs."""
        ...

    def stop(self, unit: str) -> None:
        """Begin to stop a unit."""
        ...

    def revert(self, unit: str) -> None:
        """Remove what was set on a unit, and its drop-ins."""
        ...

    def control_group(self, service: str) -> str | None:
        """Return a service's cgroup; None when it does not run."""
        ...


_CALLS: Final = frozenset(
    {
        "start_transient",
        "set_properties",
        "start",
        "stop",
        "revert",
        "control_group",
    }
)


class Actuator:
    """Carries out requests on a bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.refusals = 0

    def answer(self, request: Request) -> Reply:
        """Carry out one request; whatever goes wrong is in the reply."""
        if request.call not in _CALLS:
            return Reply(id=request.id, error=REFUSED, message=f"no such call: {request.call}")
        try:
            call: Callable[..., object] = getattr(self._bus, request.call)
            return Reply(id=request.id, result=call(**request.arguments))
        except CallError as error:
            self.refusals += 1
            return Reply(id=request.id, error=error.word, message=str(error))
        except (TypeError, KeyError, ValueError, OverflowError) as error:
            # arguments that D-Bus cannot carry: ours to mend, but no reason to stop
            self.refusals += 1
            return Reply(id=request.id, error=REFUSED, message=f"{type(error).__name__}: {error}")


def serve(requests: BinaryIO, replies: BinaryIO, bus: Bus) -> None:
    """Answer request after request until there are no more.

    Raises:
        WireError: something else than a request came.
    """
    actuator = Actuator(bus)
    while actuator.refusals < _MAX_REFUSALS:
        line = requests.readline(MAX_REQUEST + 1)
        if not line:
            return
        replies.write(encode_reply(actuator.answer(decode_request(line))))
        replies.flush()
