"""The service manager's side of a daemon: sd_notify(3) and sd_listen_fds(3).

Both protocols are a few environment variables and a datagram, stable and documented for others
to implement.
"""

from __future__ import annotations

import contextlib
import os
import socket

_FIRST_FD = 3  # SD_LISTEN_FDS_START
_SECONDS = 1.0


class Supervisor:
    """Tells systemd how the daemon is; silent when nobody asked (NOTIFY_SOCKET unset)."""

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        source = dict(os.environ) if environment is None else environment
        self._address = source.get("NOTIFY_SOCKET", "")
        self._watchdog_usec = _number(source.get("WATCHDOG_USEC", ""))

    @property
    def watchdog_seconds(self) -> float | None:
        """How often a sign of life is due: half of what systemd waits; None: nobody waits."""
        return self._watchdog_usec / 2e6 if self._watchdog_usec else None

    def ready(self, status: str) -> None:
        """Say that the daemon serves."""
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        """Say in one line how it is: `systemctl status` shows it."""
        self._send(f"STATUS={status}")

    def alive(self) -> None:
        """Give a sign of life."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the daemon is on its way out."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        # A full or vanished socket is systemd's trouble; the daemon goes on.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
        ):
            sender.settimeout(_SECONDS)
            sender.connect(address)
            sender.sendall(message.encode())


def activated_sockets() -> list[socket.socket]:
    """Take over the listening sockets that systemd opened for us; none when started by hand."""
    if _number(os.environ.get("LISTEN_PID", "")) != os.getpid():
        return []
    count = _number(os.environ.get("LISTEN_FDS", ""))
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    taken: list[socket.socket] = []
    for number in range(_FIRST_FD, _FIRST_FD + count):
        os.set_inheritable(number, False)
        taken.append(socket.socket(fileno=number))
    return taken


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0
