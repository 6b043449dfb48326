"""A client of the API that blocks, with the standard library's HTTP: it is imported in no time.

It keeps its connection, returns the API's types, and raises the daemon's own errors. A daemon that
cannot be reached is ``UnavailableError("daemon.unreachable")``. Where `user` may be None, it is
whoever calls; root and the hub see everyone's leases and receipts then.
"""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self, TypeVar

from enforcer.api import calls, types
from enforcer.api.calls import Ask
from enforcer.errors import UnavailableError
from enforcer.model import SOCKET, Claim, LeaseState, Resize

DEFAULT_SOCKET: Final = SOCKET
DEFAULT_SECONDS: Final = 40.0
"""More than the daemon takes to say that something took too long."""
FULL_SECONDS: Final = 0.05
"""Between two tries to connect while the queue before the daemon is full."""

ReplyT = TypeVar("ReplyT", bound=types.Reply)


class Client:
    """A client that blocks. Not for several threads at once."""

    def __init__(
        self, socket_path: str = DEFAULT_SOCKET, timeout_seconds: float = DEFAULT_SECONDS
    ) -> None:
        self._connection = _UnixConnection(socket_path, timeout_seconds)
        self._path = socket_path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        self._connection.close()

    def status(self) -> types.StatusReply:
        """Return how the machine and the daemon are."""
        return self.ask(calls.status())

    def slices(self) -> types.SlicesReply:
        """Return the slice tree."""
        return self.ask(calls.slices())

    def catalogue(
        self, user: str | None = None, server: str = "", groups: Sequence[str] = ()
    ) -> types.CatalogueReply:
        """Return what a user may choose from."""
        return self.ask(calls.catalogue(user, server, groups))

    def explain(
        self, user: str | None = None, server: str = "", groups: Sequence[str] = ()
    ) -> types.ExplainReply:
        """Return why a server has what it has."""
        return self.ask(calls.explain(user, server, groups))

    def leases(self, user: str | None = None) -> tuple[types.LeaseReply, ...]:
        """Return the leases that are not finished."""
        return tuple(self.ask(calls.leases(user)).leases)

    def lease(
        self, lease_id: str, wait_seconds: float = 0.0, state: LeaseState | None = None
    ) -> types.LeaseReply:
        """Return a lease, after `wait_seconds` or as soon as it has left `state`."""
        return self.ask(calls.lease(lease_id, wait_seconds, state))

    def bounds(self, lease_id: str) -> types.BoundsReply:
        """Return the most that a resize of a lease may ask for."""
        return self.ask(calls.bounds(lease_id))

    def history(self, lease_id: str) -> types.HistoryReply:
        """Return the last samples of a lease."""
        return self.ask(calls.history(lease_id))

    def receipts(self, user: str | None = None, limit: int = 100) -> tuple[types.ReceiptReply, ...]:
        """Return the newest receipts first."""
        return tuple(self.ask(calls.receipts(user, limit)).receipts)

    def claim(self, wanted: Claim) -> types.LeaseReply:
        """Claim a lease; it may have to wait in the queue."""
        return self.ask(calls.claim(wanted))

    def resize(self, lease_id: str, change: Resize) -> types.LeaseReply:
        """Give a live lease other numbers."""
        return self.ask(calls.resize(lease_id, change))

    def release(self, lease_id: str) -> None:
        """End a lease; one that has ended already is fine."""
        self.ask(calls.release(lease_id))

    def reload(self) -> tuple[str, ...]:
        """Have the configuration read again; return what changed."""
        return tuple(self.ask(calls.reload()).changes)

    def plan(self, text: str) -> tuple[types.PlannedReply, ...]:
        """Return what a configuration would change."""
        return tuple(self.ask(calls.plan(text)).changes)

    def ask(self, ask: Ask[ReplyT]) -> ReplyT:
        """Send a request, once more if the kept connection turns out to be closed."""
        kept = self._connection.sock is not None
        try:
            try:
                status, body = self._send(ask)
            except (ConnectionError, http.client.BadStatusLine):
                self.close()
                if not kept:
                    raise
                status, body = self._send(ask)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise unreachable(self._path, error) from error
        return ask.read(status, body)

    def _send(self, ask: Ask[ReplyT]) -> tuple[int, bytes]:
        connection = self._connection
        connection.allow(ask.wait_seconds)
        # a daemon with too many connections answers before it is asked, and hangs up
        with suppress(BrokenPipeError):
            connection.request(ask.method, ask.target, ask.body, ask.all_headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


class _UnixConnection(http.client.HTTPConnection):
    """http.client's, over a Unix socket."""

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("enforcer", timeout=seconds)
        self._path = path
        self._seconds = seconds

    def connect(self) -> None:
        """Open the socket."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(self.timeout)
        until = time.monotonic() + self._seconds
        try:
            while not _connected(sock, self._path, until):
                time.sleep(FULL_SECONDS)
        except BaseException:
            sock.close()
            raise
        self.sock = sock

    def allow(self, more_seconds: float) -> None:
        """Let the next answer take longer, the one after that no longer."""
        self.timeout = self._seconds + more_seconds
        if self.sock is not None:
            self.sock.settimeout(self.timeout)


def _connected(sock: socket.socket, path: str, until: float) -> bool:
    """Connect; False where the queue before the daemon is full and there is time to try again.

    That is said at once, whatever the timeout (connect(2), EAGAIN).
    """
    try:
        sock.connect(path)
    except BlockingIOError:
        if time.monotonic() > until:
            raise TimeoutError from None
        return False
    return True


def unreachable(path: str, cause: BaseException) -> UnavailableError:
    """Return the error that says why a socket's daemon cannot be reached."""
    match cause:
        case FileNotFoundError():
            why = "there is no such socket"
        case ConnectionRefusedError():
            why = "nobody listens there"
        case PermissionError():
            why = "you may not connect to it"
        case TimeoutError():
            why = "it does not answer in time"
        case _:
            why = str(cause) or type(cause).__name__
    return UnavailableError(
        "daemon.unreachable",
        f"the enforcer cannot be reached at {path}: {why}",
        "systemctl status enforcer says more",
    )
