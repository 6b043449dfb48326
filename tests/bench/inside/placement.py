"""A placement, from request to reply, against the bare D-Bus call that makes the same slice.

The bare calls are made while the daemon is stopped, before and after: it would watch their slices.
In the same rhythm as what is held against them, for what has rested takes longer.
Warm: the profile's and the user's slices are there, as for everybody's second server and for every
restart. Cold: the user's slice has to be made too.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pystemd.dbuslib import DBus, apply_signature
from pystemd.systemd1.unit_signatures import KNOWN_UNIT_SIGNATURES, signature_array

from enforcer.adapters.cgroupreader import read_limits
from enforcer.adapters.properties import ACCOUNTING, FIELDS, disagreeing, properties
from enforcer.model import Limits
from enforcer.names import UnitName, cgroup_path, lease_slice, profile_slice, user_slice
from enforcer.quantities import MIB, Bytes, Cpus
from tests.bench.inside.common import CGROUPS, Row, Socket, fill, promised, report, run, small

_ROUNDS = 7
_CALM_SECONDS = 2.5
_SIGNATURES = {
    b"AllowedCPUs": b"ay",
    b"CPUQuotaPeriodUSec": b"t",
    b"CPUWeight": b"t",
    b"IOWeight": b"t",
    b"MemoryMin": b"t",
}
_LIMITS = Limits(
    cpu_quota=Cpus(50_000),
    cpu_weight=12,
    memory_min=Bytes(MIB),
    memory_max=Bytes(8 * MIB),
    swap_max=Bytes(0),
)
_FIELDS = tuple(field for field in FIELDS if field != "cpus")


class Bare:
    """PID 1 on a kept connection, with nothing around it."""

    def __init__(self) -> None:
        KNOWN_UNIT_SIGNATURES.update(_SIGNATURES)
        self._bus = DBus()
        self._bus.open()

    def make(self, unit: UnitName) -> float:
        """Make a slice; the seconds until the kernel has its limits."""
        begin = time.perf_counter()
        wanted = {"Description": "bench", **ACCOUNTING, **properties(_LIMITS, _FIELDS)}
        arguments = apply_signature(b"ss", [unit.encode(), b"fail"]) + signature_array(wanted)
        self._call(b"StartTransientUnit", [*arguments, (ord("a"), b"(sa(sv))"), (-1, None)])
        path = CGROUPS / cgroup_path(unit)
        while not _in_force(path):
            time.sleep(0.001)
        return time.perf_counter() - begin

    def raise_floor(self, unit: UnitName, memory_min: int) -> None:
        """Give a slice another MemoryMin, in bytes, and wait until the kernel has it."""
        wanted = {"MemoryMin": memory_min}
        arguments = apply_signature(b"sb", [unit.encode(), True]) + signature_array(wanted)
        self._call(b"SetUnitProperties", arguments)
        file = CGROUPS / cgroup_path(unit) / "memory.min"
        while int(file.read_text()) != memory_min:
            time.sleep(0.001)

    def stop(self, unit: UnitName) -> None:
        """Stop a slice, and wait until it is gone."""
        self._call(b"StopUnit", apply_signature(b"ss", [unit.encode(), b"replace"]))
        while (CGROUPS / cgroup_path(unit)).is_dir():
            time.sleep(0.01)

    def _call(self, method: bytes, arguments: list[Any]) -> None:
        systemd = b"org.freedesktop.systemd1"
        path = b"/org/freedesktop/systemd1"
        self._bus.call_method(systemd, path, systemd + b".Manager", method, arguments)


def _in_force(path: Path) -> bool:
    return path.is_dir() and not disagreeing(_LIMITS, _FIELDS, read_limits(str(path)))


@dataclass(frozen=True, slots=True)
class Base:
    """The seconds that bare calls took: to make the slice, and to raise four floors besides."""

    slice: list[float] = field(default_factory=list)
    with_floors: list[float] = field(default_factory=list)


def main() -> None:
    """Measure with one lease and with a hundred, bare calls before and after."""
    calm, hot = Base(), Base()
    _bare(calm, hot)
    api = Socket()
    rows: list[tuple[str, list[float], Base, float | None]] = []
    for count in (1, 100):
        fill(api, count)
        time.sleep(2 * _CALM_SECONDS)
        there = f"{count} lease{'s' if count > 1 else ''} there"
        warm = [_place(api, small("warm", f"s{n}")) for n in range(_ROUNDS)]
        rows.append((f"placement, {there}", warm, calm, 4.0))
        sure = [_place(api, promised("warm", f"g{n}")) for n in range(_ROUNDS)]
        rows.append((f"placement with a guarantee, {there}", sure, calm, 4.0))
        cold = [_place(api, small(f"new{count}x{n}")) for n in range(_ROUNDS)]
        rows.append((f"placement of a new user, {there}", cold, calm, None))
    burst = [_place(api, small("warm", f"b{n}"), calm=0.0) for n in range(_ROUNDS)]
    rows.append(("placement, back to back, 100 leases there", burst, hot, 4.0))
    sure = [_place(api, promised("warm", f"c{n}"), calm=0.0) for n in range(_ROUNDS)]
    rows.append(("the same with a guarantee", sure, hot, 4.0))
    _bare(calm, hot)
    found = [
        Row(what=what, value=_ms(times), unit="ms", base=_ms(base.slice), most=most)
        for what, times, base, most in rows
    ]
    flat = Row(
        what="placement with 100 leases against with 1",
        value=found[3].value,
        base=found[0].value,
        unit="ms",
        note="flat: about 1",
    )
    all_five = Row(
        what="placement with a guarantee, 100 leases there, against bare calls for all five slices",
        value=found[4].value,
        base=_ms(calm.with_floors),
        unit="ms",
        note="the slice, and MemoryMin of the four above it",
    )
    report([*found, flat, all_five])


def _ms(times: list[float]) -> float:
    return statistics.median(times) * 1e3


def _place(api: Socket, claim: dict[str, object], calm: float = _CALM_SECONDS) -> float:
    """Time one placement, and end its lease, so that the number of leases stays."""
    seconds, lease = api.timed("POST", "/v1/leases", claim)
    api.ask("DELETE", f"/v1/leases/{lease['id']}")
    time.sleep(calm)
    return seconds


def _bare(calm: Base, hot: Base) -> None:
    """Make bare calls in the rhythm of the placements: with pauses, and back to back."""
    run("systemctl", "stop", "enforcer.socket", "enforcer.service")
    bus = Bare()
    above = (profile_slice("bench"), user_slice("bench", "one"))
    for unit in above:
        bus.make(unit)
    for base, seconds in ((calm, _CALM_SECONDS), (hot, 0.0)):
        for number in range(_ROUNDS):
            leaf = lease_slice("bench", "one", f"s{number}")
            time.sleep(seconds)
            base.slice.append(bus.make(leaf))
            bus.stop(leaf)
            time.sleep(seconds)
            begin = time.perf_counter()
            bus.make(leaf)
            for memory_min in (4 * number + 2, 4 * number + 4):  # other values each time
                for unit in above:
                    bus.raise_floor(unit, memory_min * MIB)
            base.with_floors.append(time.perf_counter() - begin)
            bus.stop(leaf)
    for unit in reversed(above):
        bus.stop(unit)
    run("systemctl", "start", "enforcer.socket", "enforcer.service")


if __name__ == "__main__":
    main()
