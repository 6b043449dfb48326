"""A hundred idle leases: one sampling pass, the daemon's CPU and its memory.

Each lease has one sleeping process in its leaf, put there by hand: a hundred containers would take
long to start and show the daemon no more slices.
"""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from enforcer.adapters.cgroupfiles import COUNTERS
from enforcer.adapters.cgroupfs import CgroupFs
from enforcer.adapters.cgroupreader import VERIFY_EVERY
from enforcer.names import UnitName, cgroup_path
from tests.bench.inside.common import (
    CGROUPS,
    Row,
    Socket,
    cpu_of,
    fill,
    report,
    resident,
    service_pids,
    ticks,
)

_LEASES = 100
_DESCRIPTORS = 65536
_PASSES = VERIFY_EVERY
_SETTLE_SECONDS = 60.0
_WATCHED_SECONDS = 120.0


def main() -> None:
    """Fill, settle, watch the daemon, then measure the passes in this process."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, _DESCRIPTORS))
    api = Socket()
    sleepers = [_sleep_in(lease["unit"]) for lease in fill(api, _LEASES)]
    time.sleep(_SETTLE_SECONDS)
    try:
        watched = _watch(api)
        report([*_passes(watched[0]), *watched[1]])
    finally:
        for sleeper in sleepers:
            sleeper.kill()


def _sleep_in(unit: str) -> subprocess.Popen[bytes]:
    sleeper = subprocess.Popen(["/bin/sleep", "1000000"])
    (CGROUPS / cgroup_path(UnitName(unit)) / "cgroup.procs").write_text(str(sleeper.pid))
    return sleeper


def _watch(api: Socket) -> tuple[float, list[Row]]:
    """Return the CPU seconds of a tick, and the rows of memory."""
    pids = service_pids("enforcer.service")
    made, used = ticks(api), cpu_of(pids)
    time.sleep(_WATCHED_SECONDS)
    seconds, made = cpu_of(pids) - used, ticks(api) - made
    memory = sum(resident(pid) for pid in pids)
    share = 100 * seconds / _WATCHED_SECONDS
    return seconds / made, [
        Row(what="daemon and actuator, 100 idle leases", value=memory, unit="MB", bound=110.0),
        Row(
            what="CPU of daemon and actuator, 100 idle leases",
            value=share,
            unit="% of a core",
            note=f"{made:.0f} ticks in {_WATCHED_SECONDS:.0f} s",
        ),
    ]


def _passes(tick_seconds: float) -> list[Row]:
    kernel = CgroupFs()
    names = list(kernel.slices())
    descriptors = _descriptors(kernel)

    def bare() -> None:
        for fd in descriptors:
            os.pread(fd, 512, 0)

    def each() -> None:
        for unit in names:
            kernel.slice(unit, afresh=False)

    base = _cost(bare)
    sampling = _cost(kernel.slices)
    read = _cost(each)
    whole = _cost(lambda: (kernel.slices(), kernel.host(), kernel.scopes()))
    rows = {
        "sampling pass of 100 leaves and what is above them": sampling,
        "the same, every slice read by itself, as if none rested": read,
        "sampling pass with the host's counters": whole,
        "one tick, everything the daemon does counted in": tick_seconds,
    }
    note = f"{len(names)} slices, {len(descriptors)} files"
    return [
        Row(what=what, value=cost * 1e3, base=base * 1e3, unit="ms CPU", most=3.0, note=note)
        for what, cost in rows.items()
    ]


def _descriptors(kernel: CgroupFs) -> list[int]:
    found = []
    for unit in kernel.slices():
        for name in COUNTERS:
            path = Path(CGROUPS, cgroup_path(unit), name)
            if path.exists():
                found.append(os.open(path, os.O_RDONLY))
    return found


def _cost(once: Callable[[], object]) -> float:
    """Return the CPU seconds of one call. In so many, every slice is verified once."""
    begin = time.process_time()
    for _ in range(_PASSES):
        once()
    return (time.process_time() - begin) / _PASSES


if __name__ == "__main__":
    main()
