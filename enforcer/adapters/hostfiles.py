"""The whole machine's counters: proc_meminfo(5), PSI, and cpu.stat of the root cgroup."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from enforcer.adapters.cgroupfiles import parse_keyed, parse_pressure
from enforcer.adapters.cgroupreader import slurp, slurp_all
from enforcer.model import HostUsage
from enforcer.quantities import KIB, Bytes

_IDLE: Final = 4
_IOWAIT: Final = 5
"""Words of the line, the label being 0."""
_TICK_USEC: Final = 1_000_000 // os.sysconf("SC_CLK_TCK")
_MEMINFO: Final = ("MemTotal", "MemAvailable", "SwapTotal", "SwapFree")


def read_host(root: Path, proc: Path) -> HostUsage:
    """Read the machine's counters; what the kernel does not tell (no PSI, say) is 0."""
    memory = parse_meminfo(slurp_all(f"{proc}/meminfo"))
    cpu_some, _ = _pressure(proc, "cpu")
    memory_some, memory_full = _pressure(proc, "memory")
    io_some, _ = _pressure(proc, "io")
    stat = slurp(f"{root}/cpu.stat")
    return HostUsage(
        cpu_usec=parse_keyed(stat).get(b"usage_usec", 0) if stat else 0,
        memory_current=Bytes(memory["MemTotal"] - memory["MemAvailable"]),
        swap_current=Bytes(memory["SwapTotal"] - memory["SwapFree"]),
        cpu_pressure_usec=cpu_some,
        memory_pressure_usec=memory_some,
        memory_pressure_full_usec=memory_full,
        io_pressure_usec=io_some,
        idle_usec=parse_idle(slurp(f"{proc}/stat")),
    )


def parse_idle(raw: bytes) -> int | None:
    """Return idle and iowait of all CPUs, in microseconds, by proc_stat(5)'s first line.

    None where there is no such line.
    """
    words = raw.partition(b"\n")[0].split()
    if len(words) <= _IOWAIT or words[0] != b"cpu":
        return None
    return (int(words[_IDLE]) + int(words[_IOWAIT])) * _TICK_USEC


def parse_meminfo(raw: bytes) -> dict[str, int]:
    """Return what is needed of ``Key:   N kB``, in bytes; a line that is not there counts 0."""
    found = dict.fromkeys(_MEMINFO, 0)
    for line in raw.splitlines():
        key, _, rest = line.partition(b":")
        name = key.decode("ascii", "replace")
        if name in found:
            found[name] = int(rest.split()[0]) * KIB
    return found


def _pressure(proc: Path, what: str) -> tuple[int, int]:
    raw = slurp(f"{proc}/pressure/{what}")
    return parse_pressure(raw) if raw else (0, 0)
