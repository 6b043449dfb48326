"""A spawn through the hub with our spawner, against one through the same hub without the enforcer.

Two hubs in one machine: the installed one, and one beside it that differs by its spawner alone, the
SystemUserSpawner that ours stands on; see `plain_hub.conf`. The same user, image, home and limits;
a server that starts in no time, so that what is around it weighs. In turn, one at a time.

While the plain one spawns, the daemon is stopped: a host without the enforcer has none either.
"""

from __future__ import annotations

import json
import statistics
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.bench.inside.common import Row, Socket, report, run, wait_for

_ROUNDS = 9
_USER = "u01"
_TOKEN: Final = "0123456789abcdef-the-labs-own"
"""As in the machine's own hub.conf; it opens nothing else."""
_FOLDER: Final = "/var/lib/plain-hub"
_CONFIG: Final = Path(__file__).with_name("plain_hub.conf")
_DAEMON: Final = ("enforcer.socket", "enforcer.service")
_UP_SECONDS = 240.0
_CALL_SECONDS = 180.0
_CALM_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class Hub:
    """One of the two, as its proxy shows it. options: what its spawner is asked for."""

    address: str
    options: dict[str, str]

    def spawn(self) -> float:
        """Have a server started; the seconds from the request until the hub says it is ready."""
        begin = time.perf_counter()
        status, _ = self._call("POST", f"/users/{_USER}/server", self.options)
        if status == 202:  # it took longer than the hub lets anybody wait for an answer
            self._follow()
        return time.perf_counter() - begin

    def stop(self) -> None:
        """Have it stopped, and wait until the hub has none."""
        self._call("DELETE", f"/users/{_USER}/server")
        wait_for(lambda: not self._user()["servers"], _UP_SECONDS)

    def answers(self) -> bool:
        """Tell whether it is up."""
        try:
            return self._call("GET", "/")[0] == 200
        except OSError:  # nobody is there, or only its proxy
            return False

    def welcome(self) -> None:
        """Make the user known."""
        self._call("POST", "/users", {"usernames": [_USER]})

    def _user(self) -> Any:  # noqa: ANN401 - JSON
        return json.loads(self._call("GET", f"/users/{_USER}")[1])

    def _follow(self) -> None:
        """Read what the hub tells of a start, as it comes, until the server is ready."""
        with self._open("GET", f"/users/{_USER}/server/progress") as lines:
            for line in lines:
                if line.startswith(b"data:"):
                    event = json.loads(line.removeprefix(b"data:"))
                    if event.get("ready"):
                        return
                    if event.get("failed"):
                        raise SystemExit(f"{self.address}: {event['message']}")
        raise SystemExit(f"{self.address}: the start came to no end")

    def _call(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        with self._open(method, path, body) as reply:
            return reply.status, reply.read()

    def _open(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - a reply
        request = urllib.request.Request(  # noqa: S310 - loopback
            f"{self.address}/hub/api{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Authorization": f"token {_TOKEN}", "Content-Type": "application/json"},
        )
        return urllib.request.urlopen(request, timeout=_CALL_SECONDS)  # noqa: S310 - loopback


_OURS: Final = Hub("http://127.0.0.1:8000", {"profile": "Lab"})
_PLAIN: Final = Hub("http://127.0.0.1:8100", {})


def main() -> None:
    """Bring up the second hub, warm both up, then spawn in turn."""
    _start_plain_hub()
    for hub in (_OURS, _PLAIN):
        wait_for(hub.answers, _UP_SECONDS)
    _PLAIN.welcome()
    ours, plain = [], []
    for number in range(1 + _ROUNDS):
        without, with_us = _without_the_daemon(), _spawned(_OURS)
        if number:  # the first of each reads from the disk what the others find in memory
            plain.append(without)
            ours.append(with_us)
    report(
        [
            Row(
                what="spawn through the hub against plain SystemUserSpawner",
                value=statistics.median(ours),
                base=statistics.median(plain),
                unit="s",
                most=1.1,
                note=f"request to ready, medians of {_ROUNDS} in turn"
                f" ({_range(ours)} against {_range(plain)})",
            )
        ]
    )


def _start_plain_hub() -> None:
    run("install", "-d", "--mode=700", "--owner=jupyterhub", "--group=jupyterhub", _FOLDER)
    config = f"{_FOLDER}/jupyterhub_config.py"
    run("install", "--mode=644", str(_CONFIG), config)
    run(
        *("systemd-run", "--quiet", "--unit=plain-hub", "--uid=jupyterhub"),
        # As the hub's own unit has them.
        "--property=SupplementaryGroups=docker shadow",
        "--property=Slice=system.slice",
        "--property=CPUWeight=500",
        f"--working-directory={_FOLDER}",
        *("/opt/enforcer/hub/bin/python", "-I", "-m", "jupyterhub", "--config", config),
    )


def _without_the_daemon() -> float:
    run("systemctl", "stop", *_DAEMON)
    try:
        return _spawned(_PLAIN)
    finally:
        run("systemctl", "start", *_DAEMON)
        api = Socket()
        wait_for(lambda: bool(api.ask("GET", "/v1/status")["docker_ok"]))
        time.sleep(_CALM_SECONDS)


def _spawned(hub: Hub) -> float:
    seconds = hub.spawn()
    hub.stop()
    time.sleep(_CALM_SECONDS)
    return seconds


def _range(found: list[float]) -> str:
    return f"{min(found):.3g} to {max(found):.3g}"


if __name__ == "__main__":
    main()
