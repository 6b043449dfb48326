"""QEMU's control socket: one JSON object a line, each way."""

from __future__ import annotations

import json
import re
import shlex
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from enforcer.errors import UnavailableError

CALL_SECONDS = 90.0
MIGRATE_SECONDS = 600.0
_POLL_SECONDS = 0.02

Arguments = Mapping[str, object]


class Monitor:
    """A connection to a running QEMU.

    Raises:
        UnavailableError: in every method, if QEMU has gone, refuses, or does not answer in time.
    """

    def __init__(self, path: Path, alive: Callable[[], bool], timeout_seconds: float) -> None:
        self._socket = _connect(path, alive, timeout_seconds)
        self._socket.settimeout(CALL_SECONDS)
        self._lines = self._socket.makefile("r", encoding="utf-8")
        self._read()  # its greeting
        self.call("qmp_capabilities")

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
        """Hang up; QEMU goes on."""
        self._lines.close()
        self._socket.close()

    def call(self, command: str, arguments: Arguments | None = None) -> object:
        """One command and its answer; what QEMU announces in between is dropped."""
        question = {"execute": command, "arguments": dict(arguments or {})}
        try:
            self._socket.sendall(json.dumps(question).encode() + b"\n")
        except OSError as error:
            raise _gone(str(error)) from error
        while True:
            answer = self._read()
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise UnavailableError("machine.qemu", f"QEMU refused {command}: {answer['error']}")

    def _read(self) -> dict[str, object]:
        try:
            line = self._lines.readline()
        except OSError as error:
            raise _gone(str(error) or "no answer in time") from error
        if not line:
            raise _gone("the connection has ended")
        answer = json.loads(line)
        if not isinstance(answer, dict):
            raise _gone(f"it said {line!r}")
        return answer

    def forward(self, guest_port: int, host_port: int = 0) -> int:
        """Forward a TCP port of 127.0.0.1 to the guest's; 0 lets the system choose. Its number."""
        before = self._forwards()
        self._human(f"hostfwd_add net0 tcp:127.0.0.1:{host_port}-:{guest_port}")
        added = [pair for pair in self._forwards() if pair not in before]
        if len(added) != 1:
            raise UnavailableError("machine.forward", f"QEMU forwards {added}, which was not asked")
        return added[0][0]

    def _forwards(self) -> list[tuple[int, int]]:
        """Pairs of host port and guest port."""
        listed = self._ask("info usernet")
        found = re.findall(r"TCP\[HOST_FORWARD\]\s+\d+\s+\S+\s+(\d+)\s+\S+\s+(\d+)", listed)
        return [(int(host), int(guest)) for host, guest in found]

    def _ask(self, line: str) -> str:
        return str(self.call("human-monitor-command", {"command-line": line}))

    def _human(self, line: str) -> None:
        """A command of the monitor for people, which is silent when it succeeds."""
        said = self._ask(line).strip()
        if said:
            raise UnavailableError(
                "machine.forward", f"QEMU refused {line!r}: {said}", "is that port in use?"
            )

    def save(self, state: Path) -> None:
        """Stop the guest and write its state, less its memory, which is a file already."""
        self.call("stop")
        self._keep_memory_apart()
        self.call("migrate", {"uri": f"exec:cat > {shlex.quote(str(state))}"})
        self._wait_for_migration()

    def restore(self, state: Path) -> None:
        """Take the state that another one saved, and run on from there."""
        self._keep_memory_apart()
        self.call("migrate-incoming", {"uri": f"exec:cat {shlex.quote(str(state))}"})
        self._wait_for_migration()
        self.call("cont")

    def _keep_memory_apart(self) -> None:
        # The one who saves has mapped the memory's file shared, so its pages are not in the stream.
        # The one who restores maps it private: it reads the pages it needs, and writes none back.
        capability = {"capability": "x-ignore-shared", "state": True}
        self.call("migrate-set-capabilities", {"capabilities": [capability]})

    def _wait_for_migration(self) -> None:
        deadline = time.monotonic() + MIGRATE_SECONDS
        while time.monotonic() < deadline:
            answer = self.call("query-migrate")
            status = answer.get("status") if isinstance(answer, dict) else None
            if status == "completed":
                return
            if status in {"failed", "cancelled"}:
                raise UnavailableError("machine.state", f"QEMU could not carry the state: {answer}")
            time.sleep(_POLL_SECONDS)
        raise UnavailableError("machine.state", f"no state after {MIGRATE_SECONDS:.0f} s")


def _connect(path: Path, alive: Callable[[], bool], timeout_seconds: float) -> socket.socket:
    """Connect as soon as QEMU listens."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
        except BaseException:
            connection.close()
            raise
        else:
            return connection
        if not alive():
            raise _gone("it ended at once")
        if time.monotonic() >= deadline:
            raise _gone("it does not listen")
        time.sleep(_POLL_SECONDS)


def _gone(why: str) -> UnavailableError:
    return UnavailableError("machine.gone", f"QEMU does not answer: {why}")
