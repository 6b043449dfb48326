"""Full contention: quotas are exact, guarantees are real, the engine and the daemon answer."""

from __future__ import annotations

import json
import logging
import re
import shlex
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from enforcer.api.types import LeaseReply
from enforcer.model import Claim, LeaseState, Resize
from enforcer.names import ENGINE, ROOT, WORKLOAD, UnitName, cgroup_path, profile_slice
from enforcer.quantities import CORE, Bytes, Cpus
from tests.machine.lab import CGROUPS, SOCKET, Lab, until

CONFIG: Final = (Path(__file__).parent / "enforcer.toml").read_text()
"""Here with the tick that everybody has who says nothing of it."""

GLOBAL: Final = 1.5
ENGINE_FLOOR: Final = 0.2
WORKLOAD_QUOTA: Final = GLOBAL - ENGINE_FLOOR
SHARED_TOTAL: Final = 0.8
SMALL_LIMIT: Final = 0.5
"""As tests/machine/enforcer.toml has them."""

PEOPLE: Final = {"ann": "Wide", "bea": "Wide", "cyd": "Shared", "dan": "Shared", "eve": "Small"}
"""User → profile; Shared has a total of its own."""

NOTHING: Final = dict.fromkeys(PEOPLE, 0.0)

SETTLE_SECONDS: Final = 10.0
WATCH_SECONDS: Final = 30.0
QUOTA_SECONDS: Final = 10.0

LEASE_LIMIT: Final = 0.3
"""What eve's is lowered to, so that no quota above runs out while hers is watched."""

ANSWER_ROUNDS: Final = 3
ANSWER_SETTLE_SECONDS: Final = 3.0
MOST_SLOWER: Final = 1.3

Leases = Mapping[str, LeaseReply]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Mix:
    """What is promised to whom, and what runs. All in cores and threads."""

    name: str
    promised: Mapping[str, float]
    threads: Mapping[str, int]
    bursts: Sequence[str] = ()
    """Who runs for 20 ms, and sleeps for 400, all the time."""
    host: int = 0
    engine: int = 0


MIXES: Final = (
    Mix(
        name="one thread that was promised a core, among hogs",
        promised={"ann": 1.0, "eve": 0.1},
        threads={"ann": 1, "bea": 8, "cyd": 2, "dan": 1, "eve": 3},
    ),
    Mix(
        name="everything is promised, nothing is left, and the engine is busy",
        promised={"ann": 0.6, "bea": 0.3, "cyd": 0.25, "eve": 0.15},
        threads={"ann": 1, "bea": 2, "cyd": 4, "dan": 8, "eve": 1},
        engine=2,
    ),
    Mix(
        name="a profile with a total of its own, full of threads that were promised nothing",
        promised={"cyd": 0.6, "bea": 0.4},
        threads={"ann": 2, "bea": 1, "cyd": 1, "dan": 8, "eve": 4},
    ),
    Mix(
        name="a host that wants every CPU for itself",
        promised={"ann": 0.7, "dan": 0.3, "eve": 0.2},
        threads={"ann": 2, "bea": 8, "dan": 2, "eve": 1},
        host=2,
    ),
    Mix(
        name="the largest promise sleeps most of the time and lends what it has",
        promised={"ann": 0.6, "bea": 0.3, "cyd": 0.2},
        threads={"bea": 1, "cyd": 3, "dan": 1, "eve": 8},
        bursts=("ann",),
    ),
)


@pytest.mark.long
def test_quotas_are_exact_guarantees_are_real_and_everybody_is_answered(lab: Lab) -> None:
    lab.configure(CONFIG.replace("tick_seconds = 1\n", ""))
    leases = _place(lab)
    wrong = _quotas(lab, leases)
    for mix in MIXES:
        wrong += _contend(lab, leases, mix)
    wrong += _answers(lab, leases)
    assert not wrong, "\n".join((*wrong, lab.journal()))


@pytest.mark.long
def test_a_cap_on_the_engine_is_not_on_disk_and_does_not_come_back(lab: Lab) -> None:
    leases = _place(lab, {"ann": "Wide", "bea": "Wide"})
    _promise(lab, leases, {"ann": 1.0})
    _spin(lab, leases, {"ann": 1, "bea": 4})
    _spin_engine(lab, 2)
    until(lambda: _capped(lab))
    assert not re.search(r"CPUQuota=.*\d", lab.guest.run(f"cat {_on_disk('/etc')}/*").stdout)
    with _daemon_stopped(lab):
        # what a boot finds: nothing in /run, and perhaps no daemon that works
        lab.guest.run(f"rm -r {_on_disk('/run')} && systemctl daemon-reload")
        assert _quota(lab) == "infinity"
    until(lambda: _capped(lab))
    lab.guest.run("systemctl daemon-reload")
    until(lambda: _capped(lab))
    lab.rest()
    until(lambda: not _capped(lab))
    with _daemon_stopped(lab):
        for change in ("true", f"rm -r {_on_disk('/etc')}"):
            lab.guest.run(f"{change} && systemctl daemon-reload")
            assert _quota(lab) == "infinity"
            assert not _capped(lab)


