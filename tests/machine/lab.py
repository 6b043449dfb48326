"""A machine with the enforcer installed as on a real host, and what a test does with it."""

from __future__ import annotations

import json
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from enforcer import machine
from enforcer.api.types import LeaseReply
from enforcer.client import Client
from enforcer.model import Claim, LeaseState
from enforcer.names import UnitName, cgroup_path

CHECKOUT: Final = Path(__file__).resolve().parents[2]
CGROUPS: Final = "/sys/fs/cgroup"
SOCKET: Final = "/run/enforcer/enforcer.sock"
CONFIG: Final = "/etc/enforcer/enforcer.toml"
STATE: Final = "/var/lib/enforcer"

SETUP: Final = (
    "install -D -m 644 tests/machine/enforcer.toml /etc/enforcer/enforcer.toml",
    "python3 -m enforcer install --wheels /var/cache/enforcer/wheels --restart-docker",
)
SOURCE: Final = machine.Source(
    checkout=CHECKOUT,
    parts=(
        "enforcer",
        "spawner",
        "systemd",
        "pyproject.toml",
        "README.org",
        "tests/machine/enforcer.toml",
    ),
    setup=SETUP,
)

_SOON_SECONDS: Final = 30.0
_NOISE: Final = 3
_DOCKER_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """One clean machine while a test has it. `client` speaks as the guest's root."""

    guest: machine.Guest
    client: Client

    # --- the kernel's own numbers ---

    def read(self, unit: str, file: str) -> str:
        """Read a control file of a slice."""
        return self.guest.read(f"{CGROUPS}/{cgroup_path(UnitName(unit))}/{file}").strip()

    def number(self, unit: str, file: str) -> int | None:
        """Read a control file that holds one number; None for ``max``."""
        text = self.read(unit, file)
        return None if text == "max" else int(text)

    def exists(self, unit: str) -> bool:
        """Tell whether a slice has a cgroup."""
        path = f"{CGROUPS}/{cgroup_path(UnitName(unit))}"
        return self.guest.run(["test", "-d", path], check=False).code == 0

    def event(self, unit: str, name: str, file: str = "memory.events") -> int:
        """Read one counter of a file of counters."""
        return int(dict(line.split() for line in self.read(unit, file).splitlines())[name])

    def cpu(self, seconds: float, units: Sequence[str]) -> Mapping[str, float]:
        """Measure the cores that slices use over so many seconds, by the kernel's counters."""
        program = _MEASURE.format(
            paths=json.dumps([f"{CGROUPS}/{cgroup_path(UnitName(unit))}" for unit in units]),
            seconds=seconds,
        )
        done = self.guest.run(["python3", "-c", program], timeout_seconds=seconds + 60)
        return dict(zip(units, json.loads(done.stdout), strict=True))

    # --- leases and containers ---

    def place(
        self, claim: Claim, program: Sequence[str] = ("sleep", "1000000"), options: str = ""
    ) -> LeaseReply:
        """Claim a lease, start its container the way the hub does, wait until it is bound."""
        lease = self.client.claim(claim)
        self.run(lease, program, options)
        return self.client.lease(lease.id, _SOON_SECONDS, LeaseState.PENDING)

    def run(self, lease: LeaseReply, program: Sequence[str], options: str = "") -> str:
        """Start a lease's container with the placement's arguments; return its id."""
        words = f"{run_words(lease)} {options} {_image(lease)} {shlex.join(program)}"
        return self.guest.run(words, timeout_seconds=_DOCKER_SECONDS).stdout.strip()

    def docker(self, words: str) -> str:
        """Run one docker command in the guest; its output."""
        return self.guest.run(f"docker {words}", timeout_seconds=_DOCKER_SECONDS).stdout.strip()

    def spin(self, unit: str, threads: int) -> None:
        """Have so many threads spin in a lease's container, without waiting for docker exec.

        A process that is moved into the container's cgroup counts as any other in it.
        """
        path = f"{CGROUPS}/{cgroup_path(UnitName(unit))}"
        for _ in range(threads):
            self.guest.run(
                f"procs=$(ls -d {shlex.quote(path)}/docker-*.scope)/cgroup.procs; "
                'sh -c \'echo $$ > "$1"; exec sh -c "while :; do :; done"\' spin "$procs"'
                " >/dev/null 2>&1 </dev/null & echo $! >> /run/spinning"
            )

    def rest(self) -> None:
        """End everything that `spin` and `spin_host` started."""
        self.guest.run("kill -9 $(cat /run/spinning) && rm /run/spinning")

    def spin_host(self, threads: int) -> None:
        """Have so many threads of the host's own spin, outside jupyter.slice."""
        for _ in range(threads):
            self.guest.run(
                "systemd-run --quiet --collect --unit=hostspin-$RANDOM$RANDOM.service"
                " sh -c 'echo $$$$ >> /run/spinning; while :; do :; done'"  # systemd halves them
            )

    # --- the daemon ---

    def configure(self, text: str) -> None:
        """Put another configuration in force."""
        self.guest.write(CONFIG, text)
        self.client.reload()

    def daemon_pid(self) -> int:
        """Return the daemon's main process."""
        shown = self.guest.run("systemctl show --property=MainPID --value enforcer.service")
        return int(shown.stdout)

    def journal(self) -> str:
        """Return what the daemon said, for a failed test's message."""
        shown = self.guest.run("journalctl --no-pager -u enforcer.service -n 60", check=False)
        return shown.stdout


