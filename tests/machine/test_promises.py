"""Promises beside limits and guarantees, each kept on the kernel's own files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest

from enforcer.api.types import LeaseReply
from enforcer.model import Claim, EndReason, LeaseState
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
