"""The process that holds pystemd: reads requests from its input, calls PID 1, writes replies.

pystemd blocks and keeps the interpreter's lock during a call. Here that costs nobody anything, and
when PID 1 hangs, this process can be killed. It knows D-Bus and nothing of leases or limits.
Started by systemd.py as ``python -m enforcer.adapters.actuator <pid of the daemon>``.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from pystemd.dbusexc import (
    DBusBaseError,
    DBusDisconnectedError,
    DBusNoReplyError,
    DBusNoSuchUnitError,
    DBusServiceUnknownError,
)
from pystemd.dbuslib import DBus, apply_signature, path_encode
from pystemd.systemd1.unit_signatures import KNOWN_UNIT_SIGNATURES, signature_array

from enforcer.adapters.actuatorloop import CallError, serve
from enforcer.adapters.wire import (
    DISCONNECTED,
    EXISTS,
    NO_SUCH_UNIT,
    REFUSED,
    TIMEOUT,
    WireError,
)

log = logging.getLogger(__name__)

_SYSTEMD: Final = b"org.freedesktop.systemd1"
_PATH: Final = b"/org/freedesktop/systemd1"
_UNITS: Final = b"/org/freedesktop/systemd1/unit"
_MANAGER: Final = b"org.freedesktop.systemd1.Manager"
_SERVICE: Final = b"org.freedesktop.systemd1.Service"
_SIGNATURES: Final = {
    b"AllowedCPUs": b"ay",
    b"CPUQuotaPeriodUSec": b"t",
    b"CPUWeight": b"t",
    b"IOWeight": b"t",
    b"MemoryMin": b"t",
}
_ATTEMPTS: Final = 20
_PAUSE_SECONDS: Final = 0.2
_GONE: Final = frozenset(
    {errno.ECONNRESET, errno.ENOTCONN, errno.EPIPE, errno.ECONNREFUSED, errno.ESTALE}
)
_LOST: Final = (DBusDisconnectedError, DBusServiceUnknownError)
_OWN_TIMEOUT: Final = "timed out"
"""In sd-bus's message when the time is up. Its name and number are also those of a lost peer."""
_UNIT_EXISTS: Final = b"org.freedesktop.systemd1.UnitExists"


class SystemBus:
    """The system bus, on one connection that is made anew when it breaks."""

    def __init__(self) -> None:
        self._bus: DBus | None = None

    def start_transient(self, unit: str, properties: Mapping[str, object]) -> None:
        """Make and start a transient unit; EXISTS if there is one."""
        arguments = apply_signature(b"ss", [unit.encode(), b"fail"])
        arguments += signature_array(properties)
        arguments += [(ord("a"), b"(sa(sv))"), (-1, None)]  # no auxiliary units
        self._call(b"StartTransientUnit", arguments)

    def set_properties(self, unit: str, properties: Mapping[str, object], *, runtime: bool) -> None:
        """Set a unit's properties, until it ends (or the machine does) or for good."""
        arguments = apply_signature(b"sb", [unit.encode(), runtime])
        self._call(b"SetUnitProperties", arguments + signature_array(properties))

    def start(self, unit: str) -> None:
        """Start a unit; nothing happens to one that runs."""
        self._call(b"StartUnit", apply_signature(b"ss", [unit.encode(), b"fail"]))

    def stop(self, unit: str) -> None:
        """Begin to stop a unit."""
        self._call(b"StopUnit", apply_signature(b"ss", [unit.encode(), b"replace"]))

    def revert(self, unit: str) -> None:
        """Remove what was set on a unit, and its drop-ins."""
        self._call(b"RevertUnitFiles", apply_signature(b"as", [[unit.encode()]]))

    def control_group(self, service: str) -> str | None:
        """Return a service's cgroup; None when it does not run."""
        path = path_encode(_UNITS, service.encode())
        found = self._with_bus(
            lambda bus: bus.get_property(_SYSTEMD, path, _SERVICE, b"ControlGroup", b"s")
        )
        return os.fsdecode(found) or None

    def _call(self, method: bytes, arguments: list[Any]) -> Any:  # noqa: ANN401  # D-Bus's own types
        return self._with_bus(
            lambda bus: bus.call_method(_SYSTEMD, _PATH, _MANAGER, method, arguments).body
        )

    def _with_bus(self, use: Callable[[DBus], Any]) -> Any:  # noqa: ANN401  # whatever `use` returns
        """Use the connection; while PID 1 re-executes itself it is away for a moment.

        Every call may be repeated: each says what is to be so, not what is to change.
        """
        attempt = 1
        while True:
            try:
                if self._bus is None:
                    bus = DBus()
                    bus.open()
                    self._bus = bus
                return use(self._bus)
            except DBusBaseError as error:
                failure = _explain(error)
                if failure.word == DISCONNECTED:
                    self._close()
                if failure.word != DISCONNECTED or attempt == _ATTEMPTS:
                    raise failure from error
            attempt += 1
            time.sleep(_PAUSE_SECONDS)

    def _close(self) -> None:
        if self._bus is not None:
            self._bus.close()
            self._bus = None


def _explain(error: DBusBaseError) -> CallError:
    """Map pystemd's exceptions, some told by class, some by name, some by number only."""
    number = abs(error.errno)
    message = os.fsdecode(error.err_message or os.strerror(number))
    if isinstance(error, DBusNoSuchUnitError):
        return CallError(NO_SUCH_UNIT, message)
    if error.err_name == _UNIT_EXISTS or number == errno.EEXIST:
        return CallError(EXISTS, message)
    if isinstance(error, _LOST) or number in _GONE:
        return CallError(DISCONNECTED, message)
    if isinstance(error, DBusNoReplyError) and _OWN_TIMEOUT not in message:
        return CallError(DISCONNECTED, message)  # the bus's word for it: PID 1 left in between
    if number == errno.ETIMEDOUT:
        return CallError(TIMEOUT, message)
    return CallError(REFUSED, message)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when the daemon ends, however it ends (prctl(2))."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(0)


def main() -> int:
    """Serve on standard input and output until the input ends."""
    logging.basicConfig(format="actuator: %(message)s")
    _die_with(int(sys.argv[1]))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # meant for the daemon, which ends this process when it has no more need of it
        signal.signal(number, signal.SIG_IGN)
    KNOWN_UNIT_SIGNATURES.update(_SIGNATURES)
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints, prints into the journal, not between the replies
    try:
        serve(sys.stdin.buffer, replies, SystemBus())
    except WireError:
        log.exception("the daemon does not speak as agreed")
        return 1
    except BrokenPipeError:
        return 0  # the daemon is gone
    return 0


if __name__ == "__main__":
    sys.exit(main())
