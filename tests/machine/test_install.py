"""`install` and `uninstall` on a real host: again, over an admin's changes, and off again."""

from __future__ import annotations

import json
import re
from typing import Final

import pytest

from enforcer.model import Claim, LeaseState
from enforcer.names import ADOPTED, ROOT
from enforcer.quantities import MIB, Bytes, Cpus
from tests.machine.lab import CGROUPS, Lab, until
from tests.machine.test_machine import mostly_on_one

_HERE: Final = "/usr/local/src/enforcer"
# What they say goes to standard error.
_COMMAND: Final = f"exec 2>&1; cd {_HERE} && python3 -m enforcer"
_INSTALL: Final = f"{_COMMAND} install --wheels /var/cache/enforcer/wheels"
_UNINSTALL: Final = f"{_COMMAND} uninstall"
_SECONDS: Final = 240.0
_MOST_EXPOSED: Final = 4.0
_EDITED: Final = "/usr/local/lib/systemd/system/jupyter-workload.slice"
_PLACES: Final = (
    "/usr/local/bin /usr/local/lib/systemd /usr/local/lib/sysusers.d /usr/local/lib/tmpfiles.d"
    " /etc/docker /etc/enforcer /etc/systemd/system /opt/enforcer/lib"
    " /var/lib/enforcer/installed.json"
)
_FLOORS: Final = {
    "system.slice": 512,
    "system.slice/enforcer.service": 128,
    "system.slice/ssh.service": 64,
    "user.slice": 128,
}
"""MiB that the host's own have, so that it can be logged in to and looked after."""
# Names, modes and contents; what Python compiles beside its sources differs by its time alone.
_LIST: Final = (
    f"find {_PLACES} -not -name '*.pyc' -printf '%p %m %l ' -type f -exec sha256sum {{}} ';'"
    " -o -not -name '*.pyc' -printf '\\n' | sort"
)


@mostly_on_one
def test_the_units_are_right_and_the_daemon_is_not_exposed(suite: str, lab: Lab) -> None:
    del suite
    ours = lab.guest.run("ls -d /usr/local/lib/systemd/system/*.*").stdout.split()
    units = [path for path in ours if not path.endswith(".d")]
    assert len(units) >= 6
    # The services and slices that our drop-ins are for; verify reads these with them.
    owners = [path.rpartition("/")[2].removesuffix(".d") for path in ours if path.endswith(".d")]
    for unit in [*units, *owners]:
        judged = lab.guest.run(["systemd-analyze", "verify", "--man=no", unit], check=False)
        said = [line for line in judged.stderr.splitlines() if "enforcer" in line or unit in line]
        assert not said, (unit, judged.stderr)
        assert judged.code == 0 or unit in owners, (unit, judged.stderr)
    for path, floor in _FLOORS.items():
        assert int(lab.guest.read(f"{CGROUPS}/{path}/memory.min")) == floor * MIB, path
    security = lab.guest.run("systemd-analyze security --no-pager enforcer.service").stdout
    exposed = re.search(r"exposure level for enforcer\.service: ([0-9.]+)", security)
    assert exposed is not None, security
    assert float(exposed[1]) < _MOST_EXPOSED


@pytest.mark.long
@mostly_on_one
def test_the_cap_is_there_before_the_daemon_has_ever_run_and_then_its_own_wins(
    suite: str, lab: Lab
) -> None:
    del suite
    # What PID 1 has read from its files; it is in force from the next boot on.
    known = "systemctl show --value --property=CPUQuotaPerSecUSec --property=MemorySwapMax"
    own, first = {"1.500000s", str(1024 * MIB)}, {"1.750000s", "0"}
    # As on a host on which it was installed and has not run: nothing was set for good.
    lab.guest.run("systemctl stop enforcer.service", timeout_seconds=180)
    lab.guest.run(f"rm -r /etc/systemd/system.control/{ROOT}.d && systemctl daemon-reload")
    assert set(lab.guest.run(f"{known} {ROOT}").stdout.split()) == first
    lab.guest.run("systemctl start enforcer.service", timeout_seconds=300)
    until(lambda: set(lab.guest.run(f"{known} {ROOT}").stdout.split()) == own)
    lab.guest.run("systemctl daemon-reload")
    assert set(lab.guest.run(f"{known} {ROOT}").stdout.split()) == own


