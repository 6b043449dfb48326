"""Memory, with swap and without: a hog is stopped, a guarantee is kept, receipts say why."""

from __future__ import annotations

import shlex
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pytest

from enforcer.api.types import LeaseReply, ReceiptReply
from enforcer.model import Claim, EndReason, LeaseState
from enforcer.names import WORKLOAD, UnitName, ancestors, cgroup_path, profile_slice
from enforcer.quantities import CORE, MIB, Bytes, Cpus
from tests.machine.lab import CGROUPS, Lab, until
from tests.machine.test_machine import mostly_on_one

CONFIG: Final = (Path(__file__).parent / "enforcer.toml").read_text()
SWAPPING: Final = CONFIG.replace("mem_limit =", 'swap_limit = "128 MiB"\nmem_limit =')
"""Everybody may swap: then a guarantee has to keep its own from being swapped out."""

GUARANTEE: Final = 450 * MIB
WORKING_SET: Final = 400 * MIB
FILE: Final = "/var/tmp/enforcer-big"
FILE_MIB: Final = 1200

_RECEIPT_SECONDS: Final = 180.0
IDLE_PASSES: Final = 4
PRESSURE_SECONDS: Final = 20.0
MOST_SECONDS: Final = 150.0
"""Until each hog has been stopped once: they share what CPU there is."""
MOST_SLOWER: Final = 5.0
"""A pass over the working set; one that has to be swapped in takes hundreds of times as long."""

_KEEP: Final = f"""\
import time
held = bytearray(b"x") * {WORKING_SET}
while True:
    begin = time.monotonic()
    for page in range(0, len(held), 4096):
        held[page] ^= 1
    print(time.monotonic() - begin, flush=True)
    time.sleep(0.5)
"""
_GROW: Final = """\
import time
held = []
while True:
    held.append(b"x" * (16 << 20))
    time.sleep(0.1)
"""
_HOLD: Final = """\
import time
held = b"x" * ({mib} << 20)
time.sleep(1000000)
"""


_SWAP: Final = """\
import signal, time
held = []
def grow(mib):
    held.extend(b"x" * (1 << 20) for _ in range(mib))
def shrink():
    del held[:{oldest}]
signal.signal(signal.SIGUSR1, lambda *_: grow(16))
signal.signal(signal.SIGUSR2, lambda *_: shrink())
grow({mib})
while True:
    time.sleep(1)
"""
"""What it has held for longest is what is swapped out."""


def _python(program: str) -> tuple[str, ...]:
    return ("python3", "-c", program)


def _again_and_again(program: str) -> tuple[str, ...]:
    """Go on after a kill: the shell is too small to be chosen."""
    return ("sh", "-c", f"while :; do {program}; done")


def _claim(user: str, profile: str, mem_guarantee: int = 0, cpu_guarantee: int = 0) -> Claim:
    return Claim(
        user=user,
        profile=profile,
        cpu_guarantee=Cpus(cpu_guarantee),
        mem_guarantee=Bytes(mem_guarantee),
    )


GROWER: Final = _again_and_again(f"python3 -c {shlex.quote(_GROW)}")
HOGS: Final = (
    (_claim("han", "Wide"), GROWER, ""),
    (_claim("hed", "Small"), GROWER, ""),
    (_claim("hui", "Shared"), GROWER, ""),
    (_claim("ria", "Wide"), _again_and_again("cat /big >/dev/null"), f"--volume={FILE}:/big:ro"),
)
"""One in each profile who grows until stopped, and one who fills the page cache."""


@pytest.mark.long
@pytest.mark.parametrize("swap", [True, False], ids=["with swap", "without swap"])
def test_hogs_are_stopped_and_a_guarantee_keeps_its_whole_working_set(
    lab: Lab, *, swap: bool
) -> None:
    if swap:
        lab.configure(SWAPPING)
    else:
        lab.guest.run("swapoff -a")
    lab.guest.run(f"dd if=/dev/zero of={FILE} bs=1M count={FILE_MIB}", timeout_seconds=300)
    keeper = lab.place(_claim("kim", "Wide", GUARANTEE, CORE), _python(_KEEP))
    until(lambda: len(_passes(lab, keeper)) > IDLE_PASSES)
    _check_floors(lab, keeper)
    idle = statistics.median(_passes(lab, keeper)[1:])
    refaults = _refaults(lab, keeper)
    hogs = _start(lab)
    # what the kernel says of the hogs: without their being stopped the rest proves nothing
    stopped = lambda: all(lab.event(hog.unit, "oom_kill") for hog in hogs[:-1])  # noqa: E731 # once
    time.sleep(max(0.0, PRESSURE_SECONDS - until(stopped, MOST_SECONDS)))
    pressed = _passes(lab, keeper)[-20:]
    for hog in hogs[:-1]:
        limit = lab.number(hog.unit, "memory.max")
        assert limit is not None
        assert (lab.number(hog.unit, "memory.peak") or 0) <= limit
    assert lab.event(WORKLOAD, "max", "memory.events.local") > 0, "the workload was never full"
    assert (max(lab.number(hog.unit, "memory.swap.peak") or 0 for hog in hogs) > 0) == swap
    # and of the one with the guarantee
    assert lab.event(keeper.unit, "oom_kill") == 0
    assert (lab.number(keeper.unit, "memory.current") or 0) >= WORKING_SET
    assert lab.number(keeper.unit, "memory.swap.peak") == 0
    assert _refaults(lab, keeper) == refaults
    assert statistics.median(pressed) <= MOST_SLOWER * idle, (idle, pressed)
    assert lab.client.lease(keeper.id).state is LeaseState.BOUND


