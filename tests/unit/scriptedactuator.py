"""An actuator process with no PID 1 behind it: slices are directories below the first argument.

What a unit is called says how the call goes: hang, crash, nonsense, flood, refuse, lie, silent.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from enforcer.adapters.actuatorloop import CallError, serve
from enforcer.adapters.wire import EXISTS, NO_SUCH_UNIT, REFUSED
from enforcer.names import UnitName, cgroup_path

FILES = {
    "CPUWeight": "cpu.weight",
    "MemoryMin": "memory.min",
    "MemoryHigh": "memory.high",
    "MemoryMax": "memory.max",
    "MemorySwapMax": "memory.swap.max",
    "TasksMax": "pids.max",
}
INFINITY = 2**64 - 1


class Directories:
    """The part of PID 1, on directories."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def start_transient(self, unit: str, properties: Mapping[str, object]) -> None:
        self._behave(unit)
        if self._directory(unit).is_dir() or "fragment" in unit:
            raise CallError(EXISTS, f"{unit} already exists")
        self._directory(unit).mkdir(parents=True)
        self._write(unit, properties)

    def set_properties(self, unit: str, properties: Mapping[str, object], *, runtime: bool) -> None:
        self._behave(unit)
        if "unknown" in unit:
            raise CallError(NO_SUCH_UNIT, f"{unit} is not loaded")
        with (self._root / "log").open("a") as log:
            log.write(f"{unit} {'runtime' if runtime else 'lasting'}\n")
        if self._directory(unit).is_dir():
            self._write(unit, properties)

    def start(self, unit: str) -> None:
        self._directory(unit).mkdir(parents=True, exist_ok=True)
        (self._root / "started").write_text(unit)

    def stop(self, unit: str) -> None:
        self._behave(unit)
        directory = self._directory(unit)
        if not directory.is_dir():
            raise CallError(NO_SUCH_UNIT, f"{unit} is not loaded")
        for file in directory.iterdir():
            file.unlink()
        directory.rmdir()

    def revert(self, unit: str) -> None:
        (self._root / "control" / f"{unit}.d").rmdir()

    def control_group(self, service: str) -> str | None:
        return f"/system.slice/{service}" if service == "docker.service" else None

    def _directory(self, unit: str) -> Path:
        return self._root / cgroup_path(UnitName(unit))

    def _write(self, unit: str, properties: Mapping[str, object]) -> None:
        if "lie" in unit:
            return
        for name, value in properties.items():
            if name in FILES:
                text = "max" if value == INFINITY else str(value)
                (self._directory(unit) / FILES[name]).write_text(f"{text}\n")

    def _behave(self, unit: str) -> None:
        if "hang" in unit:
            time.sleep(60)
        elif "slow" in unit:
            time.sleep(0.2)
        elif "crash" in unit:
            os._exit(1)
        elif "nonsense" in unit:
            os.write(1, b"Traceback (most recent call last):\n")
        elif "refuse" in unit:
            raise CallError(REFUSED, "Invalid argument")


if __name__ == "__main__":
    if sys.argv[2:] == ["stillborn"]:
        sys.exit(1)
    serve(sys.stdin.buffer, sys.stdout.buffer, Directories(Path(sys.argv[1])))