@pytest.mark.long
@mostly_on_one
def test_installing_again_changes_nothing_but_for_what_is_missing(suite: str, lab: Lab) -> None:
    del suite
    before = _listed(lab)
    dry = lab.guest.run(f"{_INSTALL} --dry-run", timeout_seconds=_SECONDS)
    assert "Nothing was changed" in dry.stdout
    assert _listed(lab) == before
    again = lab.guest.run(f"{_INSTALL} --no-start", timeout_seconds=_SECONDS)
    assert ": written" not in again.stdout
    assert _listed(lab) == before
    lab.guest.run(f"echo '# mine' >> {_EDITED}; rm /usr/local/lib/sysusers.d/enforcer.conf")
    mended = lab.guest.run(f"{_INSTALL} --no-start", timeout_seconds=_SECONDS).stdout
    assert f"{_EDITED}: kept: it was changed here" in mended
    assert "/usr/local/lib/sysusers.d/enforcer.conf: written" in mended
    assert lab.guest.read(_EDITED).endswith("# mine\n")
    assert lab.client.status().ticks > 0, "the daemon ran on"


@pytest.mark.long
@mostly_on_one
def test_uninstalled_the_host_is_as_before_and_installed_anew_it_goes_on(
    suite: str, lab: Lab
) -> None:
    del suite
    lease = lab.place(
        Claim(user="ann", profile="Small", cpu_guarantee=Cpus(0), mem_guarantee=Bytes(16 * MIB))
    )
    config = json.loads(lab.guest.read("/etc/docker/daemon.json"))
    assert config["cgroup-parent"] == ADOPTED
    dry = lab.guest.run(f"{_UNINSTALL} --dry-run", timeout_seconds=_SECONDS)
    assert lab.client.status().ticks > 0, dry.stdout
    lab.guest.run("cp -al /opt/enforcer/venv /root/venv")  # it takes minutes to make
    said = lab.guest.run(_UNINSTALL, timeout_seconds=_SECONDS).stdout
    assert "The Enforcer is removed" in said
    gone = "/usr/local/bin/enforcer /opt/enforcer/lib /run/enforcer/enforcer.sock"
    assert lab.guest.run(f"ls -d {gone}", check=False).stdout == ""
    left = lab.guest.run(
        "find /usr/local/lib /etc/systemd -iname '*enforcer*' -o -name 'jupyter*'", check=False
    )
    assert left.stdout == ""
    docker = lab.guest.run("cat /etc/docker/daemon.json", check=False).stdout
    assert not {"cgroup-parent", "live-restore"} & json.loads(docker or "{}").keys()
    # The container lives on, with the limits it had.
    assert lab.docker(f"inspect --format '{{{{.State.Running}}}}' {lease.container_id}") == "true"
    assert lab.number(lease.unit, "memory.max") == lease.mem_limit
    # Nothing of it is configured any more, but the admin's file and the ledger are kept.
    assert lab.guest.run("ls /etc/enforcer/enforcer.toml /var/lib/enforcer/enforcer.db").code == 0
    failed = lab.guest.run("systemctl --failed --no-legend --plain").stdout
    assert "enforcer" not in failed
    again = lab.guest.run(_UNINSTALL, timeout_seconds=_SECONDS).stdout
    assert "not installed here" in again
    lab.guest.run("mkdir -p /opt/enforcer && mv /root/venv /opt/enforcer/venv")
    lab.guest.run(f"{_INSTALL} --restart-docker", timeout_seconds=_SECONDS)
    until(lambda: lab.client.lease(lease.id).state is LeaseState.BOUND, 60)
    assert lab.number(lease.unit, "memory.max") == lease.mem_limit
    # where dockerd runs is looked up every half minute
    until(lambda: not lab.client.status().drift, 60)


def _listed(lab: Lab) -> str:
    return lab.guest.run(_LIST, timeout_seconds=180).stdout
