"""What lives on when dockerd, containerd, PID 1, the daemon or the whole machine does not."""

from __future__ import annotations

import logging
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from enforcer.api.types import LeaseReply
from enforcer.client import Client
from enforcer.errors import EnforcerError, InvalidError, NotFoundError, UnavailableError
from enforcer.model import Claim, EndReason, LeaseState
from enforcer.names import FIXED, ROOT, UnitName, cgroup_path, profile_slice, user_slice
from enforcer.quantities import CORE, MIB, Bytes, Cpus
from tests.machine.lab import CGROUPS, CHECKOUT, CONFIG, SOCKET, STATE, Lab, until
from tests.machine.test_machine import mostly_on_one

_RELOAD: Final = "systemctl reload enforcer.service"
REBOOT_SECONDS: Final = 900
NOTICE_SECONDS: Final = 60
"""A dockerd that hangs says nothing: it is asked now and then, and given time to answer."""
_log = logging.getLogger(__name__)


@pytest.mark.long
def test_dockerd_and_containerd_may_restart_under_running_leases(lab: Lab) -> None:
    lease = lab.place(_claim("ann"))
    pid = lab.docker(f"inspect --format '{{{{.State.Pid}}}}' {lease.container_id}")
    for service in ("docker", "containerd"):
        lab.guest.run(["systemctl", "restart", service], timeout_seconds=300)
        until(lambda: lab.client.status().docker_ok)
        until(lambda: lab.docker("ps --quiet").startswith((lease.container_id or "")[:12]))
        assert lab.guest.run(["kill", "-0", pid], check=False).code == 0
        after = lab.client.lease(lease.id)
        assert (after.state, after.deadline) == (LeaseState.BOUND, None)
        assert lab.number(lease.unit, "memory.max") == 128 * MIB
    assert not lab.client.status().drift
    assert not lab.client.receipts()


@mostly_on_one
def test_reexecution_and_reload_of_systemd_change_no_limit(suite: str, lab: Lab) -> None:
    del suite
    lease = lab.place(_claim("ann"))
    before = limits(lab, lease.unit)
    for verb in ("daemon-reexec", "daemon-reload"):
        lab.guest.run(["systemctl", verb])
        # Claims go on the moment it is back; the connection to the bus was cut meanwhile.
        user = verb.removeprefix("daemon-")
        assert lab.client.claim(_claim(user)).state is LeaseState.PENDING
        assert limits(lab, lease.unit) == before
        assert lab.read(lease.unit, "cgroup.events").startswith("populated 1")
    lab.guest.run("sleep 2")
    assert limits(lab, lease.unit) == before
    assert lab.client.status().systemd_ok


def test_a_dockerd_that_hangs_stops_neither_metrics_nor_claims_nor_repairs(lab: Lab) -> None:
    lease = lab.place(_claim("ann"))
    lab.guest.run("systemctl kill --signal=STOP docker.service")
    try:
        until(lambda: not lab.client.status().docker_ok, NOTICE_SECONDS)
        check_alive(lab, lease.unit, "hung")
        assert lab.client.lease(lease.id).state is LeaseState.BOUND
    finally:
        lab.guest.run("systemctl kill --signal=CONT docker.service")
    until(lambda: lab.client.status().docker_ok)
    lab.guest.run("systemctl stop docker.socket docker.service", timeout_seconds=300)
    until(lambda: not lab.client.status().docker_ok)
    check_alive(lab, lease.unit, "stopped")
    assert lab.client.lease(lease.id).state is LeaseState.BOUND
    assert "enforcer_docker_up 0.0" in metrics(lab)


def test_a_frozen_pid_1_delays_claims_alone_and_they_say_so(lab: Lab) -> None:
    lease = lab.place(_claim("ann"))
    # Thawed by a program that needs nothing of PID 1, whatever becomes of this test.
    freeze = f"echo 1 > {CGROUPS}/init.scope/cgroup.freeze"
    thaw = f"echo 0 > {CGROUPS}/init.scope/cgroup.freeze"
    lab.guest.run(f"(sleep 25; {thaw}) >/dev/null 2>&1 </dev/null & {freeze}")
    begin = time.monotonic()
    assert lab.client.status().ticks > 0
    assert "enforcer_lease_memory_limit_bytes" in metrics(lab)
    with pytest.raises(UnavailableError) as caught:
        lab.client.claim(_claim("bob"))
    _log.info("refused after %.1f s: %s", time.monotonic() - begin, caught.value)
    assert time.monotonic() - begin < 20
    assert caught.value.code.startswith("systemd.")
    assert [one.user for one in lab.client.leases()] == ["ann"], "a claim that failed left a lease"
    assert not lab.client.status().systemd_ok
    lab.guest.run(thaw)
    until(lambda: claimed(lab, "bob"))
    until(lambda: lab.client.status().systemd_ok)
    assert lab.number(lease.unit, "memory.max") == 128 * MIB


