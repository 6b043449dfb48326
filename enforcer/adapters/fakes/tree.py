"""The cgroup tree that the fakes share: slices, the containers' scopes, and what changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from enforcer.model import ContainerLimits, Limits, Usage
from enforcer.names import ROOT, UnitName, ancestors, cgroup_path
from enforcer.ports import Change
from enforcer.quantities import PAGE, Bytes

Tree = Mapping[str, "Limits | Usage | Tree"]
"""A tree as a nested literal: ``*.slice`` is a slice in this one, ``limits`` and ``usage`` are this
one's own: ``{"jupyter.slice": {"limits": Limits(...), "jupyter-engine.slice": {}}}``."""

FILES: Final = {
    "cpu_quota": "cpu.max",
    "cpu_period_usec": "cpu.max",
    "cpu_weight": "cpu.weight",
    "memory_min": "memory.min",
    "memory_high": "memory.high",
    "memory_max": "memory.max",
    "swap_max": "memory.swap.max",
    "tasks_max": "pids.max",
    "io_weight": "io.weight",
    "cpus": "cpuset.cpus",
}
"""Field of Limits → the kernel's file."""


@dataclass(slots=True)
class Slice:
    """One slice."""

    limits: Limits
    usage: Usage = field(default_factory=Usage)
    lasting: bool = False


@dataclass(slots=True)
class Scope:
    """One container's scope, in a slice of any name."""

    container_id: str
    slice: UnitName
    limits: ContainerLimits
    usage: Usage = field(default_factory=Usage)
    oom_score_adj: int = 0
    processes: int = 1

    @property
    def path(self) -> str:
        """Its cgroup below the mount point."""
        return f"{cgroup_path(self.slice)}/docker-{self.container_id}.scope"


class CgroupTree:
    """Slices by unit, scopes by container id; every change is noted as the kernel would tell it."""

    def __init__(self, tree: Tree, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._pending: dict[tuple[UnitName, str], float] = {}
        self._told = asyncio.Event()
        self.slices: dict[UnitName, Slice] = {}
        self.scopes: dict[str, Scope] = {}
        for unit, one in _declared(tree):
            self.make(unit, one.limits)
            self.slices[unit].usage = one.usage
        self._pending.clear()

    def make(self, unit: UnitName, limits: Limits, *, lasting: bool = False) -> None:
        """Make a slice, and those above it without limits where they are missing."""
        for one in (*reversed(ancestors(unit)), unit):
            if one not in self.slices:
                self.slices[one] = Slice(Limits())
                self.tell(one, "")
        self.write(unit, limits)
        self.slices[unit].lasting |= lasting

    def write(self, unit: UnitName, limits: Limits) -> None:
        """Give a slice limits, in whole pages as the kernel does, and tell of those that differ."""
        one = self.slices[unit]
        before, one.limits = one.limits, _in_pages(limits)
        for name in one.limits.changed_from(before):
            self.tell(unit, FILES[name])

    def remove(self, unit: UnitName) -> list[Scope]:
        """Remove a slice with all below it; return the scopes that were killed with it."""
        killed = list(self.scopes_below(unit))
        for scope in killed:
            self.end(scope.container_id)
        for one in [one for one in self.slices if unit in (one, *ancestors(one))]:
            del self.slices[one]
        self.tell(unit, "")
        return killed

    def begin(self, scope: Scope) -> None:
        """Start a scope; its slice is made without limits if it is missing, as systemd does."""
        if scope.slice not in self.slices:
            self.make(scope.slice, Limits())
        self.scopes[scope.container_id] = scope
        self.tell(scope.slice, "")
        self.tell(scope.slice, "cgroup.events")

    def end(self, container_id: str) -> None:
        """End a scope; the counters of the slices above stay."""
        scope = self.scopes.pop(container_id)
        self.tell(scope.slice, "")
        self.tell(scope.slice, "cgroup.events")

    def populated(self, unit: UnitName) -> bool:
        """Whether anything runs in a slice or below it."""
        return any(True for _ in self.scopes_below(unit))

    def scopes_below(self, unit: UnitName) -> Iterator[Scope]:
        """Yield the scopes in a slice and in those below it."""
        for scope in self.scopes.values():
            if unit in (scope.slice, *ancestors(scope.slice)):
                yield scope

    def count_kill(self, scope: Scope, at: UnitName | None, *, own: bool) -> None:
        """Count one OOM kill in a scope as the kernel does (cgroup-v2.rst, memory.events).

        at: the slice whose limit was hit, None for the scope's own (`own`) or the whole machine.
        """
        victims = (scope.slice, *ancestors(scope.slice))
        hit = victims if own else ()
        if at is not None:
            hit = (at, *ancestors(at))
        for unit in victims:
            one = self.slices[unit]
            one.usage = replace(
                one.usage,
                oom_kills=one.usage.oom_kills + 1,
                oom_events=one.usage.oom_events + (unit in hit),
                oom_local=one.usage.oom_local + (unit == at),
            )
            self.tell(unit, "memory.events")
        scope.usage = replace(scope.usage, oom_kills=scope.usage.oom_kills + 1)

    def tell(self, unit: UnitName, file: str) -> None:
        """Note a change below jupyter.slice for whoever follows."""
        if unit == ROOT or ROOT in ancestors(unit):
            self._pending.setdefault((unit, file), self._monotonic())
            self._told.set()

    def lose_events(self) -> None:
        """Drop what was not taken yet, as the kernel does when its queue is full, and say so."""
        self._pending.clear()
        self.tell(ROOT, "")

    async def take_changes(self) -> list[Change]:
        """Wait until something changed; return it."""
        await self._told.wait()
        self._told.clear()
        taken = [Change(unit=unit, file=file, at=at) for (unit, file), at in self._pending.items()]
        self._pending.clear()
        return taken


def _declared(tree: Tree) -> Iterator[tuple[UnitName, Slice]]:
    """Yield the slices of a literal, those above first.

    Raises:
        ValueError: a slice is not where its name says.
    """
    for name, below in tree.items():
        if isinstance(below, Limits | Usage):
            continue
        limits, usage = below.get("limits", Limits()), below.get("usage", Usage())
        if not isinstance(limits, Limits) or not isinstance(usage, Usage):
            raise TypeError(f"{name}: limits are Limits, usage is Usage")
        yield UnitName(name), Slice(limits, usage)
        inner = {key: one for key, one in below.items() if key.endswith(".slice")}
        for unit, one in _declared(inner):
            if UnitName(name) not in ancestors(unit):
                raise ValueError(f"{unit} does not lie in {name}")
            yield unit, one


def _in_pages(limits: Limits) -> Limits:
    return replace(
        limits,
        memory_min=_pages(limits.memory_min),
        memory_high=None if limits.memory_high is None else _pages(limits.memory_high),
        memory_max=None if limits.memory_max is None else _pages(limits.memory_max),
        swap_max=None if limits.swap_max is None else _pages(limits.swap_max),
    )


def _pages(amount: Bytes) -> Bytes:
    return Bytes(amount // PAGE * PAGE)