def _capped(lab: Lab) -> bool:
    return not lab.read(ENGINE, "cpu.max").startswith("max")


def _on_disk(where: str) -> str:
    """Return where PID 1 keeps what was set on the engine: for good, or until the next boot."""
    return f"{where}/systemd/system.control/{ENGINE}.d"


def _quota(lab: Lab) -> str:
    """Return the engine's quota as PID 1 has it."""
    show = ["systemctl", "show", "--property=CPUQuotaPerSecUSec", "--value", ENGINE]
    return lab.guest.run(show).stdout.strip()


@contextmanager
def _daemon_stopped(lab: Lab) -> Iterator[None]:
    """Have the daemon put nothing back."""
    pid = str(lab.daemon_pid())
    lab.guest.run(["kill", "-STOP", pid])
    try:
        yield
    finally:
        lab.guest.run(["kill", "-CONT", pid])


def _place(lab: Lab, people: Mapping[str, str] = PEOPLE) -> Leases:
    """Give everybody a container, all at the same time: that is what costs most here."""
    claims = [
        Claim(user=user, profile=profile, cpu_guarantee=_cpus(0), mem_guarantee=Bytes(0))
        for user, profile in people.items()
    ]
    leases = [lab.client.claim(claim) for claim in claims]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda lease: lab.run(lease, ("sleep", "1000000")), leases))
    bound = [lab.client.lease(lease.id, 30.0, LeaseState.PENDING) for lease in leases]
    return {lease.user: lease for lease in bound}


# --- quotas ---


def _quotas(lab: Lab, leases: Leases) -> list[str]:
    """Without any promise, nothing but the kernel's quotas holds anybody back."""
    lab.client.resize(leases["eve"].id, Resize(cpu_limit=_cpus(LEASE_LIMIT)))
    _spin(lab, leases, {"cyd": 2, "dan": 2, "eve": 2})
    wrong = _exact(lab, {leases["eve"].unit: LEASE_LIMIT, profile_slice("Shared"): SHARED_TOTAL})
    _spin(lab, leases, {"ann": 2, "bea": 2})
    wrong += _exact(lab, {WORKLOAD: WORKLOAD_QUOTA})
    _spin_engine(lab, 2)
    wrong += _exact(lab, {ROOT: GLOBAL})
    lab.rest()
    lab.client.resize(leases["eve"].id, Resize(cpu_limit=_cpus(SMALL_LIMIT)))
    return wrong


def _exact(lab: Lab, quotas: Mapping[str, float]) -> list[str]:
    used = lab.cpu(QUOTA_SECONDS, list(quotas))
    _log.info("used over %.0f s: %s", QUOTA_SECONDS, used)
    return [
        f"{unit} used {used[unit]:.3f} cores of a quota of {quota}"
        for unit, quota in quotas.items()
        if abs(used[unit] - quota) > 0.02 * quota
    ]


# --- guarantees ---


def _contend(lab: Lab, leases: Leases, mix: Mix) -> list[str]:
    """Promise what the mix promises, let everything loose, and look after the settling."""
    _promise(lab, leases, NOTHING)  # what the last mix promised: both together are too much
    _promise(lab, leases, mix.promised)
    _spin(lab, leases, mix.threads)
    for user in mix.bursts:
        _burst(lab, leases[user].unit)
    _spin_engine(lab, mix.engine)
    lab.spin_host(mix.host)
    time.sleep(SETTLE_SECONDS)
    units = {user: lease.unit for user, lease in leases.items()}
    used = lab.cpu(WATCH_SECONDS, [ROOT, WORKLOAD, ENGINE, *units.values()])
    lab.rest()
    figures = {user: round(used[unit], 3) for user, unit in units.items()}
    _log.info("%s: %s; together %.3f, engine %.3f", mix.name, figures, used[WORKLOAD], used[ENGINE])
    wrong = [
        f"{mix.name}: {user} was promised {promise} cores: {figures}"
        for user, promise in mix.promised.items()
        if user not in mix.bursts and used[units[user]] < 0.95 * min(promise, mix.threads[user])
    ]
    if used[WORKLOAD] < 0.95 * WORKLOAD_QUOTA:
        wrong.append(f"{mix.name}: {used[WORKLOAD]:.3f} of {WORKLOAD_QUOTA} cores used: {figures}")
    return wrong


