"""What every measurement in the guest needs: rows to print, the socket, leases, CPU times."""

from __future__ import annotations

import dataclasses
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

SOCKET: Final = "/run/enforcer/enforcer.sock"
CGROUPS: Final = Path("/sys/fs/cgroup")
IMAGE: Final = "enforcer-demo:latest"

_CALL_SECONDS: Final = 120.0
_TICK: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure: `value` against `base`, in `unit`. most: the largest ratio that was promised.

    least: the smallest ratio of base to value; bound: the largest value, where there is no base.
    """

    what: str
    value: float
    unit: str
    base: float | None = None
    most: float | None = None
    least: float | None = None
    bound: float | None = None
    note: str = ""


def report(rows: Sequence[Row]) -> None:
    """Print the rows as JSON: the program's only output."""
    json.dump([dataclasses.asdict(row) for row in rows], sys.stdout)


class Socket:
    """The API, on one kept connection and without a client's own parsing in the time."""

    def __init__(self) -> None:
        self._connection = _Connection("localhost", timeout=_CALL_SECONDS)

    def ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:  # noqa: ANN401  # JSON
        """Ask, and return the reply; one that is no success ends the program."""
        return json.loads(self._raw(method, path, body) or b"{}")

    def timed(self, method: str, path: str, body: Mapping[str, object]) -> tuple[float, Any]:
        """Return the seconds from the first byte sent to the last received, and the reply."""
        begin = time.perf_counter()
        raw = self._raw(method, path, body)
        return time.perf_counter() - begin, json.loads(raw)

    def _raw(self, method: str, path: str, body: Mapping[str, object] | None) -> bytes:
        text = None if body is None else json.dumps(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        self._connection.request(method, path, text, headers)
        reply = self._connection.getresponse()
        raw = reply.read()
        if reply.status >= 300:
            sys.exit(f"{method} {path}: {reply.status} {raw.decode()}")
        return raw


class _Connection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(SOCKET)


def small(user: str, server: str = "", **more: object) -> dict[str, object]:
    """Return a claim of next to nothing, so that a hundred fit, and without a promise."""
    claim: dict[str, object] = {"user": user, "server": server, "profile": "Small"}
    nothing = {"cpu_guarantee": 0, "mem_guarantee": 0}
    return claim | {"cpu_limit": 0.05, "mem_limit": "8 MiB"} | nothing | more


def promised(user: str, server: str = "") -> dict[str, object]:
    """Return the same with a small guarantee of both."""
    return small(user, server, cpu_guarantee=0.001, mem_guarantee="1 MiB")


def fill(api: Socket, count: int) -> list[Any]:
    """Claim until there are so many leases, each another user's; return the new ones."""
    there = len(api.ask("GET", "/v1/leases")["leases"])
    return [api.ask("POST", "/v1/leases", promised(f"user{n}")) for n in range(there, count)]


def wait_for(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until something holds, or end the program."""
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            sys.exit(f"did not come about within {seconds} s")
        time.sleep(0.05)


def run(*words: str) -> str:
    """Run a command; one that fails ends the program."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)}: {done.stderr}")
    return done.stdout.strip()


def service_pids(service: str) -> list[int]:
    """Return the processes of a service, the main one first."""
    group = run("systemctl", "show", "--property=ControlGroup", "--value", service)
    pids = (CGROUPS / group.lstrip("/") / "cgroup.procs").read_text().split()
    return [int(pid) for pid in pids]


def cpu_of(pids: Sequence[int]) -> float:
    """Return the CPU seconds that processes have used, by the scheduler's nanoseconds."""
    return sum(_cpu(pid) for pid in pids)


def _cpu(pid: int) -> float:
    """Schedstat counts exactly, utime and stime by sampled ticks; it is for each thread."""
    tasks = Path(f"/proc/{pid}/task")
    try:
        return sum(int((one / "schedstat").read_text().split()[0]) for one in tasks.iterdir()) / 1e9
    except FileNotFoundError:  # a kernel without CONFIG_SCHED_INFO
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK


def cpu_of_slice(path: str) -> float:
    """Return the CPU seconds that a cgroup has used."""
    return int((CGROUPS / path / "cpu.stat").read_text().split()[1]) / 1e6


def resident(pid: int) -> float:
    """Return the resident MB (10⁶) of a process, shared pages counted in full."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def ticks(api: Socket) -> float:
    """Return how many ticks the daemon has made."""
    connection = http.client.HTTPConnection("127.0.0.1", 9753, timeout=_CALL_SECONDS)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    for line in text.splitlines():
        if line.startswith("enforcer_ticks_total "):
            return float(line.split()[1])
    sys.exit(f"no ticks in the metrics: {api}")