@pytest.mark.long
def test_a_lowered_swap_limit_kills_nobody_and_is_applied_once_it_fits(lab: Lab) -> None:
    lab.configure(SWAPPING)
    lease = lab.place(_claim("swa", "Small"), _python(_SWAP.format(mib=320, oldest=280)))
    swap: Callable[[], int] = lambda: lab.number(lease.unit, "memory.swap.current") or 0  # noqa: E731 # it is read again and again
    until(lambda: swap() > 64 * MIB, 120)
    lab.configure(SWAPPING.replace("128 MiB", "32 MiB"))
    ticks = lab.client.status().ticks
    until(lambda: lab.client.status().ticks > ticks + 2)
    said = " ".join(lab.client.explain("swa").sentences)
    assert "the swap limit of 32 MiB waits" in said, said
    # it is at its memory limit: without more swap, the next page would be its end
    before = swap()
    lab.docker(f"kill --signal=USR1 {lease.container_id}")
    until(lambda: swap() > before + 8 * MIB, 60)
    assert lab.number(lease.unit, "memory.swap.max") == 128 * MIB
    lab.docker(f"kill --signal=USR2 {lease.container_id}")
    until(lambda: lab.number(lease.unit, "memory.swap.max") == 32 * MIB, 60)
    assert swap() <= 32 * MIB
    assert lab.event(lease.unit, "oom_kill") == 0
    assert lab.client.lease(lease.id).state is LeaseState.BOUND


@pytest.mark.long
@mostly_on_one
def test_receipts_tell_who_was_over_their_own_limit_from_who_was_a_victim(lab: Lab) -> None:
    """Shared has 512 MiB for everybody in it: whoever fills that may have another killed."""
    alone = lab.place(_claim("own", "Small"), _python(_GROW))
    kept = lab.place(_claim("kit", "Shared", 200 * MIB), _python(_HOLD.format(mib=180)))
    lab.place(_claim("hog", "Shared"), _python(_GROW))
    own, hog = _receipt(lab, "own"), _receipt(lab, "hog")
    assert own.reason is EndReason.OOM_LIMIT, own
    assert (own.oom_kills, own.oom_kills_as_victim) == (1, 0)
    assert own.memory_peak <= alone.mem_limit
    before = lab.client.history(alone.id)
    assert before.ended
    assert sum(one.oom_own for one in before.samples) == 1, before
    assert hog.reason is EndReason.OOM_VICTIM, hog
    assert (hog.oom_kills, hog.oom_kills_as_victim) == (0, 1)
    assert lab.event(kept.unit, "oom_kill") == 0
    assert lab.client.lease(kept.id).state is LeaseState.BOUND
    assert lab.event(profile_slice("Shared"), "oom", "memory.events.local") >= 1
    # without a promise the larger one dies for the smaller one's growth
    lab.docker(f"rm --force {kept.container_id}")
    large = lab.place(_claim("lea", "Shared"), _python(_HOLD.format(mib=300)))
    until(lambda: (lab.number(large.unit, "memory.current") or 0) > 300 * MIB)
    small = lab.place(_claim("sam", "Shared"), _python(_HOLD.format(mib=230)))
    lea = _receipt(lab, "lea")
    assert lea.reason is EndReason.OOM_VICTIM, lea
    assert lab.event(small.unit, "oom_kill") == 0


def _start(lab: Lab) -> list[LeaseReply]:
    """Start all hogs at the same time."""
    leases = [lab.client.claim(claim) for claim, _, _ in HOGS]
    with ThreadPoolExecutor() as pool:
        list(
            pool.map(
                lambda lease, hog: lab.run(lease, hog[1], hog[2]),
                leases,
                HOGS,
            )
        )
    return leases


def _receipt(lab: Lab, user: str) -> ReceiptReply:
    """Wait for a user's receipt: their container ends by itself."""
    deadline = time.monotonic() + _RECEIPT_SECONDS
    while not (found := lab.client.receipts(user)):
        assert time.monotonic() < deadline, _what_there_is(lab)
        time.sleep(0.1)
    return found[0]


def _what_there_is(lab: Lab) -> str:
    """Tell what the kernel, Docker and the daemon say, when a receipt did not come."""
    words = "journalctl --no-pager -k --grep='oom-kill|Killed process'; docker ps -a"
    kernel = lab.guest.run(words, check=False).stdout
    return f"no receipt\n{kernel}\n{lab.client.leases()}\n{lab.journal()}"


def _passes(lab: Lab, keeper: LeaseReply) -> list[float]:
    """Return how long each pass over the working set took."""
    return [float(line) for line in lab.docker(f"logs {keeper.container_id}").split()]


def _refaults(lab: Lab, keeper: LeaseReply) -> int:
    """Return how many of its anonymous pages had to be swapped in again."""
    return lab.event(keeper.unit, "workingset_refault_anon", "memory.stat")


def _check_floors(lab: Lab, keeper: LeaseReply) -> None:
    """The guarantee is on the leaf and on every level above, and in the killer's eyes."""
    above = ancestors(UnitName(keeper.unit))
    floors = [lab.number(unit, "memory.min") or 0 for unit in (keeper.unit, *above)]
    assert floors[0] == GUARANTEE
    assert floors == sorted(floors), floors
    limits = [limit for unit in above if (limit := lab.number(unit, "memory.max")) is not None]
    score = -(1000 * GUARANTEE // min(limits))
    path = f"{CGROUPS}/{cgroup_path(UnitName(keeper.unit))}/docker-{keeper.container_id}.scope"
    words = (
        f"for pid in $(cat {shlex.quote(path)}/cgroup.procs); do cat /proc/$pid/oom_score_adj; done"
    )
    # while it is small it is spared more, as a server is
    until(lambda: set(lab.guest.run(words).stdout.split()) == {str(score)})
