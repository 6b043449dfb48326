"""The port Kernel in memory, and the hands of those who meddle with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import replace
from typing import Any

from enforcer.adapters.fakes.tree import CgroupTree
from enforcer.model import Cgroup, ContainerLimits, HostUsage, Limits, Usage
from enforcer.names import ROOT, UnitName, ancestors
from enforcer.ports import Change


class FakeKernel:
    """Shows the shared tree. `host_usage` and `host_weights` are what `host` returns."""

    def __init__(self, cgroups: CgroupTree) -> None:
        self._cgroups = cgroups
        self.host_usage = HostUsage()
        self.host_weights: dict[str, int] = {
            "system.slice": 100,
            "user.slice": 100,
            "init.scope": 100,
        }

    def slices(self) -> Mapping[UnitName, Cgroup]:
        """Return every slice under jupyter.slice, itself included."""
        found = (unit for unit in self._cgroups.slices if unit == ROOT or ROOT in ancestors(unit))
        return {unit: self._read(unit) for unit in found}

    def slice(self, unit: UnitName, *, afresh: bool = True) -> Cgroup | None:  # noqa: ARG002  # the port's
        """Return one slice; None if it is not there."""
        return self._read(unit) if unit in self._cgroups.slices else None

    def limits(self, unit: UnitName, fields: Collection[str] | None = None) -> Limits | None:
        """Return a slice's limits, or those of the named; None if it is not there."""
        if unit not in self._cgroups.slices:
            return None
        limits = self._cgroups.slices[unit].limits
        if fields is None:
            return limits
        named: dict[str, Any] = {name: getattr(limits, name) for name in fields}
        return Limits(**named)

    def scope(self, path: str) -> tuple[ContainerLimits, Usage, int | None] | None:
        """Return a scope's limits, counters and oom_score_adj; None if it is not there."""
        for scope in self._cgroups.scopes.values():
            if scope.path == path:
                return scope.limits, scope.usage, scope.oom_score_adj
        return None

    def scopes(self) -> Mapping[str, str]:
        """Return container id → scope path, wherever it is."""
        return {scope.container_id: scope.path for scope in self._cgroups.scopes.values()}

    def set_oom_score_adj(self, path: str, value: int) -> int:
        """Set it for a scope; return how many processes had another."""
        for scope in self._cgroups.scopes.values():
            if scope.path == path and scope.oom_score_adj != value:
                scope.oom_score_adj = value
                return scope.processes
        return 0

    def host(self) -> tuple[HostUsage, Mapping[str, int]]:
        """Return the machine's counters, and the weights of the other top-level cgroups."""
        return self.host_usage, dict(self.host_weights)

    async def changes(self) -> AsyncIterator[Change]:
        """Yield what changed; one consumer at a time."""
        while True:
            for change in await self._cgroups.take_changes():
                yield change

    def write(self, unit: UnitName, field: str, value: object) -> None:
        """Write one limit behind everybody's back: drift. `field` is one of Limits."""
        before = self._cgroups.slices[unit].limits
        changed: dict[str, object] = {field: value}
        self._cgroups.write(unit, replace(before, **changed))  # type: ignore[arg-type]  # by name

    def write_scope(self, container_id: str, limits: ContainerLimits) -> None:
        """Write a container's limits behind Docker's back."""
        scope = self._cgroups.scopes[container_id]
        scope.limits = limits
        self._cgroups.tell(scope.slice, "memory.max")

    def set_usage(self, unit: UnitName, usage: Usage) -> None:
        """Have a slice's counters show this. Counters tell nobody."""
        self._cgroups.slices[unit].usage = usage

    def set_scope_usage(self, container_id: str, usage: Usage) -> None:
        """Have a scope's counters show this."""
        self._cgroups.scopes[container_id].usage = usage

    def kill(self, container_id: str, at: UnitName | None = None, *, own: bool = False) -> None:
        """Kill one process of a container for want of memory; the container itself lives on.

        at: the slice whose limit was hit. None: the machine's memory is gone, or, if `own`, the
        limit of the container's scope was hit.
        """
        self._cgroups.count_kill(self._cgroups.scopes[container_id], at, own=own)

    def lose_events(self) -> None:
        """Overflow the queue of changes."""
        self._cgroups.lose_events()

    def _read(self, unit: UnitName) -> Cgroup:
        one = self._cgroups.slices[unit]
        return Cgroup(
            unit=unit,
            limits=one.limits,
            usage=one.usage,
            populated=self._cgroups.populated(unit),
        )