def _promise(lab: Lab, leases: Leases, promised: Mapping[str, float]) -> None:
    for user, cores in promised.items():
        lab.client.resize(leases[user].id, Resize(cpu_guarantee=_cpus(cores)))


# --- answers ---


def _answers(lab: Lab, leases: Leases) -> list[str]:
    """Time `docker ps` and the daemon's API, idle and under contention by turns.

    Nobody is promised anything: the host comes before all others, as long as no promise suffers.
    A CPU computes more slowly when the other one has work too, as hyperthreads do, and as emulated
    ones do that live on those; so the seconds are put beside those of a computation at real-time
    priority, which waits for nobody. (Emulated, `docker ps` computes for most of a second.)
    """
    _promise(lab, leases, NOTHING)
    lab.guest.write("/root/answers.py", _ANSWERS)
    idle, busy = _Times(), _Times()
    for _ in range(ANSWER_ROUNDS):
        idle.take(lab)
        _spin(lab, leases, MIXES[0].threads)
        time.sleep(ANSWER_SETTLE_SECONDS)
        busy.take(lab)
        lab.rest()
    slower = {what: busy.median(what) / idle.median(what) for what in idle.seconds}
    for what, ratio in slower.items():
        seconds = idle.median(what), busy.median(what)
        _log.info("%s: idle %.4f s, busy %.4f s, %.2f times", what, *seconds, ratio)
    computer = max(1.0, slower.pop("computing"))
    return [
        f"{what} takes {ratio:.2f} times what it takes idle, computing {computer:.2f} times"
        for what, ratio in slower.items()
        if ratio > MOST_SLOWER * computer
    ]


@dataclass
class _Times:
    """Seconds that things took, by name."""

    seconds: dict[str, list[float]] = field(
        default_factory=lambda: {"docker": [], "api": [], "computing": []}
    )

    def take(self, lab: Lab) -> None:
        """Measure in the guest, by one process that stays."""
        done = lab.guest.run("python3 /root/answers.py")
        for what, seconds in json.loads(done.stdout).items():
            self.seconds[what] += seconds

    def median(self, what: str) -> float:
        """Return the median, which one slow answer does not move."""
        return statistics.median(self.seconds[what])


# --- loads ---


def _spin(lab: Lab, leases: Leases, threads: Mapping[str, int]) -> None:
    for user, count in threads.items():
        lab.spin(leases[user].unit, count)


def _burst(lab: Lab, unit: str) -> None:
    """Have a process in a lease's container that is mostly asleep."""
    path = shlex.quote(f"{CGROUPS}/{cgroup_path(UnitName(unit))}")
    lab.guest.run(
        f"procs=$(ls -d {path}/docker-*.scope)/cgroup.procs; "
        f'sh -c \'echo $$ > "$1"; exec python3 -c "$2"\' burst "$procs" {shlex.quote(_BURST)}'
        " >/dev/null 2>&1 </dev/null & echo $! >> /run/spinning"
    )


def _spin_engine(lab: Lab, threads: int) -> None:
    for _ in range(threads):
        lab.guest.run(
            f"systemd-run --quiet --collect --slice={ENGINE}"
            " sh -c 'echo $$$$ >> /run/spinning; while :; do :; done'"
        )


def _cpus(cores: float) -> Cpus:
    return Cpus(round(cores * CORE))


_BURST: Final = """\
import time
while True:
    begin = time.monotonic()
    while time.monotonic() - begin < 0.02:
        pass
    time.sleep(0.4)
"""

_ANSWERS: Final = f"""\
import http.client, json, os, socket, subprocess, time

def seconds(act):
    begin = time.monotonic()
    act()
    return time.monotonic() - begin

connection = http.client.HTTPConnection("enforcer", timeout=30)
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect("{SOCKET}")

def ask():
    connection.request("GET", "/v1/status")
    reply = connection.getresponse()
    assert reply.status == 200 and reply.read()

def docker():
    subprocess.run(["docker", "ps"], stdout=subprocess.DEVNULL, check=True)

def compute():
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    for _ in range(300_000):
        pass
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))

ask()
docker()
taken = {{"docker": [], "api": [], "computing": []}}
for _ in range(8):
    taken["docker"].append(seconds(docker))
    time.sleep(0.5)
    taken["computing"].append(seconds(compute))
    time.sleep(0.5)
    for _ in range(5):
        taken["api"].append(seconds(ask))
        time.sleep(0.02)
print(json.dumps(taken))
"""
