"""The demo's machine: built once, started clean, the daemon's socket and metrics brought here."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from enforcer import machine
from enforcer.api.types import LeaseReply
from enforcer.bootstrap import Console, ensure_packages
from enforcer.client import Client
from enforcer.demo.scenario import CGROUPS, Mischief, Part, docker_run
from enforcer.errors import UnavailableError
from enforcer.machine import npm
from enforcer.machine.hub import PEOPLE
from enforcer.model import SOCKET, DaemonSettings, LeaseState
from enforcer.names import UnitName, cgroup_path

_CHECKOUT: Final = Path(__file__).resolve().parents[2]
_PARTS: Final = ("enforcer", "spawner", "systemd", "pyproject.toml", "README.org")
HUB_PORT: Final = 8000
_SETUP: Final = (
    "install -D -m 644 enforcer/demo/enforcer.toml /etc/enforcer/enforcer.toml",
    "install -D -m 644 enforcer/demo/hub.conf /etc/jupyterhub/conf.d/demo.py",
    (
        "python3 -m enforcer install --hub --restart-docker --wheels /var/cache/enforcer/wheels"
        " --node-modules /opt/enforcer/proxy"
    ),
    (
        "for _ in $(seq 300); do curl -s --unix-socket /run/enforcer/enforcer.sock"
        " http://e/v1/status | jq -e '.docker_ok and (.drift | length == 0)' && exit; sleep 1;"
        " done; exit 1"
    ),
    (
        "for path in hub/health hub/login services/enforcer/; do for _ in $(seq 200); do"
        f" curl -fs -o /dev/null http://127.0.0.1:{HUB_PORT}/$path && continue 2; sleep 3; done;"
        " systemctl --no-pager status jupyterhub jupyterhub-proxy enforcer-pages; exit 1; done"
    ),
)
"""As on a real host, but that the configuration is there first and the packages need no network.
The machine is kept when the daemon has seen that dockerd has moved, and when the hub and its pages
have answered once: on an emulated processor that takes a minute, which need not come again."""
SOURCE: Final = machine.Source(checkout=_CHECKOUT, parts=_PARTS, setup=_SETUP, kind="demo")
_NPM_SECONDS: Final = 360.0
_SCRATCH: Final = "enforcer-scratch.slice"
_PROBE: Final = f"{machine.SOURCE}/enforcer/demo/probe.py"
_DOCKER_SECONDS: Final = 120.0
_SCOPE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The machine while it runs.

    socket, metrics_port, hub_port: the API, the metrics and the hub, here.
    password: that of everybody in PEOPLE.
    """

    guest: machine.Guest
    socket: Path
    metrics_port: int
    hub_port: int
    password: str

    @property
    def hub(self) -> str:
        """The hub's address, here."""
        return f"http://127.0.0.1:{self.hub_port}"

    def client(self) -> Client:
        """Open a connection of one's own; in the guest it is root's."""
        return Client(str(self.socket))

    def place(self, client: Client, part: Part) -> LeaseReply:
        """Claim a lease for a user and start their container in it."""
        lease = client.claim(part.claim)
        if lease.placement is None:
            raise UnavailableError("demo.queued", f"{part.user} has to wait: {lease.sentence}")
        self.docker("rm", "--force", part.container)
        self.guest.run(docker_run(part, lease.placement), timeout_seconds=_DOCKER_SECONDS)
        return self.wait_bound(client, lease)

    @staticmethod
    def wait_bound(client: Client, lease: LeaseReply) -> LeaseReply:
        """Wait until the daemon has seen the container."""
        return client.lease(lease.id, _SCOPE_SECONDS, LeaseState.PENDING)

    def docker(self, *words: str) -> machine.Completed:
        """Run docker in the guest; its failure is the caller's to see."""
        return self.guest.run(["docker", *words], timeout_seconds=_DOCKER_SECONDS, check=False)

    def remove(self, part: Part) -> None:
        """End a user's container, if it is there."""
        self.docker("rm", "--force", part.container)

    def pid(self, container: str) -> int:
        """Return the process of a running container.

        Raises:
            UnavailableError: it does not run.
        """
        shown = self.docker("inspect", "--format", "{{.State.Pid}}", container).stdout.strip()
        if not shown.isdigit() or shown == "0":
            raise UnavailableError("demo.no-container", f"the container {container} does not run")
        return int(shown)

    def cgroup(self, pid: int) -> str:
        """Return a process's cgroup, below the mount point."""
        return self.guest.read(f"/proc/{pid}/cgroup").strip().removeprefix("0::/")

    def kernel(self, unit: str, file: str) -> str:
        """Read a control file of a slice."""
        path = f"{CGROUPS}/{cgroup_path(UnitName(unit))}/{file}"
        return self.guest.read(path).strip()

    def cpu(self, seconds: float, units: Sequence[str]) -> dict[str, float]:
        """Measure the cores that slices use, over so many seconds, by the kernel's counters."""
        paths = {unit: f"{CGROUPS}/{cgroup_path(UnitName(unit))}" for unit in units}
        measured = self._probe(["cpu", f"{seconds}", *paths.values()], seconds)["cores"]
        return {unit: measured[path] for unit, path in paths.items()}

    def drift(self, change: Mischief) -> dict[str, Any]:
        """Do it, and tell how long it lasted; see probe.watch_drift."""
        return self._probe(["drift", change.file, *change.words], 30.0)

    def set_property_seconds(self) -> float:
        """Return how long `systemctl set-property` takes just now, for a slice nobody is in."""
        words = ["systemctl", "set-property", "--runtime", _SCRATCH, "CPUWeight=100"]
        seconds: float = self._probe(["took", "3", *words], 60.0)["seconds"]
        return seconds

    def _probe(self, words: Sequence[str], seconds: float) -> dict[str, Any]:
        done = self.guest.run(["python3", _PROBE, *words], timeout_seconds=seconds + 60)
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