def test_a_busy_pid_1_is_waited_for(lab: Lab) -> None:
    # it rests a little: an emulated PID 1 takes seconds for each, and one call may take eight
    with lab.guest.start("while :; do systemctl daemon-reload; sleep 0.2; done") as busy:
        lab.guest.run("sleep 1")
        begin = time.monotonic()
        lease = lab.client.claim(_claim("ann"))
        _log.info("a claim beside reloads without end: %.2f s", time.monotonic() - begin)
        assert lab.number(lease.unit, "memory.max") == 128 * MIB
        assert "enforcer_ticks_total" in metrics(lab)
        busy.stop()


@pytest.mark.long
def test_a_reload_with_a_bad_file_changes_nothing_and_status_says_so(lab: Lab) -> None:
    lease = lab.place(_claim("ann"))
    good = lab.guest.read(CONFIG)
    bad = good.replace("mem_limit", "mem_limits", 1).replace('"256 MiB"', '"a lot"', 1)
    lab.guest.write(CONFIG, bad)
    before = limits(lab, ROOT), limits(lab, lease.unit)
    lab.guest.run(["kill", "-HUP", str(lab.daemon_pid())])
    until(lambda: "mem_limits" in lab.client.status().config_error)
    with pytest.raises(InvalidError) as caught:
        lab.client.reload()
    assert "mem_limits" in caught.value.message
    # Whoever reloads through systemd is told as well, and the daemon runs on.
    assert lab.guest.run(_RELOAD, check=False, timeout_seconds=120).code != 0
    assert lab.guest.run("systemctl is-active enforcer.service").stdout.strip() == "active"
    assert "enforcer reload: " in lab.journal()
    assert "mem_limits" in lab.guest.run("enforcer status").stdout
    shown = "systemctl status --no-pager enforcer.service"
    until(lambda: "the configuration file is wrong" in lab.guest.run(shown).stdout)
    assert (limits(lab, ROOT), limits(lab, lease.unit)) == before
    # A start finds no right file either, and goes on with the last one that was.
    lab.guest.run("systemctl restart enforcer.service", timeout_seconds=300)
    assert "mem_limits" in lab.client.status().config_error
    assert (limits(lab, ROOT), limits(lab, lease.unit)) == before
    lab.guest.write(CONFIG, good)
    lab.guest.run(_RELOAD, timeout_seconds=120)
    assert not lab.client.status().config_error, "it has been read when the command ends"


@pytest.mark.long
def test_a_profile_that_is_renamed_holds_what_runs_in_it_until_that_has_ended(lab: Lab) -> None:
    text = (CHECKOUT / "tests/machine/enforcer.toml").read_text()
    bounded = text.replace(_SMALL, _BOUNDED)
    assert bounded != text
    lab.configure(bounded)
    lease = lab.place(_claim("ann"))
    units = (lease.unit, user_slice("Small", "ann"), profile_slice("Small"))
    before = {unit: limits(lab, unit) for unit in units}
    assert before[lease.unit].split()[-2:] == ["60", str(96 * MIB)]
    renamed = bounded.replace("Small", "Tiny")
    assert not any("limit" in one.what for one in lab.client.plan(renamed))
    lab.configure(renamed)
    lab.guest.run("sleep 3")
    assert {unit: limits(lab, unit) for unit in units} == before
    lab.guest.run("systemctl restart enforcer.service", timeout_seconds=300)
    until(lambda: answers(lab))
    assert {unit: limits(lab, unit) for unit in units} == before
    bomb = "bomb() { bomb | bomb & }; while :; do bomb; sleep 1; done"
    lab.docker(f"exec --detach {lease.container_id} sh -c '{bomb}'")
    until(lambda: (lab.number(lease.unit, "pids.current") or 0) > 50, 30)
    lab.guest.run("sleep 3")
    assert (lab.number(lease.unit, "pids.current") or 0) <= 60
    with pytest.raises(NotFoundError):
        lab.client.claim(_claim("bob"))