@contextmanager
def open_lab(layer: machine.Layer) -> Iterator[Lab]:
    """Start a clean machine, and bring its socket here."""
    with (
        tempfile.TemporaryDirectory(prefix="enforcer-lab-", dir="/tmp") as folder,
        machine.start(layer) as guest,
    ):
        local = Path(folder) / "enforcer.sock"
        guest.forward_socket(SOCKET, local)
        with Client(str(local)) as client:
            yield Lab(guest=guest, client=client)


def until(holds: Callable[[], bool], seconds: float = _SOON_SECONDS) -> float:
    """Wait for something in the guest; the seconds it took.

    seconds: patience on an idle computer, no promise: a busy one is given some times as much.

    Raises:
        AssertionError: it did not come about in time.
    """
    begin = time.monotonic()
    while not holds():
        waited = time.monotonic() - begin
        assert waited < _NOISE * seconds, f"not within {_NOISE * seconds:.0f} s"
        time.sleep(0.1)
    return time.monotonic() - begin


def run_words(lease: LeaseReply) -> str:
    """Return the docker command up to its image, as the hub's spawner says it."""
    placement = lease.placement
    assert placement is not None, lease
    words = ["docker", "run", "--detach", "--network=none", "--volume=/usr:/usr:ro"]
    words += [f"--cgroup-parent={placement.cgroup_parent}"]
    words += [f"--label={key}={value}" for key, value in placement.labels.items()]
    words += [
        f"--cpus={placement.nano_cpus / 1e9:g}",
        f"--memory={placement.memory}",
        f"--memory-swap={placement.memory_swap}",
        f"--oom-score-adj={placement.oom_score_adj}",
    ]
    if placement.pids_limit is not None:
        words.append(f"--pids-limit={placement.pids_limit}")
    return shlex.join(words)


def _image(lease: LeaseReply) -> str:
    assert lease.placement is not None
    return lease.placement.image


_MEASURE: Final = """\
import json, time
paths = {paths}
def used():
    found = []
    for path in paths:
        with open(path + "/cpu.stat") as file:
            found.append(int(file.readline().split()[1]))
    return found
begin, before = time.monotonic(), used()
time.sleep({seconds})
end, after = time.monotonic(), used()
print(json.dumps([(b - a) / 1e6 / (end - begin) for a, b in zip(before, after)]))
"""
