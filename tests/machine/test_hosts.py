"""Hosts that are not as they should be: each is told so clearly, and nothing is half-done."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from enforcer.errors import UnavailableError
from enforcer.model import Claim, LeaseState
from enforcer.quantities import MIB, Bytes, Cpus
from tests.machine.lab import CGROUPS, STATE, Lab, until
from tests.machine.test_machine import mostly_on_one

_RUN: Final = (
    "/opt/enforcer/venv/bin/python -I -m enforcer run --state /tmp/{0} --socket /tmp/{0}.sock"
)
_ELSEWHERE: Final = {
    "no cgroup v2": (
        f"unshare --mount sh -c 'mount -t tmpfs none {CGROUPS}; exec {_RUN.format('v1')}'",
        ("not cgroup v2 alone", "systemd.unified_cgroup_hierarchy=1"),
    ),
    "no systemd": (
        f"unshare --mount --pid --fork --mount-proc sh -c 'exec {_RUN.format('init')}'",
        ("not systemd", "run the enforcer on a host whose init is systemd"),
    ),
    "no bus": (
        f"unshare --mount sh -c 'mount -t tmpfs none /run/dbus; exec {_RUN.format('bus')}'",
        ("there is no D-Bus system bus", "apt install dbus"),
    ),
}


@pytest.mark.long
def test_a_host_it_cannot_work_on_is_refused_with_what_to_do(lab: Lab) -> None:
    with ThreadPoolExecutor() as pool:
        runs = {
            name: pool.submit(lab.guest.run, line, check=False, timeout_seconds=300)
            for name, (line, _) in _ELSEWHERE.items()
        }
    for name, (_, told) in _ELSEWHERE.items():
        done = runs[name].result()
        said = done.stdout + done.stderr
        assert done.code == 1, (name, said)
        for part in told:
            assert part in said, (name, said)
        assert "Traceback" not in said
    # The whole machine has one mount of the hierarchy: this one for all.
    # Source and folder are both named: else mount(8) adds the options that are in force.
    lab.guest.run(f"mount -t cgroup2 -o remount,nsdelegate cgroup2 {CGROUPS}")
    assert "memory_recursiveprot" not in lab.guest.run(f"grep ' {CGROUPS} ' /proc/mounts").stdout
    done = lab.guest.run(_RUN.format("protection"), check=False, timeout_seconds=300)
    assert done.code == 1
    assert "without memory_recursiveprot" in done.stdout + done.stderr
    assert (
        f"mount -o remount,nsdelegate,memory_recursiveprot {CGROUPS}" in done.stdout + done.stderr
    )
    assert (
        lab.guest.run("ls -d /tmp/v1 /tmp/init /tmp/bus /tmp/protection", check=False).stdout == ""
    )


@pytest.mark.long
@mostly_on_one
def test_without_dockerd_and_with_its_port_taken_it_starts_and_says_so(lab: Lab) -> None:
    lab.guest.run("systemctl stop docker.socket docker.service", timeout_seconds=300)
    lab.guest.run("systemctl stop enforcer.service", timeout_seconds=180)
    listen = "python3 -m http.server --bind 127.0.0.1 9753"
    lab.guest.run(f"systemd-run --quiet --unit=other {listen}; sleep 2")
    lab.guest.run("systemctl start enforcer.service", timeout_seconds=300)
    status = lab.client.status()
    assert not status.docker_ok
    lease = lab.client.claim(_claim("ann"))
    assert lab.number(lease.unit, "memory.max") == 64 * MIB
    said = lab.journal()
    assert "no metrics on 127.0.0.1 port 9753: Address already in use" in said
    assert "docker does not answer" in said
    # The socket has them all the same.
    curl = "curl --silent --unix-socket /run/enforcer/enforcer.sock http://e/metrics"
    assert "enforcer_docker_up 0.0" in lab.guest.run(curl).stdout
    lab.guest.run("systemctl start docker.service", timeout_seconds=300)
    until(lambda: lab.client.status().docker_ok)
    lab.run(lease, ("sleep", "100000"))
    assert lab.client.lease(lease.id, 30, LeaseState.PENDING).state is LeaseState.BOUND


@pytest.mark.long
def test_a_full_disk_refuses_claims_and_keeps_what_there_is(lab: Lab) -> None:
    lab.guest.run("systemctl stop enforcer.service", timeout_seconds=180)
    lab.guest.run(
        f"mv {STATE} /root/state && mkdir -m 700 {STATE}"
        f" && mount -t tmpfs -o size=2M,mode=700 none {STATE} && cp -a /root/state/. {STATE}"
    )
    lab.guest.run("systemctl start enforcer.service", timeout_seconds=300)
    lease = lab.place(_claim("ann"))
    lab.guest.run(f"dd if=/dev/zero of={STATE}/filler bs=4k", check=False)
    for number in range(3):
        with pytest.raises(UnavailableError) as caught:
            lab.client.claim(_claim(f"bob-{number}"))
        assert caught.value.code == "state.unwritable", caught.value
        assert caught.value.hint
    # Nothing is half-done, and nobody who has a lease feels it.
    assert [one.id for one in lab.client.leases()] == [lease.id]
    slices = lab.guest.run(f"find {CGROUPS}/jupyter.slice -name '*bob*'").stdout
    assert slices == ""
    lab.guest.write(f"{CGROUPS}/jupyter.slice/jupyter-workload.slice/memory.max", str(900 * MIB))
    until(lambda: lab.number("jupyter-workload.slice", "memory.max") != 900 * MIB, 3)
    pid = lab.daemon_pid()
    lab.docker(f"rm --force {lease.container_id}")
    lab.guest.run("sleep 5")
    assert lab.daemon_pid() == pid
    lab.guest.run(f"rm {STATE}/filler")
    assert lab.client.claim(_claim("bob")).state is LeaseState.PENDING
    # What could not be written then is written now.
    until(lambda: [one.user for one in lab.client.receipts()] == ["ann"])


def _claim(user: str) -> Claim:
    return Claim(
        user=user,
        profile="Small",
        mem_limit=Bytes(64 * MIB),
        cpu_guarantee=Cpus(0),
        mem_guarantee=Bytes(8 * MIB),
    )