@pytest.mark.long
def test_a_first_start_with_a_bad_file_says_so_and_touches_no_limit(lab: Lab) -> None:
    lease = lab.place(_claim("ann"))
    good, units = lab.guest.read(CONFIG), _unit_files(lab)
    before = [limits(lab, unit) for unit in (*FIXED, lease.unit)]
    lab.guest.run("systemctl stop enforcer.service", timeout_seconds=300)
    lab.guest.run(f"rm {STATE}/enforcer.toml.last-good")
    lab.guest.write(CONFIG, good.replace("mem_limit", "mem_limits", 1))
    lab.guest.run("systemctl start enforcer.service", check=False, timeout_seconds=300)
    until(lambda: "mem_limits" in lab.journal())
    assert "status=1" in lab.journal()
    # systemd tries again and again, so that a file that is mended is all it takes
    lab.guest.run("sleep 5")
    assert lab.guest.run("systemctl is-active enforcer.service", check=False).code
    assert [limits(lab, unit) for unit in (*FIXED, lease.unit)] == before
    assert _unit_files(lab) == units
    lab.guest.write(CONFIG, good)
    until(lambda: answers(lab), 120)
    assert [one.id for one in lab.client.leases()] == [lease.id]
    assert [limits(lab, unit) for unit in (*FIXED, lease.unit)] == before


def test_a_lowered_limit_kills_nobody_until_its_grace_ends(lab: Lab) -> None:
    lease = lab.place(_claim("ann", memory=128), program=("sh", "-c", _HOLD_96_MIB))
    until(lambda: (lab.number(lease.unit, "memory.current") or 0) > 90 * MIB)
    text = (CHECKOUT / "tests/machine/enforcer.toml").read_text()
    lower = text.replace(_SMALL, _SMALL.replace("256", "64"))
    assert lower != text
    lab.configure(lower)
    lab.guest.run("sleep 4")
    assert lab.client.lease(lease.id).mem_limit == 64 * MIB
    assert lab.number(lease.unit, "memory.max") == 128 * MIB
    assert lab.event(lease.unit, "oom_kill") == 0
    said = " ".join(lab.client.explain("ann").sentences)
    assert "64 MiB" in said, said
    lab.configure(lower.replace("[daemon]", "[daemon]\nresize_grace_seconds = 4"))
    until(lambda: lab.number(lease.unit, "memory.max") == 64 * MIB, 15)


@pytest.mark.long
def test_a_daemon_that_hangs_is_started_anew_and_the_limits_hold_meanwhile(lab: Lab) -> None:
    lease = lab.place(_claim("ann"))
    pid = lab.daemon_pid()
    lab.guest.run(["kill", "-STOP", str(pid)])
    begin = time.monotonic()
    hog = _HOLD_96_MIB.replace("96", "300")
    lab.docker(f"exec --detach {lease.container_id} sh -c '{hog}'")
    until(lambda: lab.event(lease.unit, "oom_kill") > 0, 40)
    until(lambda: lab.daemon_pid() not in {0, pid}, 90)
    until(lambda: answers(lab), 60)
    _log.info("a stopped daemon was replaced within %.0f s", time.monotonic() - begin)
    shown = lab.guest.run("journalctl --no-pager -u enforcer.service | grep -i watchdog")
    assert "Watchdog timeout" in shown.stdout
    assert lab.client.lease(lease.id).state is LeaseState.BOUND


@pytest.mark.long
def test_after_a_reboot_the_cap_is_there_first_and_leases_are_as_before(lab: Lab) -> None:
    stays = lab.place(_claim("ann"), options="--restart=always")
    goes = lab.place(_claim("bob"))
    cap = {file: lab.read(ROOT, file) for file in ("cpu.max", "memory.max")}
    lab.guest.write("/etc/systemd/system/early.service", _EARLY)
    lab.guest.run("systemctl enable early.service")
    lab.guest.reboot(timeout_seconds=REBOOT_SECONDS)
    with reconnected(lab) as after:
        check_rebooted(after, cap, stays, goes)


@pytest.mark.long
def test_a_boot_before_the_daemon_has_ever_run_has_the_first_cap(lab: Lab) -> None:
    units = "enforcer.socket enforcer.service"
    lab.guest.run(f"systemctl disable --now {units}", timeout_seconds=180)
    lab.guest.run(f"rm -r /etc/systemd/system.control/{ROOT}.d")
    lab.guest.reboot(timeout_seconds=REBOOT_SECONDS)
    # two CPUs, of which a quarter of one stays with the host if nobody says otherwise
    assert lab.read(ROOT, "cpu.max") == "175000 100000"
    assert lab.read(ROOT, "memory.swap.max") == "0"
    assert lab.read(ROOT, "memory.max") != "max"
    lab.guest.run(f"systemctl enable --now {units}", timeout_seconds=300)
    until(lambda: lab.read(ROOT, "cpu.max") == "150000 100000", 60)