def prepare(console: Console, suite: str) -> machine.Layer:
    """Find or build the machine; the first time it takes minutes, and says what it does.

    Raises:
        UnavailableError: not a checkout, no network, no room on the disk.
    """
    missing = [part for part in ("systemd", "pyproject.toml") if not (_CHECKOUT / part).exists()]
    if missing:
        raise UnavailableError(
            "demo.no-checkout",
            "the demo installs the enforcer from its source, which is not here",
            "start it in a checkout: python3 -m enforcer demo",
        )
    console.say(
        "The demo: a throw-away virtual machine with Debian, systemd, dockerd and the Enforcer,\n"
        "kept in ~/.cache/enforcer for the next time. Nothing on this machine is changed but for\n"
        "Debian packages that build and run it, if they are missing."
    )
    ensure_packages(machine.HOST_PACKAGES, "to build and run the virtual machine", console=console)
    path = npm.search_path()
    with console.step("Fetching what the hub's pages draw with"):
        build_pages(path)
    return machine.prepare(suite, source=SOURCE, hub=True, progress=console.step)


def build_pages(path: str) -> None:
    """Have the part of the pages made that npm fetches; it is quick if it is there.

    path: a PATH with npm on it.

    Raises:
        UnavailableError: npm could not fetch it.
    """
    finished = subprocess.run(
        [sys.executable, str(_CHECKOUT / "spawner" / "pages" / "build.py")],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=_NPM_SECONDS,
        check=False,
    )
    if finished.returncode != 0:
        raise UnavailableError(
            "demo.pages", finished.stderr.strip(), "look at the network, then start again"
        )


@contextmanager
def raised(layer: machine.Layer) -> Iterator[Stage]:
    """Start the machine; nothing of it is left when the context ends."""
    with (
        tempfile.TemporaryDirectory(prefix="enforcer-demo-", dir="/tmp") as folder,
        machine.start(layer) as guest,
    ):
        local = Path(folder) / "enforcer.sock"
        guest.forward_socket(SOCKET, local)
        yield Stage(
            guest=guest,
            socket=local,
            metrics_port=_forward(guest, DaemonSettings().metrics_port),
            hub_port=_forward(guest, HUB_PORT),
            password=_set_password(guest),
        )


def _set_password(guest: machine.Guest) -> str:
    """Give everybody who may log in the same new password."""
    password = secrets.token_urlsafe(9)
    guest.run("chpasswd", input="".join(f"{person}:{password}\n" for person in PEOPLE))
    return password


def _forward(guest: machine.Guest, port: int) -> int:
    """Bring a port to the number it has on a real host, or to any if that is taken."""
    try:
        guest.forward_loopback(port, port)
    except UnavailableError:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            here = int(free.getsockname()[1])
        guest.forward_loopback(port, here)
        return here
    return port
