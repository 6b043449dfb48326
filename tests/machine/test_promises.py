"""Promises beside limits and guarantees, each kept on the kernel's own files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import pytest

from enforcer import machine
from enforcer.api.types import LeaseReply, ReceiptReply
from enforcer.errors import EnforcerError
from enforcer.model import Claim, EndReason, Hold, LeaseState
from enforcer.names import ENGINE, UnitName, cgroup_path, profile_slice, user_slice
from enforcer.quantities import MIB, Bytes, Cpus
from tests.machine.lab import CGROUPS, CHECKOUT, SOCKET, Lab, until
from tests.machine.test_boot import limits
from tests.machine.test_drift import repairs, report

CONFIG: Final = (CHECKOUT / "tests/machine/enforcer.toml").read_text()
LIMIT: Final = 128 * MIB
HELD: Final = 200 * MIB
"""What a process holds that has outgrown it."""
RAISED: Final = 512 * MIB
SHARED: Final = profile_slice("Shared")
WAITS_FOR: Final = 300 * MIB
"""Profile Shared has 512 MiB: one may have this guaranteed, and no second one."""
IO_WEIGHT: Final = 40
"""Up to 100 systemd gives BFQ the same number."""
WATCH_SECONDS: Final = 5.0
AGREES: Final = 0.25
"""How far a share of one tick may be from that of some seconds around it."""
START_SECONDS: Final = 180.0

TASKS: Final = 60
TASKS_TOTAL: Final = 100
THROTTLE: Final = 96 * MIB
_FORK: Final = """\
import os, time
while True:
    try:
        os.fork() or time.sleep(1000000)
    except OSError:
        time.sleep(0.1)
"""
_GROW: Final = """\
held = []
while True:
    held.append(b"x" * (1 << 20))
"""

_OUTGROW: Final = """\
pid=$(systemctl show --property=MainPID --value enforcer.service)
trap 'kill -CONT "$pid"' EXIT
kill -STOP "$pid"
systemctl set-property --runtime {unit} MemoryMax={raised}
echo {raised} > {scope}/memory.max
sh -c 'echo $$ > "$1"; exec python3 -c "$2"' hold {scope}/cgroup.procs '{program}' \
    >/dev/null 2>&1 </dev/null &
echo $! > /run/spinning
for _ in $(seq 50); do
    [ "$(cat {leaf}/memory.current)" -gt {enough} ] && exit 0
    sleep 0.2
done
exit 1
"""
"""It grows before the daemon can put the limit back, and well within the watchdog's time."""
_HOLD: Final = f'import time; held = b"x" * {HELD}; time.sleep(1000000)'


def test_a_limit_somebody_raised_and_outgrew_is_reported_and_put_back_without_a_kill(
    lab: Lab,
) -> None:
    lease = lab.place(_claim("ann", "Wide", limit=LIMIT, guarantee=32 * MIB))
    leaf = f"{CGROUPS}/{cgroup_path(UnitName(lease.unit))}"
    scope = f"{leaf}/docker-{lease.container_id}.scope"
    assert lab.number(lease.unit, "memory.max") == LIMIT
    outgrow = _OUTGROW.format(
        unit=lease.unit,
        leaf=leaf,
        scope=scope,
        program=_HOLD,
        raised=RAISED,
        enough=LIMIT + 32 * MIB,
    )
    lab.guest.run(outgrow)
    until(lambda: report(lab, "memory-raised") is not None)
    told = report(lab, "memory-raised")
    assert told is not None
    assert told.subject == lease.unit
    assert "128 MiB, was raised to 512 MiB" in told.message
    assert told.command.endswith(f"MemoryMax={LIMIT}")
    # It stays so for as long as it takes: nothing is set that would kill.
    ticks = lab.client.status().ticks
    until(lambda: lab.client.status().ticks > ticks + 2)
    assert lab.number(lease.unit, "memory.max") == RAISED
    assert lab.guest.read(f"{scope}/memory.max").strip() == str(RAISED)
    assert report(lab, "memory-raised") is not None
    lab.guest.run("kill -0 $(cat /run/spinning)")
    lab.rest()
    until(lambda: lab.number(lease.unit, "memory.max") == LIMIT)
    until(lambda: lab.guest.read(f"{scope}/memory.max").strip() == str(LIMIT))
    until(lambda: report(lab, "memory-raised") is None)
    assert (lease.unit, "memory_max") in [one[:2] for one in repairs(lab)]
    assert lab.event(lease.unit, "oom_kill") == 0
    assert lab.read(lease.unit, "cgroup.events").startswith("populated 1")
    assert lab.client.lease(lease.id).state is LeaseState.BOUND