def check_rebooted(lab: Lab, cap: Mapping[str, str], stays: LeaseReply, goes: LeaseReply) -> None:
    """See that the cap was first, and what became of the leases."""
    until(lambda: answers(lab), 90)
    # What the kernel had before the daemon or dockerd ran.
    early = dict(line.split(":", 1) for line in lab.guest.read("/run/early").splitlines())
    assert early == cap
    order = lab.guest.run(
        "systemctl show --property=ActiveEnterTimestampMonotonic --value early enforcer docker"
    ).stdout.split()
    _log.info("early, enforcer, docker after %s µs", order)
    assert int(order[0]) < int(order[1])
    until(lambda: lab.client.lease(stays.id).deadline is None and running(lab, stays.unit), 60)
    assert lab.client.lease(stays.id).state is LeaseState.BOUND
    assert lab.number(stays.unit, "memory.max") == 128 * MIB
    assert lab.number(stays.unit, "memory.min") == 16 * MIB
    until(lambda: any(one.lease_id == goes.id for one in lab.client.receipts()), 30)
    (receipt,) = lab.client.receipts("bob")
    assert receipt.reason is EndReason.LOST
    assert [one.id for one in lab.client.leases()] == [stays.id]


_SMALL: Final = 'cpu_limit = 0.5\nmem_limit = "256 MiB"\n\n[resource_profiles.Wide]'
_BOUNDED: Final = _SMALL.replace(
    '"256 MiB"\n',
    '"256 MiB"\nmem_throttle = "96 MiB"\ntasks_limit = 60\ncpu_total = 0.6\ntasks_total = 80\n',
)
_HOLD_96_MIB: Final = "dd if=/dev/zero bs=96M count=1 | sleep 100000"
"""dd has it all in memory, and nobody takes it."""
_EARLY: Final = f"""\
[Unit]
After=slices.target
Before=enforcer.service docker.service containerd.service
[Service]
Type=oneshot
RemainAfterExit=yes
WorkingDirectory={CGROUPS}/{ROOT}
ExecStart=sh -c 'grep -H "" cpu.max memory.max > /run/early'
[Install]
WantedBy=multi-user.target
"""


def _unit_files(lab: Lab) -> str:
    """Return what is on disk of the slices that have unit files."""
    return lab.guest.run(f"systemctl cat {' '.join(FIXED)}").stdout


def check_alive(lab: Lab, unit: str, user: str) -> None:
    """See that metrics, admission and repairs go on."""
    begin = time.monotonic()
    assert "enforcer_lease_memory_limit_bytes" in metrics(lab)
    fresh = lab.client.claim(_claim(user))
    assert lab.number(fresh.unit, "memory.max") == 128 * MIB
    leaf = f"{CGROUPS}/{cgroup_path(UnitName(unit))}/memory.max"
    lab.guest.write(leaf, "max")
    until(lambda: lab.guest.read(leaf).strip() == str(128 * MIB), 1.5)
    assert time.monotonic() - begin < 10


def limits(lab: Lab, unit: str) -> str:
    """Return what a slice is held to, in one text."""
    files = ("cpu.max", "memory.max", "memory.min", "memory.swap.max", "pids.max", "memory.high")
    return " ".join(lab.read(unit, file) for file in files)


def metrics(lab: Lab) -> str:
    """Scrape."""
    return lab.guest.run("curl --silent --max-time 5 http://127.0.0.1:9753/metrics").stdout


@contextmanager
def reconnected(lab: Lab) -> Iterator[Lab]:
    """Bring the socket here again: what was forwarded ended with the machine's connection."""
    with tempfile.TemporaryDirectory(prefix="enforcer-lab-", dir="/tmp") as folder:
        local = Path(folder) / "enforcer.sock"
        lab.guest.forward_socket(SOCKET, local)
        with Client(str(local)) as client:
            yield replace(lab, client=client)


def answers(lab: Lab) -> bool:
    """Tell whether the daemon answers."""
    try:
        return lab.client.status().ticks > 0
    except EnforcerError:
        return False


def claimed(lab: Lab, user: str) -> bool:
    """Tell whether a claim goes through."""
    try:
        return lab.client.claim(_claim(user)).state is LeaseState.PENDING
    except UnavailableError:
        return False


def running(lab: Lab, unit: str) -> bool:
    """Tell whether something runs in a slice."""
    return lab.exists(unit) and bool(re.match("populated 1", lab.read(unit, "cgroup.events")))


def _claim(user: str, memory: int = 128) -> Claim:
    return Claim(
        user=user,
        profile="Small",
        cpu_limit=Cpus(CORE // 2),
        mem_limit=Bytes(memory * MIB),
        cpu_guarantee=Cpus(CORE // 20),
        mem_guarantee=Bytes(16 * MIB),
    )
