"""Whatever changes a limit behind the daemon's back is seen by event and undone within a second."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest

from enforcer.api.types import DriftReply, LeaseReply
from enforcer.model import Claim, LeaseState
from enforcer.names import ADOPTED, ENGINE, ROOT, WORKLOAD, UnitName, cgroup_path, parent
from enforcer.quantities import CORE, MIB, Bytes, Cpus
from tests.machine.lab import CGROUPS, CHECKOUT, Lab, until
from tests.machine.test_machine import mostly_on_one

INSIDE: Final = Path(__file__).parent / "inside"
SECOND: Final = 1.0
TRIES: Final = 5
RELOAD_SECONDS: Final = 6.0
"""PID 1 answers nobody while it reloads, which takes it two seconds on an emulated processor."""
_CONFIG: Final = (CHECKOUT / "tests/machine/enforcer.toml").read_text()
SWAPPING: Final = _CONFIG.replace("mem_limit =", 'swap_limit = "64 MiB"\nmem_limit =')
"""Where nobody may swap, nobody can be kept from it."""
_log = logging.getLogger(__name__)

_CLAIM: Final = Claim(
    user="ann",
    profile="Shared",
    cpu_guarantee=Cpus(CORE // 10),
    mem_guarantee=Bytes(32 * MIB),
)


@mostly_on_one
def test_every_changed_limit_is_as_it_was_within_a_second(suite: str, lab: Lab) -> None:
    del suite
    lab.configure(SWAPPING)
    lease = lab.place(_CLAIM)
    assert not repairs(lab), "something is undone that nobody did"
    wait_for_events_alone(lab)
    check_undone(lab, [*raw_writes(lab, lease), *commands(lab, lease)])
    memory = file_of(UnitName(lease.unit), "memory.max")
    reload = f"echo max > {shlex.quote(memory)}; systemctl daemon-reload"
    check_undone(lab, [{"watch": memory, "run": reload}], RELOAD_SECONDS)


def test_the_list_of_whole_cores_is_kept(lab: Lab) -> None:
    text = _CONFIG.replace("reserved = { cpu = 0.5,", "whole_cores = true\nreserved = { cpu = 1,")
    text = text.replace("cpu_limit = 1.25", "cpu_limit = 0.8")
    text = text.replace("cpu_guarantee = 1,", "cpu_guarantee = 0.8,")
    lab.configure(calm(text))
    assert lab.read(ROOT, "cpuset.cpus") == "1"
    check_undone(lab, [{"watch": file_of(ROOT, "cpuset.cpus"), "write": "0-1"}])


def test_what_is_set_for_good_is_undone_for_good(lab: Lab) -> None:
    """After `systemctl revert` the numbers are on disk again, not in the kernel alone."""
    before = lab.number(ROOT, "memory.max")
    lab.guest.run("systemctl revert jupyter.slice jupyter-workload.slice")
    until(lambda: "MemoryMax" in on_disk(lab, ROOT) and "MemoryMax" in on_disk(lab, WORKLOAD))
    lab.guest.run("systemctl set-property jupyter.slice MemoryMax=1G")
    until(lambda: lab.number(ROOT, "memory.max") == before, 5)
    lab.guest.run("systemctl daemon-reload")
    until(lambda: lab.number(ROOT, "memory.max") == before, 5)
    assert f"MemoryMax={before}" in on_disk(lab, ROOT)


@pytest.mark.long
def test_containers_nobody_asked_us_about_do_not_run_unlimited(lab: Lab) -> None:
    parents = {
        "plain": "",
        "outside": "--cgroup-parent=other.slice",
        "unknown": "--cgroup-parent=jupyter-workload-mine.slice",
        "claimed": "--cgroup-parent=jupyter-workload-x-y-z.slice",
        "root": f"--cgroup-parent={ROOT}",
        "engine": f"--cgroup-parent={ENGINE}",
        "workload": f"--cgroup-parent={WORKLOAD}",
    }
    run = "docker run -d --stop-timeout=0 --network=none --name {} {} enforcer-demo sleep 100000 &"
    together = " ".join(run.format(name, parent) for name, parent in parents.items())
    said = lab.guest.run(f"{together} wait", timeout_seconds=300).stderr
    adopted = lab.number(ADOPTED, "memory.max")
    up = set(lab.docker("ps --format '{{.Names}}'").split())
    assert up == parents.keys(), said + lab.docker("ps --all --format '{{.Names}} {{.Status}}'")
    assert scope_of(lab, "plain").startswith(cgroup_path(ADOPTED))
    # A slice made by Docker alone has no limits; nobody asked for it, so it gets the adopted ones.
    for unit in ("jupyter-workload-mine.slice", "jupyter-workload-x-y-z.slice"):
        until(lambda unit=unit: lab.number(unit, "memory.max") == adopted, 5)  # type: ignore[misc] # mypy#2608
        assert lab.read(unit, "cpu.max") == lab.read(ADOPTED, "cpu.max")
        assert lab.read(unit, "pids.max") == lab.read(ADOPTED, "pids.max")
    # Outside of the tree, or in a slice that is for many, Docker is the one to ask.
    assert scope_of(lab, "outside").startswith("other.slice/")
    for name in ("outside", "root", "engine", "workload"):
        scope = f"{CGROUPS}/{scope_of(lab, name)}"
        until(lambda of=scope: lab.guest.read(f"{of}/memory.max").strip() == str(adopted), 10)  # type: ignore[misc] # mypy#2608
        assert lab.guest.read(f"{scope}/cpu.max") == "50000 100000\n"
        container = lab.docker(f"inspect --format '{{{{.Id}}}}' {name}")
        told = report_of(lab, "container-outside", container)
        assert told.message.startswith(f"container {name} runs")
        assert parents[name] in told.message
        lab.guest.run(told.command)
    until(lambda: report(lab, "container-outside") is None)


def test_a_container_that_comes_back_after_its_leaf_went_has_its_limits(lab: Lab) -> None:
    lease = lab.place(_CLAIM, options="--name back --stop-timeout=0")
    leaf, wanted = lease.unit, lab.number(lease.unit, "memory.max")
    lab.docker("stop back")
    until(lambda: not lab.client.leases())
    assert lab.exists(leaf), "a stopped container names it, so it stays"
    lab.guest.run(["systemctl", "stop", leaf])
    assert not lab.exists(leaf)
    lab.docker("start back")
    until(lambda: lab.number(leaf, "memory.max") == wanted, 5)
    assert lab.read(leaf, "cpu.max") == "80000 100000"
    # The guarantee was the lease's, and that is over.
    assert lab.number(leaf, "memory.min") == 0
    lab.docker("rm --force back")
    until(lambda: not lab.exists(leaf))


@pytest.mark.long
def test_a_dockerd_that_runs_elsewhere_is_reported_with_what_mends_it(lab: Lab) -> None:
    lease = lab.place(_CLAIM)
    folder = "/usr/local/lib/systemd/system/docker.service.d"
    restart = "systemctl daemon-reload && systemctl restart docker"
    lab.guest.run(f"mv {folder} /root/away && {restart}", timeout_seconds=300)
    until(lambda: report(lab, "engine-outside") is not None, 60)
    told = report(lab, "engine-outside")
    assert told is not None
    assert told.subject == "docker.service"
    assert "system.slice/docker.service" in told.message
    # That is for the admin to do: until then dockerd runs on as it does.
    since = "systemctl show --property=MainPID --property=NRestarts docker.service"
    dockerd, ticks = lab.guest.run(since).stdout, lab.client.status().ticks
    until(lambda: lab.client.status().ticks > ticks + 3)
    assert lab.guest.run(since).stdout == dockerd
    lab.guest.run(f"mv /root/away {folder} && systemctl daemon-reload && {told.command}")
    until(lambda: report(lab, "engine-outside") is None, 60)
    # dockerd was restarted twice, and nobody lost anything by it.
    assert lab.client.lease(lease.id).state is LeaseState.BOUND
    assert lab.read(lease.unit, "cgroup.events").startswith("populated 1")


# --- what is changed, and how ---

Change = Mapping[str, str]


def raw_writes(lab: Lab, lease: LeaseReply) -> list[Change]:
    """Return a write to every control file that the daemon answers for, at every level."""
    leaf = UnitName(lease.unit)
    user = parent(leaf)
    assert user is not None
    profile = parent(user)
    assert profile is not None
    scope = f"{CGROUPS}/{scope_of(lab, lease.container_id or '')}"
    wanted: list[tuple[str, str]] = [
        (file_of(leaf, "cpu.max"), "max 100000"),
        (file_of(leaf, "cpu.max"), "30000 50000"),
        (file_of(leaf, "cpu.max"), "40000 50000"),
        (file_of(leaf, "cpu.weight"), "1"),
        (file_of(leaf, "memory.max"), "max"),
        (file_of(leaf, "memory.high"), str(200 * MIB)),
        (file_of(leaf, "memory.min"), "0"),
        (file_of(leaf, "memory.swap.max"), "max"),
        (file_of(leaf, "pids.max"), "7"),
        (file_of(user, "memory.max"), "max"),
        (file_of(user, "cpu.max"), "max 100000"),
        (file_of(profile, "memory.max"), "max"),
        (file_of(profile, "memory.min"), "0"),
        (file_of(profile, "cpu.max"), "max 100000"),
        (file_of(WORKLOAD, "memory.max"), "max"),
        (file_of(WORKLOAD, "cpu.max"), "max 100000"),
        (file_of(ADOPTED, "memory.max"), "max"),
        (file_of(ENGINE, "memory.min"), "0"),
        (file_of(ENGINE, "cpu.weight"), "1"),
        (file_of(ROOT, "cpu.max"), "max 100000"),
        (file_of(ROOT, "memory.max"), "max"),
        (file_of(ROOT, "memory.min"), "0"),
        (f"{scope}/memory.max", "max"),
        (f"{scope}/cpu.max", "max 100000"),
        (f"{scope}/cpu.max", "8000 10000"),
        (f"{scope}/memory.high", str(50 * MIB)),
        (f"{scope}/memory.swap.max", "0"),
        (f"{scope}/pids.max", "7"),
    ]
    return [{"watch": path, "write": text} for path, text in wanted]


def commands(lab: Lab, lease: LeaseReply) -> list[Change]:
    """Return what an admin, or a member of the docker group, might type.

    A list of CPUs is watched by what it comes to: the daemon can name all, not none.
    """
    leaf = shlex.quote(lease.unit)
    container = lease.container_id or ""
    scope = f"{CGROUPS}/{scope_of(lab, container)}"
    cpus = f"{scope}/cpuset.cpus.effective"
    own = f"systemctl set-property --runtime docker-{container}.scope"
    update = f"docker update {container[:12]}"
    memory = file_of(UnitName(lease.unit), "memory.max")
    wanted: list[tuple[str, str]] = [
        (f"{scope}/memory.max", f"{update} --memory=300m --memory-swap=300m"),
        (f"{scope}/cpu.max", f"{update} --cpus=1.7"),
        (f"{scope}/pids.max", f"{update} --pids-limit=9"),
        (cpus, f"{update} --cpuset-cpus=0"),
        (cpus, f"{own} AllowedCPUs=1"),
        (cpus, f"echo 1 > {shlex.quote(scope)}/cpuset.cpus"),
        (f"{scope}/memory.high", f"{own} MemoryHigh=50M"),
        (f"{scope}/memory.high", f"systemctl set-property docker-{container}.scope MemoryHigh=60M"),
        (f"{scope}/memory.swap.max", f"{own} MemorySwapMax=0"),
        (f"{scope}/memory.swap.max", f"{update} --memory={128 * MIB} --memory-swap={128 * MIB}"),
        (f"{scope}/cpu.max", f"{own} CPUQuotaPeriodSec=20ms"),
        (memory, f"systemctl set-property --runtime {leaf} MemoryMax=1G"),
        (memory, f"systemctl set-property {leaf} MemoryMax=900M"),
        (file_of(UnitName(lease.unit), "cpu.max"), f"systemctl set-property {leaf} CPUQuota=170%"),
        (
            file_of(UnitName(lease.unit), "cpu.max"),
            f"systemctl set-property --runtime {leaf} CPUQuotaPeriodSec=20ms",
        ),
        (file_of(ROOT, "memory.max"), "systemctl set-property jupyter.slice MemoryMax=1G"),
        (file_of(ROOT, "cpu.max"), "systemctl set-property --runtime jupyter.slice CPUQuota=9%"),
    ]
    return [{"watch": path, "run": line} for path, line in wanted]


def check_undone(lab: Lab, changes: Sequence[Change], most_seconds: float = SECOND) -> None:
    """Make them one after the other; each has to be seen, undone and reported within that time.

    What took longer is made again: the computer that emulates the machine may have been busy with
    something else just then. With a tick a minute, what is not seen by event is late every time.
    """
    lab.guest.write("/root/drift.py", (INSIDE / "drift.py").read_text())
    for tries_left in reversed(range(TRIES)):
        before = len(repairs(lab))
        lasted = _make(lab, changes)
        found = repairs(lab)[before:]
        _log.info("told: %s", found)
        assert len(found) >= len(changes)
        slow = [one for one, seconds in zip(changes, lasted, strict=True) if seconds > most_seconds]
        told_late = [one for one in found if one[2] is None or one[2] > most_seconds]
        if not slow and not told_late:
            return
        assert tries_left, (slow, told_late, lab.journal())
        changes = slow or changes


def _make(lab: Lab, changes: Sequence[Change]) -> list[float]:
    """Make them; the seconds that each lasted."""
    words = ["python3", "/root/drift.py", json.dumps(list(changes))]
    lasted: list[float | None] = json.loads(lab.guest.run(words, timeout_seconds=400).stdout)
    told = dict(zip(map(_told, changes), lasted, strict=True))
    for what, seconds in told.items():
        _log.info("%s s: %s", seconds, what)
    assert None not in lasted, f"some changed nothing: {told}"
    return [seconds for seconds in lasted if seconds is not None]


def repairs(lab: Lab) -> list[tuple[str, str, float | None]]:
    """Return what the daemon says it undid, the oldest first."""
    told = lab.client.status().repairs or []
    ordered = sorted(told, key=lambda one: one.at)
    return [(one.subject, one.what, one.seconds) for one in ordered]


def report(lab: Lab, what: str, subject: str = "") -> DriftReply | None:
    """Return what the daemon leaves to an operator, of one kind; "": of anything."""
    found = (one for one in lab.client.status().drift or [] if one.what == what)
    return next((one for one in found if not subject or one.subject == subject), None)


def report_of(lab: Lab, what: str, subject: str) -> DriftReply:
    """Wait until the daemon leaves something to an operator, and return it."""
    until(lambda: report(lab, what, subject) is not None)
    told = report(lab, what, subject)
    assert told is not None
    return told


def wait_for_events_alone(lab: Lab) -> None:
    """Have the daemon tick once a minute, and see nothing left to be done."""
    lab.configure(calm(SWAPPING))
    ticks: Callable[[], int] = lambda: lab.client.status().ticks  # noqa: E731 # it is read twice
    lab.guest.run("sleep 2")
    before = ticks()
    lab.guest.run("sleep 2")
    assert ticks() - before <= 1, "it still ticks by itself"


def calm(text: str) -> str:
    """Return the configuration with a tick a minute."""
    return text.replace("tick_seconds = 1", "tick_seconds = 60")


def on_disk(lab: Lab, unit: str) -> str:
    """Return what is set for good."""
    done = lab.guest.run(f"cat /etc/systemd/system.control/{unit}.d/*.conf", check=False)
    return done.stdout


def scope_of(lab: Lab, container: str) -> str:
    """Return a running container's cgroup, below the mount."""
    pid = lab.docker(f"inspect --format '{{{{.State.Pid}}}}' {container}")
    return lab.guest.read(f"/proc/{pid}/cgroup").strip().removeprefix("0::/")


def file_of(unit: str, file: str) -> str:
    """Return where a slice's control file is."""
    return f"{CGROUPS}/{cgroup_path(UnitName(unit))}/{file}"


def _told(change: Change) -> str:
    watched = change["watch"].rpartition("/")[0].rpartition("/")[2]
    file = change["watch"].rpartition("/")[2]
    return f"{watched} {file}: {change.get('run') or change['write']}"