def test_a_receipt_says_what_the_kernel_has_counted(lab: Lab) -> None:
    begun = float(lab.guest.run("date +%s.%N").stdout)
    lease = lab.place(_claim("ann", "Small"))
    lab.spin(lease.unit, 2)
    lab.guest.run("sleep 3")
    lab.rest()
    until(lambda: lab.event(lease.unit, "nr_throttled", "cpu.stat") > 0)
    peak = lab.number(lease.unit, "memory.peak") or 0
    used, held_back = (
        lab.event(lease.unit, name, "cpu.stat") / 1e6 for name in ("usage_usec", "throttled_usec")
    )
    lab.docker(f"rm --force {lease.container_id}")
    until(lambda: bool(lab.client.receipts("ann")))
    ended = float(lab.guest.run("date +%s.%N").stdout)
    (receipt,) = lab.client.receipts("ann")
    assert begun <= receipt.started_at < receipt.ended_at <= ended
    assert used <= receipt.cpu_seconds <= used + 1  # what it took to end it
    assert 0 < held_back <= receipt.throttled_seconds <= held_back + 2
    assert peak <= receipt.memory_peak <= peak + 16 * MIB
    assert (receipt.oom_kills, receipt.mem_limit) == (0, 256 * MIB)
    lab.guest.run("systemctl kill --signal=KILL enforcer.service")
    until(lambda: _receipts(lab) == (receipt,), 60)


@pytest.mark.long
def test_explain_names_the_quota_that_throttled_and_how_often(lab: Lab) -> None:
    """Both may use all of the profile's quota, so it is what runs out, and neither's own."""
    leases = [lab.client.claim(_claim(user, "Shared")) for user in ("ann", "bob")]
    spin = ("sh", "-c", "while :; do :; done & while :; do :; done")
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda lease: lab.run(lease, spin), leases))
    for lease in leases:
        assert lab.client.lease(lease.id, 30, LeaseState.PENDING).state is LeaseState.BOUND
    leaf = UnitName(leases[0].unit)
    units = (leaf, user_slice("Shared", "ann"), SHARED)
    lab.guest.run(f"sleep {WATCH_SECONDS}")  # what follows tells of nothing but the spinning
    before = _stats(lab, units)
    lab.guest.run(f"sleep {WATCH_SECONDS}")
    said = lab.guest.run("enforcer explain ann --json").stdout
    after = _stats(lab, units)
    told: dict[str, Any] = json.loads(said)
    levels = {level["unit"]: level for level in told["levels"]}
    assert [unit for unit, level in levels.items() if level["binds"]] == [SHARED], told["summary"]
    assert "profile Shared's CPU quota throttled it" in told["summary"]
    assert levels[SHARED]["throttled"] > 0
    assert after[SHARED]["nr_throttled"] > before[SHARED]["nr_throttled"]
    for unit in units:
        assert abs(levels[unit]["throttled"] - _throttled(before[unit], after[unit])) <= AGREES, (
            unit,
            levels[unit],
            before[unit],
            after[unit],
        )
    quota, period = lab.read(SHARED, "cpu.max").split()
    assert levels[SHARED]["cpu_limit"] == int(quota) / int(period)


@pytest.mark.long
@pytest.mark.parametrize("suite", machine.SUITES)
def test_explain_names_the_limit_of_tasks_and_how_many_it_refused(lab: Lab) -> None:
    """On both kernels: before 6.11 the refused are counted elsewhere."""
    shared = "[resource_profiles.Shared]\n"
    limits_of_tasks = f"tasks_limit = {TASKS}\ntasks_total = {TASKS_TOTAL}\n"
    lab.configure(CONFIG.replace(shared, shared + limits_of_tasks))
    for user, above, most in (("ann", None, TASKS), ("bob", SHARED, TASKS_TOTAL)):
        lease = lab.place(_claim(user, "Shared"), ("python3", "-c", _FORK))
        unit = above or lease.unit
        assert lab.number(unit, "pids.max") == most
        until(lambda: lab.number(unit, "pids.current") == most, 120)  # noqa: B023 # it is called here
        before = _refused(lab, lease, unit)
        lab.guest.run(f"sleep {WATCH_SECONDS}")  # what follows tells of nothing but refusals
        told = lab.client.explain(user)
        refused = _refused(lab, lease, unit) - before
        assert [level.unit for level in told.levels if level.binds] == [unit], told
        level = next(level for level in told.levels if level.binds)
        assert (level.hold, level.tasks, level.tasks_limit) == (Hold.TASKS, most, most)
        assert 0 < level.forks_refused < refused
        said = lab.guest.run(f"enforcer explain {user}").stdout
        assert f"limit of {most} processes and threads is reached" in " ".join(said.split())


