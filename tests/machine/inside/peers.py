"""Peers as nobody wants them: ``peers.py garbage FILE`` and ``peers.py crowd COUNT``."""

from __future__ import annotations

import json
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOCKET = "/run/enforcer/enforcer.sock"
_PATIENCE_SECONDS = 20.0
_STATUS_AT = 1


def main() -> None:
    """Be one of them."""
    if sys.argv[1] == "crowd":
        crowd(int(sys.argv[2]))
    else:
        garbage(json.loads(Path(sys.argv[2]).read_text()))


def garbage(said: dict[str, str]) -> None:
    """Say each of these on a connection of its own; tell how it was answered."""
    with ThreadPoolExecutor(len(said) + 1) as pool:
        slow = pool.submit(_slow)
        told = dict(zip(said, pool.map(_say, said.values()), strict=True))
        json.dump({**told, "slow": slow.result()}, sys.stdout)


def crowd(count: int) -> None:
    """Hold so many connections open; say how many, then stay."""
    held = []
    for _ in range(count):
        one = _connect()
        one.setblocking(False)
        held.append(one)
    sys.stdout.write(json.dumps({"connected": len(held)}) + "\n")
    sys.stdout.flush()
    while True:
        # Each that was turned away comes again at once.
        for index, one in enumerate(held):
            try:
                ended = not one.recv(4096)
            except BlockingIOError:
                ended = False
            except OSError:
                ended = True
            if ended:
                one.close()
                held[index] = _connect()
                held[index].setblocking(False)
        time.sleep(0.1)


def _say(text: str) -> dict[str, object]:
    begin = time.monotonic()
    with _connect() as connection:
        try:
            connection.sendall(text.encode("latin-1"))
            if not text:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has heard enough
        return _answer(connection, begin)


def _slow() -> dict[str, object]:
    begin = time.monotonic()
    with _connect() as connection:
        try:
            for letter in "GET /v1/status HTTP/1.1\r\nHost: e\r\n\r\n":
                connection.sendall(letter.encode())
                time.sleep(1)
        except OSError:
            pass  # hung up on
        return _answer(connection, begin)


def _answer(connection: socket.socket, begin: float) -> dict[str, object]:
    answer, ended = b"", False
    try:
        while more := connection.recv(65536):
            answer += more
        ended = True
    except TimeoutError:
        pass
    except OSError:
        ended = True
    words = answer.split(b" ", 2)
    status = int(words[_STATUS_AT]) if answer.startswith(b"HTTP/") else 0
    return {"status": status, "ended": ended, "seconds": time.monotonic() - begin}


def _connect() -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(_PATIENCE_SECONDS)
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            made.connect(SOCKET)
        except BlockingIOError:  # a full queue is said at once, whatever the timeout (connect(2))
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return made


if __name__ == "__main__":
    main()
