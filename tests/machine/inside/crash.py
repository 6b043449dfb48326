"""Kill the daemon at random moments of twenty placements, and judge what the next one knows.

``crash.py ROUNDS KILLS SEED``. Each round claims twenty leases at once, releases the twenty of the
round before meanwhile, and kills so many times in the middle. Prints one JSON object; "wrong" lists
what was broken.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

SOCKET = "/run/enforcer/enforcer.sock"
PID_FILE = Path("/run/enforcer/daemon.pid")
WORKLOAD = Path("/sys/fs/cgroup/jupyter.slice/jupyter-workload.slice")
PLACEMENTS = 20
MEMORY = 64 << 20
FLOOR = 4 << 20
_PATIENCE_SECONDS = 30.0
_LEAF_DASHES = 4


class Connection(http.client.HTTPConnection):
    """One connection to the daemon."""

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_PATIENCE_SECONDS)
        self.sock.connect(SOCKET)


def ask(method: str, path: str, body: object = None) -> tuple[int, Any]:
    """Return an answer that came whole.

    Raises:
        OSError, HTTPException: none did.
    """
    connection = Connection("enforcer", timeout=_PATIENCE_SECONDS)
    try:
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        raw = answer.read()
        return answer.status, json.loads(raw) if raw else None
    finally:
        connection.close()


def answered() -> list[dict[str, Any]]:
    """Return all leases, as soon as somebody answers."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        with suppress(OSError, http.client.HTTPException):
            status, told = ask("GET", "/v1/leases")
            if status == http.client.OK:
                return list(told["leases"])
        if time.monotonic() > until:
            raise TimeoutError("no daemon answers")
        time.sleep(0.02)


def kill(before: int) -> int:
    """Kill the daemon, another one than `before`; return which it was."""
    while (pid := int(PID_FILE.read_text())) == before:
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    return pid


@dataclass
class Outcome:
    """What came of everything."""

    rounds: int = 0
    kills: int = 0
    acknowledged: int = 0
    unanswered: int = 0
    refused: list[Any] = field(default_factory=list)
    restart_seconds: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


class Round:
    """One round: its claims, and what is left of the round before."""

    def __init__(self, number: int, before: list[str], outcome: Outcome) -> None:
        self.number = number
        self.before = before
        self.outcome = outcome
        self.placed: dict[str, str] = {}
        self.released: list[str] = []

    def run(self, pauses: list[float]) -> list[str]:
        """Kill after each of these, judge; return the ids of this round's leases."""
        with ThreadPoolExecutor(2 * PLACEMENTS) as pool:
            work = [pool.submit(self._claim, index) for index in range(PLACEMENTS)]
            work += [pool.submit(self._release, one) for one in self.before]
            killed = 0
            for pause in pauses:
                time.sleep(pause)
                killed = kill(killed)
                self.outcome.kills += 1
            begin = time.monotonic()
            if killed:
                answered()
                self.outcome.restart_seconds.append(time.monotonic() - begin)
            for done in work:
                done.result()
        self.outcome.rounds += 1
        leases = answered()
        self._judge(leases)
        for one in self.before:
            ask("DELETE", f"/v1/leases/{one}")
        return [str(one["id"]) for one in answered() if one["state"] != "bound"]

    def _claim(self, index: int) -> None:
        wanted = {
            "user": f"user-{index}",
            "server": "odd" if self.number % 2 else "even",
            "profile": "Small",
            "cpu_limit": 0.1,
            "mem_limit": MEMORY,
            "cpu_guarantee": 0.01,
            "mem_guarantee": FLOOR,
        }
        try:
            status, told = ask("POST", "/v1/leases", wanted)
        except (OSError, http.client.HTTPException):
            self.outcome.unanswered += 1
            return
        if status in {http.client.OK, http.client.CREATED}:
            self.placed[str(told["id"])] = str(told["unit"])
            self.outcome.acknowledged += 1
        else:
            self.outcome.refused.append(told)

    def _release(self, lease_id: str) -> None:
        try:
            status, _ = ask("DELETE", f"/v1/leases/{lease_id}")
        except (OSError, http.client.HTTPException):
            return
        if status < http.client.BAD_REQUEST:
            self.released.append(lease_id)

    def _judge(self, leases: list[dict[str, Any]]) -> None:
        there = {str(one["id"]): one for one in leases}
        for lease_id, unit in self.placed.items():
            if lease_id not in there:
                self._wrong(f"lease {lease_id} was acknowledged and is lost")
            self._judge_leaf(unit)
        for lease_id in self.released:
            if lease_id in there:
                self._wrong(f"lease {lease_id} was released and lives on")
        for lease_id, one in there.items():
            if one["state"] == "pending" and one["deadline"] is None:
                self._wrong(f"lease {lease_id} is pending for ever")
            elif one["state"] not in {"pending", "bound"}:
                self._wrong(f"lease {lease_id} is {one['state']}")
        self._judge_orphans()

    def _judge_leaf(self, unit: str) -> None:
        levels = unit.removesuffix(".slice").split("-")
        names = ["-".join(levels[:count]) for count in range(3, len(levels) + 1)]
        leaf = WORKLOAD.joinpath(*(f"{name}.slice" for name in names))
        wanted = {"memory.max": str(MEMORY), "memory.min": str(FLOOR), "cpu.max": "10000 100000"}
        for file, text in wanted.items():
            found = _read(leaf / file)
            if found != text:
                self._wrong(f"{unit}: {file} is {found!r}, not {text!r}")
        for level in (leaf.parent, leaf.parent.parent, WORKLOAD):
            below = sum(int(_read(path) or 0) for path in level.glob("*.slice/memory.min"))
            if int(_read(level / "memory.min") or 0) < below:
                self._wrong(f"{level.name} protects less than what is below it")

    def _judge_orphans(self) -> None:
        until = time.monotonic() + _PATIENCE_SECONDS
        orphans = {"?"}
        while orphans and time.monotonic() < until:
            known = {one["unit"] for one in answered()}
            orphans = {path.name for path in WORKLOAD.rglob("*.slice") if _is_leaf(path.name)}
            orphans -= known
            time.sleep(0.1 if orphans else 0)
        for unit in orphans:
            self._wrong(f"{unit} is nobody's")

    def _wrong(self, what: str) -> None:
        self.outcome.wrong.append(f"round {self.number}: {what}")


def main() -> None:
    """Play the rounds."""
    rounds, kills, seed = (int(word) for word in sys.argv[1:])
    chance = random.Random(seed)
    outcome = Outcome()
    begin = time.monotonic()
    before = _undisturbed(outcome)
    span = time.monotonic() - begin
    for number in range(1, rounds + 1):
        # any of them may be the moment at which the next one is just coming up
        moments = sorted(chance.uniform(0, span) for _ in range(kills))
        pauses = [after - then for then, after in pairwise([0.0, *moments])]
        before = Round(number, before, outcome).run(pauses)
    told = {**vars(outcome), "span": span, "seconds": time.monotonic() - begin}
    json.dump(told, sys.stdout)


def _undisturbed(outcome: Outcome) -> list[str]:
    """Return the leases of a round without a kill, which tells how long one takes."""
    return Round(0, [], outcome).run([])


def _is_leaf(name: str) -> bool:
    return name.count("-") == _LEAF_DASHES


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


if __name__ == "__main__":
    main()