@pytest.mark.long
def test_explain_names_the_memory_throttle_how_often_and_how_much(lab: Lab) -> None:
    small = "[resource_profiles.Small]\n"
    lab.configure(CONFIG.replace(small, f'{small}mem_throttle = "{THROTTLE // MIB} MiB"\n'))
    leaf = lab.place(_claim("ann", "Small"), ("python3", "-c", _GROW)).unit
    assert lab.number(leaf, "memory.high") == THROTTLE
    until(lambda: lab.event(leaf, "high", "memory.events.local") > 0, 120)
    lab.guest.run(f"sleep {WATCH_SECONDS}")  # what follows tells of nothing but the crawling
    before = _crawl(lab, leaf)
    lab.guest.run(f"sleep {WATCH_SECONDS}")
    level = lab.client.explain("ann").levels[0]
    after = _crawl(lab, leaf)
    assert (level.hold, level.mem_throttle) == (Hold.MEMORY_THROTTLE, THROTTLE), level
    # who crawls may sit out a pause of two seconds, longer than a tick: then there is no hit in it
    assert level.throttle_hits <= after.hits - before.hits
    until(lambda: lab.client.explain("ann").levels[0].throttle_hits > 0)
    waited = (after.waited_usec - before.waited_usec) / (after.at_usec - before.at_usec)
    assert abs(level.memory_pressure - waited) <= AGREES, (level, waited)
    assert lab.event(leaf, "oom_kill") == 0
    said = lab.guest.run("enforcer explain ann").stdout
    assert f"its own memory throttle of {THROTTLE // MIB} MiB slowed it down" in " ".join(
        said.split()
    )


@pytest.mark.long
def test_who_waits_in_the_queue_is_placed_in_order_as_room_comes_free(lab: Lab) -> None:
    total = 'mem_total = "512 MiB"\n'
    lab.configure(CONFIG.replace(total, f'{total}admission = "queue"\n'))
    first = lab.place(_claim("ann", "Shared", guarantee=WAITS_FOR))
    line = [
        lab.client.claim(_claim(user, "Shared", guarantee=WAITS_FOR))
        for user in ("bob", "cyd", "dan")
    ]
    second, withdrawn, third = line
    assert [one.state for one in line] == [LeaseState.QUEUED] * 3
    assert [_place(lab, one) for one in line] == [1, 2, 3]
    assert all(one.queue is not None and "300 MiB" in one.queue.sentence for one in line)
    assert not any(lab.exists(one.unit) for one in line)
    lab.client.release(withdrawn.id)
    assert [one.id for one in lab.client.leases()] == [first.id, second.id, third.id]
    assert [_place(lab, one) for one in (second, third)] == [1, 2]
    # The end of a container makes room without anybody's asking.
    lab.docker(f"rm --force {first.container_id}")
    assert _placed(lab, second)
    assert _place(lab, third) == 1
    assert not lab.exists(third.unit)
    lab.client.release(second.id)
    assert _placed(lab, third)
    assert not lab.exists(withdrawn.unit)
    assert not lab.exists(user_slice("Shared", "cyd"))
    assert [one.id for one in lab.client.leases()] == [third.id]
    assert [one.reason for one in lab.client.receipts("cyd")] == [EndReason.CANCELLED]


def test_a_request_starts_a_daemon_that_was_stopped(lab: Lab) -> None:
    lease = lab.client.claim(_claim("ann", "Small", guarantee=32 * MIB))
    before, pid = limits(lab, lease.unit), lab.daemon_pid()
    lab.guest.run("systemctl stop enforcer.service", timeout_seconds=START_SECONDS)
    assert _active(lab) == ["inactive", "active"]
    assert limits(lab, lease.unit) == before
    ask = f"curl --silent --max-time {START_SECONDS} --unix-socket {SOCKET} http://e/v1/leases"
    said = lab.guest.run(ask, timeout_seconds=START_SECONDS + 30).stdout
    assert [one["id"] for one in json.loads(said)["leases"]] == [lease.id]
    until(lambda: _active(lab) == ["active", "active"])
    assert lab.daemon_pid() not in {0, pid}
    assert limits(lab, lease.unit) == before
    # It knows what was set before it came, so what somebody else changes is told as that.
    lab.guest.write(f"{CGROUPS}/{cgroup_path(UnitName(lease.unit))}/memory.max", "max")
    until(lambda: limits(lab, lease.unit) == before)
    until(lambda: (lease.unit, "memory_max") in [one[:2] for one in repairs(lab)], 10)


