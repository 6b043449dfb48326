"""The port Kernel: the cgroup v2 file system and /proc."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from enforcer.adapters.cgroupfiles import (
    COUNTERS,
    LIMIT_FIELDS,
    SCOPE_COUNTERS,
    SCOPE_LIMITS,
    parse_pressure,
)
from enforcer.adapters.cgroupreader import CgroupReader, read_limits, slurp
from enforcer.adapters.cgrouptree import CgroupTree
from enforcer.adapters.hostfiles import read_host
from enforcer.adapters.oomscore import (
    NEVER_SPARED_PART,
    current_oom_score_adj,
    write_oom_score_adj,
)
from enforcer.model import Cgroup, ContainerLimits, HostUsage, Limits, Usage
from enforcer.names import ROOT, UnitName, cgroup_path
from enforcer.ports import Change

_LIMITS: Final = tuple(LIMIT_FIELDS)
_REST: Final = 50
"""Looking through one container's processes takes one part in so many of the time at most: a
fork bomb has another number of them at each look, and would slow down the machine through us."""
_PAUSE_SECONDS: Final = 0.05
"""Between two times that the kernel is listened to: what comes a thousand times a second from
cgroups at their limits is taken in twenty times, and a repair still comes at once."""
_Scope = tuple[ContainerLimits, Usage, int | None]
_OTHERS: Final = 512
"""Descriptors left for everything else: connections, the ledger, Docker."""


class CgroupFs:
    """Reads the kernel. Not thread-safe, except that several instances are independent.

    root: where cgroup v2 is mounted. proc: where proc is.
    """

    def __init__(
        self,
        root: Path = Path("/sys/fs/cgroup"),
        proc: Path = Path("/proc"),
        *,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._root = root
        self._proc = proc
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._readers: dict[str, CgroupReader] = {}
        self._tree = CgroupTree(root, clock, self._is_news)
        self._given: dict[str, int] = {}
        self._oom_scores: dict[str, tuple[Usage, int | None]] = {}
        self._rests_until: dict[str, float] = {}
        self._scopes: dict[str, tuple[Cgroup, _Scope]] = {}
        self._kept = 0
        self._may_keep = max(0, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _OTHERS)
        self._made = 0
        self._readings = 0
        self._wake: asyncio.Event | None = None

    def slices(self) -> Mapping[UnitName, Cgroup]:
        """Read every slice under jupyter.slice, itself included; one that vanishes is left out."""
        self._refresh()
        self._readings += 1
        found: dict[UnitName, Cgroup] = {}
        readers = self._readers
        for unit, path in self._tree.slices.items():  # those above before those below
            reader = readers.get(path) or self._reader(unit, path, COUNTERS, _LIMITS)
            cgroup = reader.read(self._readings, readers.get(path[: -len(unit) - 1]))
            if cgroup is None:
                self._drop(path)
            else:
                found[unit] = cgroup
        return found

    def slice(self, unit: UnitName, *, afresh: bool = True) -> Cgroup | None:
        """Read one slice; afresh: limits and events too, though inotify told of no change there."""
        self._refresh()
        path = cgroup_path(unit)
        reader = self._reader(unit, path, COUNTERS, _LIMITS)
        reader.stale |= afresh
        return self._read(path, reader)

    def limits(self, unit: UnitName, fields: Collection[str] | None = None) -> Limits | None:
        """Read a slice's limits from its files, and nothing else; None: it is not there."""
        path = f"{self._root}/{cgroup_path(unit)}"
        found: dict[str, Any] = read_limits(path, fields)
        return Limits(**found) if os.path.isdir(path) else None  # noqa: PTH112  # strings are cheaper

    def scope(self, path: str) -> _Scope | None:
        """Read a scope's limits, counters, and its oom_score_adj.

        That is what was set last, if every process has what that means for it.
        Of the counters only those of CPU, memory and tasks, and OOM kills: the leaf has the rest.
        They are as of the last `slices`, or newer: what is in a slice that rests is not read.
        """
        reader = self._readers.get(path)
        if reader is None:
            unit = UnitName(path.rpartition("/")[2])
            reader = self._reader(unit, path, SCOPE_COUNTERS, SCOPE_LIMITS)
        verified = reader.verified
        above = self._readers.get(path.rpartition("/")[0])
        if above is not None and above.looked_at != self._readings:  # not by the last `slices`
            above = None
        reading = self._read(path, reader, above)
        if reading is None:
            return None
        score = self._oom_score(path, reading, afresh=reader.verified != verified)
        known = self._scopes.get(path)
        if known is not None and known[0] is reading and known[1][2] == score:
            return known[1]
        limits = ContainerLimits(
            cpu=reading.limits.cpu_quota,
            cpu_period_usec=reading.limits.cpu_period_usec,
            memory=reading.limits.memory_max,
            swap=reading.limits.swap_max,
            tasks=reading.limits.tasks_max,
            memory_high=reading.limits.memory_high,
            cpus=reading.limits.cpus,
        )
        scope = (limits, reading.usage, score)
        self._scopes[path] = (reading, scope)
        return scope

    def scopes(self) -> Mapping[str, str]:
        """Return container id → scope path, for every docker-<id>.scope in a slice, anywhere."""
        self._refresh()
        return dict(self._tree.scopes)

    def set_oom_score_adj(self, path: str, value: int) -> int:
        """Give it to a scope, each process what it means for it; return how many were written.

        Raises:
            UnavailableError: ``kernel.refused``: CAP_SYS_RESOURCE is missing.
        """
        self._oom_scores.pop(path, None)
        known = self._scopes.get(path)
        limit = None if known is None else known[0].limits.memory_max
        begin = self._cpu_clock()
        written, all_have_it = write_oom_score_adj(
            self._root / path, path, self._proc, value, limit
        )
        self._rest(path, begin)
        if known is not None and all_have_it:
            self._oom_scores[path] = (known[0].usage, value)
        if path in self._readers:
            self._given[path] = value
        return written

    def host(self) -> tuple[HostUsage, Mapping[str, int]]:
        """Return the machine's counters, and cpu.weight of the top-level cgroups but ours.

        ``memory_current`` is what is not available to a newcomer (MemTotal − MemAvailable).
        """
        weights: dict[str, int] = {}
        waiting: int | None = None
        for name in os.listdir(self._root):  # noqa: PTH208  # strings are cheaper here
            if (name.endswith(".slice") and name != ROOT) or name == "init.scope":
                raw = slurp(f"{self._root}/{name}/cpu.weight").strip()
                if raw.isdigit():
                    weights[name] = int(raw)
                if pressure := slurp(f"{self._root}/{name}/cpu.pressure"):
                    waiting = (waiting or 0) + parse_pressure(pressure)[0]
        return replace(read_host(self._root, self._proc), waiting_usec=waiting), weights

    async def changes(self) -> AsyncIterator[Change]:
        """Yield what the kernel tells of; one consumer at a time. Never ends by itself."""
        loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        fd = self._tree.fileno()
        pause: asyncio.TimerHandle | None = None

        def listen() -> None:
            if fd is not None:
                loop.add_reader(fd, take_in)

        def take_in() -> None:
            nonlocal pause
            self._refresh()
            if fd is not None:
                loop.remove_reader(fd)
            pause = loop.call_later(_PAUSE_SECONDS, listen)

        listen()
        try:
            self._refresh()
            while True:
                for change in self._tree.take_changes():
                    yield change
                self._wake.clear()
                if not self._tree.has_changes:
                    await self._wake.wait()
        finally:
            if pause is not None:
                pause.cancel()
            if fd is not None:
                loop.remove_reader(fd)
            self._wake = None

    def close(self) -> None:
        """Give all descriptors back."""
        for path in list(self._readers):
            self._drop(path)
        self._tree.close()

    def _oom_score(self, path: str, reading: Cgroup, *, afresh: bool) -> int | None:
        """Look through the processes when their number has changed, and now and then.

        Also when one may have become large: who grows fast is the one that must not be spared.
        None: not known just now.
        """
        looked_at, score = self._oom_scores.get(path, (Usage(), None))
        limit = reading.limits.memory_max
        grown = reading.usage.memory_current - looked_at.memory_current
        may_be_large = limit is not None and grown * NEVER_SPARED_PART * 2 > limit
        others = score is None or looked_at.tasks != reading.usage.tasks
        rests = self._clock() < self._rests_until.get(path, 0.0)
        if afresh or may_be_large or (others and not rests):
            begin = self._cpu_clock()
            score = current_oom_score_adj(
                self._root / path, self._proc, self._given.get(path), limit
            )
            self._rest(path, begin)
            self._oom_scores[path] = (reading.usage, score)
        return score

    def _rest(self, path: str, begin: float) -> None:
        """Look away for a while from processes that took us this long."""
        spent = self._cpu_clock() - begin
        self._rests_until[path] = self._clock() + (_REST - 1) * spent

    def _refresh(self) -> None:
        self._tree.refresh()
        for path in self._tree.gone:
            self._drop(path)
        self._tree.gone.clear()
        for path in self._tree.stale:
            if path in self._readers:
                self._readers[path].stale = True
        for path, names in self._tree.told.items():
            if path in self._readers:
                self._readers[path].told |= names
        self._tree.told.clear()
        self._tree.stale.clear()  # whoever is not read yet will be read whole
        if self._wake is not None and self._tree.has_changes:
            self._wake.set()

    def _is_news(self, path: str, name: str) -> bool:
        reader = self._readers.get(path)
        return reader is None or not reader.knows(name, slurp(f"{self._root}/{path}/{name}"))

    def _read(
        self, path: str, reader: CgroupReader, above: CgroupReader | None = None
    ) -> Cgroup | None:
        """Read one; above: as the reader takes it, read in this very reading."""
        if above is None:
            self._readings += 1
        cgroup = reader.read(self._readings, above)
        if cgroup is None:
            self._drop(path)
        return cgroup

    def _reader(
        self, unit: UnitName, path: str, counters: tuple[str, ...], limits: tuple[str, ...]
    ) -> CgroupReader:
        reader = self._readers.get(path)
        if reader is None:
            self._made += 1
            keep = self._kept + len(counters) + 1 <= self._may_keep
            reader = CgroupReader(
                unit,
                f"{self._root}/{path}",
                counters=counters,
                limits=limits,
                keep=keep,
                phase=self._made,
            )
            self._kept += reader.descriptors
            self._readers[path] = reader
        return reader

    def _drop(self, path: str) -> None:
        reader = self._readers.pop(path, None)
        if reader is not None:
            reader.close()
            self._kept -= reader.descriptors
        self._oom_scores.pop(path, None)
        self._rests_until.pop(path, None)
        self._given.pop(path, None)
        self._scopes.pop(path, None)
