"""SIGKILL at any moment: nothing that was promised is lost, and nothing is left lying about."""

from __future__ import annotations

import json
import logging
import secrets
from pathlib import Path
from typing import Any, Final

import pytest

from enforcer.model import Claim, LeaseState
from enforcer.quantities import CORE, MIB, Bytes, Cpus
from tests.machine.lab import CHECKOUT, Lab, until
from tests.machine.test_machine import mostly_on_one

INSIDE: Final = Path(__file__).parent / "inside"
ROUNDS: Final = 10
KILLS: Final = 5
"""In each round. A round takes seconds here, whatever happens in it."""
_log = logging.getLogger(__name__)

_DROP_IN: Final = """\
[Service]
ExecStart=
ExecStart=/opt/enforcer/venv/bin/python -I /opt/enforcer/incubator.py
NotifyAccess=all
WatchdogSec=0
"""


@pytest.mark.long
def test_fifty_kills_in_the_middle_of_twenty_placements_lose_none(lab: Lab) -> None:
    lasting = lab.place(_claim("lasting"))
    text = (CHECKOUT / "tests/machine/enforcer.toml").read_text()
    lab.configure(text.replace("claim_seconds = 300", "claim_seconds = 3000"))
    incubate(lab)
    seed = secrets.randbits(32)
    lab.guest.write("/root/crash.py", (INSIDE / "crash.py").read_text())
    words = ["python3", "/root/crash.py", str(ROUNDS), str(KILLS), str(seed)]
    done = lab.guest.run(words, timeout_seconds=1200)
    told: dict[str, Any] = json.loads(done.stdout)
    restarts = sorted(told.pop("restart_seconds"))
    _log.info("seed %d: %s; restart: median %.2f s", seed, told, restarts[len(restarts) // 2])
    assert not told["wrong"], (seed, told["wrong"])
    assert not told["refused"], (seed, told["refused"])
    assert told["kills"] == ROUNDS * KILLS
    # The moments were in the middle: some were answered, some were not.
    assert told["acknowledged"] > ROUNDS
    assert told["unanswered"] > ROUNDS
    after = lab.client.lease(lasting.id)
    assert (after.state, after.container_id) == (LeaseState.BOUND, lasting.container_id)
    assert lab.read(lasting.unit, "cgroup.events").startswith("populated 1")


@mostly_on_one
def test_systemd_starts_a_killed_daemon_again_in_the_middle_of_a_docker_run(lab: Lab) -> None:
    lease = lab.client.claim(_claim("ann"))
    with lab.guest.start(
        f"docker run --detach --network=none --name mine --cgroup-parent={lease.unit}"
        f" --label=io.jupyter.enforcer.lease={lease.id} enforcer-demo sleep 100000"
    ) as running:
        lab.guest.run("sleep 1; systemctl kill --signal=KILL enforcer.service")
        assert running.wait(60).code == 0
    # Without a daemon the limits hold on: they are the kernel's.
    assert lab.number(lease.unit, "memory.max") == 64 * MIB
    until(lambda: lab.client.lease(lease.id).state is LeaseState.BOUND, 60)
    restarts = lab.guest.run("systemctl show --property=NRestarts --value enforcer.service").stdout
    assert restarts.strip() == "1"


def incubate(lab: Lab) -> None:
    """Run the unit with a program that has each next daemon ready at once."""
    lab.guest.write("/opt/enforcer/incubator.py", (INSIDE / "incubator.py").read_text())
    folder = "/run/systemd/system/enforcer.service.d"
    lab.guest.run(["mkdir", "-p", folder])
    lab.guest.write(f"{folder}/incubator.conf", _DROP_IN)
    restart = "systemctl daemon-reload && systemctl restart enforcer.service"
    lab.guest.run(restart, timeout_seconds=300)


def _claim(user: str) -> Claim:
    return Claim(
        user=user,
        profile="Small",
        cpu_limit=Cpus(CORE // 10),
        mem_limit=Bytes(64 * MIB),
        cpu_guarantee=Cpus(CORE // 100),
        mem_guarantee=Bytes(4 * MIB),
    )