@pytest.mark.long
def test_a_profiles_weight_reaches_the_disks_scheduler(lab: Lab) -> None:
    lab.guest.run("echo bfq > /sys/block/vda/queue/scheduler")
    small = "[resource_profiles.Small]\n"
    lab.configure(CONFIG.replace(small, f"{small}io_weight = {IO_WEIGHT}\n"))
    leaves = [lab.client.claim(_claim("ann", "Small", server=name)).unit for name in ("", "two")]
    above = (user_slice("Small", "ann"), profile_slice("Small"))
    wanted: dict[str, int] = dict.fromkeys(leaves, IO_WEIGHT)
    wanted |= dict.fromkeys(above, len(leaves) * IO_WEIGHT)
    for file in ("io.weight", "io.bfq.weight"):
        until(lambda: _weights(lab, wanted, file) == wanted)  # noqa: B023 # it is called here
    # A write behind the daemon's back is undone, and who was given no weight has the kernel's.
    lab.guest.write(f"{CGROUPS}/{cgroup_path(UnitName(leaves[0]))}/io.weight", "default 500")
    until(lambda: _weights(lab, wanted, "io.weight") == wanted)
    assert (leaves[0], "io_weight") in [one[:2] for one in repairs(lab)]
    assert _weights(lab, [ENGINE], "io.weight") == {ENGINE: 100}


def _receipts(lab: Lab) -> Sequence[ReceiptReply]:
    """Return Ann's, none while no daemon answers."""
    try:
        return lab.client.receipts("ann")
    except EnforcerError:
        return ()


def _claim(
    user: str, profile: str, *, server: str = "", limit: int | None = None, guarantee: int = 0
) -> Claim:
    return Claim(
        user=user,
        server=server,
        profile=profile,
        mem_limit=None if limit is None else Bytes(limit),
        cpu_guarantee=Cpus(0),
        mem_guarantee=Bytes(guarantee),
    )


def _stats(lab: Lab, units: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
    """Return each slice's cpu.stat."""
    return {
        unit: {
            name: int(number)
            for name, number in map(str.split, lab.read(unit, "cpu.stat").splitlines())
        }
        for unit in units
    }


def _throttled(before: Mapping[str, int], after: Mapping[str, int]) -> float:
    """Return the share of the periods in which a quota ran out."""
    periods = after["nr_periods"] - before["nr_periods"]
    return (after["nr_throttled"] - before["nr_throttled"]) / periods if periods else 0.0


def _refused(lab: Lab, lease: LeaseReply, unit: str) -> int:
    """Return how many forks of a lease a slice's own limit refused, by the kernel's counters."""
    leaf = f"{CGROUPS}/{cgroup_path(UnitName(lease.unit))}"
    if lab.guest.run(["test", "-e", f"{leaf}/pids.events.local"], check=False).code:
        scope = f"{leaf}/docker-{lease.container_id}.scope"
        return int(lab.guest.read(f"{scope}/pids.events").split()[1])
    return lab.event(unit, "max", "pids.events" if unit == lease.unit else "pids.events.local")


class _Crawl(NamedTuple):
    """What a memory throttle has done by then, by the kernel's counters."""

    hits: int
    waited_usec: int
    at_usec: int


def _crawl(lab: Lab, unit: str) -> _Crawl:
    hits = lab.event(unit, "high", "memory.events.local")
    some, _ = lab.read(unit, "memory.pressure").splitlines()
    up = lab.guest.read("/proc/uptime").split()[0]
    return _Crawl(hits, int(some.rpartition("=")[2]), round(float(up) * 1e6))


def _place(lab: Lab, lease: LeaseReply) -> int:
    """Return a place in line."""
    queue = lab.client.lease(lease.id).queue
    assert queue is not None, lease
    return queue.place


def _placed(lab: Lab, lease: LeaseReply) -> bool:
    """Wait for its turn; whether its guarantee is the kernel's then."""
    assert lab.client.lease(lease.id, 60, LeaseState.QUEUED).state is LeaseState.PENDING
    return lab.number(lease.unit, "memory.min") == WAITS_FOR


def _active(lab: Lab) -> list[str]:
    """Return the states of the service and of its socket."""
    units = "systemctl is-active enforcer.service enforcer.socket"
    return lab.guest.run(units, check=False).stdout.split()


def _weights(lab: Lab, units: Iterable[str], file: str) -> dict[str, int]:
    """Return each slice's weight; no line for a device follows."""
    return {unit: int(lab.read(unit, file).removeprefix("default ")) for unit in units}
