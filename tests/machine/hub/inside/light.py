"""A single-user server that costs next to nothing: it answers the hub, and whoever asks, with 200.

JupyterLab takes half a minute to start on an emulated processor; most tests are not about it. Next
to nothing is imported, for the same reason.

Asked for `…/grow` it takes memory, a megabyte at a time, until the kernel ends it.
"""

import os
import signal
import socket
import time

_ANSWER = b'{"light": true}'
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
_GROW = b"/grow HTTP/1."
_MIB = 1 << 20
_PAUSE_SECONDS = 0.5


def main() -> None:
    """Serve, one request after another, until somebody ends it."""
    # The first process of a container has no default action for signals.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    with socket.create_server(("0.0.0.0", 8888), backlog=64) as server:  # noqa: S104 - in a container
        while True:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(5)
                try:
                    asked = connection.recv(65536)
                    length = b"Content-Length: %d\r\n\r\n" % len(_ANSWER)
                    connection.sendall(_HEAD + length + _ANSWER)
                except OSError:
                    continue  # whoever asked has hung up
            if _GROW in asked:
                _grow()


def _grow() -> None:
    held = []
    while True:
        held.append(b"x" * _MIB)
        time.sleep(_PAUSE_SECONDS)


main()
