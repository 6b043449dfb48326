"""The founding problem: whatever goes on in containers, the admin gets onto the machine."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from enforcer.api.types import LeaseReply
from enforcer.model import Claim
from enforcer.names import WORKLOAD
from enforcer.quantities import Bytes, Cpus
from tests.machine.lab import Lab, until
from tests.machine.test_memory import GROWER, SWAPPING

FEW_TASKS: Final = SWAPPING.replace(
    "[resource_profiles.Shared]\n", "[resource_profiles.Shared]\ntasks_limit = 400\n"
)
LOGINS: Final = 15
"""One alone may take twice as long as another."""
MOST_SLOWER: Final = 1.5
SETTLE_SECONDS: Final = 10.0
_log = logging.getLogger(__name__)

_SPIN: Final = "for _ in 1 2 3 4 5 6 7 8; do while :; do :; done & done; wait"
_BOMB: Final = "bomb() { bomb | bomb & }; while :; do bomb; sleep 1; done"
_FILL: Final = "while :; do dd if=/dev/zero of=/tmp/full bs=1M; done"
HOGS: Final[Mapping[str, tuple[str, Sequence[str], str]]] = {
    "cpu": ("Wide", ("sh", "-c", _SPIN), ""),
    "grower": ("Wide", GROWER, ""),
    "swapper": ("Small", GROWER, ""),
    "bomb": ("Shared", ("sh", "-c", _BOMB), ""),
    "full": ("Shared", ("sh", "-c", _FILL), "--tmpfs=/tmp:size=200m"),
}
"""User → profile, what they run, and options of Docker's."""


@pytest.mark.long
def test_a_login_takes_hardly_longer_while_containers_do_their_worst(lab: Lab) -> None:
    lab.configure(FEW_TASKS)
    idle = _logins(lab)
    leases = _let_loose(lab)
    until(lambda: lab.event(leases["bomb"].unit, "max", "pids.events") > 0, 120)
    until(lambda: lab.event(leases["swapper"].unit, "max") > 0, 120)
    time.sleep(SETTLE_SECONDS)
    before = lab.event(WORKLOAD, "nr_throttled", "cpu.stat")
    busy = _logins(lab)
    _log.info("idle %.2f s (%s), busy %.2f s (%s)", _median(idle), idle, _median(busy), busy)
    assert lab.event(WORKLOAD, "nr_throttled", "cpu.stat") > before, "nobody was held back"
    assert _median(busy) <= MOST_SLOWER * _median(idle), (idle, busy)


def _let_loose(lab: Lab) -> dict[str, LeaseReply]:
    leases = {
        user: lab.client.claim(
            Claim(user=user, profile=profile, cpu_guarantee=Cpus(0), mem_guarantee=Bytes(0))
        )
        for user, (profile, _, _) in HOGS.items()
    }
    with ThreadPoolExecutor() as pool:
        started = [
            pool.submit(lab.run, leases[user], program, options)
            for user, (_, program, options) in HOGS.items()
        ]
        for one in started:
            one.result()
    return leases


def _logins(lab: Lab) -> list[float]:
    return [round(lab.guest.log_in_afresh(), 3) for _ in range(LOGINS)]


def _median(seconds: list[float]) -> float:
    return statistics.median(seconds)
