"""The port Systemd in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from enforcer.adapters.fakes.docker import FakeDocker
from enforcer.adapters.fakes.tree import CgroupTree
from enforcer.adapters.fakes.trouble import Trouble
from enforcer.model import ContainerLimits, Limits
from enforcer.names import ENGINE, UnitName, cgroup_path
from enforcer.ports import SliceSpec

_SERVICES: Final = ("docker.service", "containerd.service")


@dataclass(frozen=True, slots=True)
class Call:
    """One call that was asked for, also when it failed: method, unit, and the fields it set."""

    method: str
    unit: str
    fields: tuple[str, ...] = ()


class FakeSystemd:
    """PID 1. `calls` is everything that would change something; `trouble` makes it fail or hang."""

    def __init__(self, cgroups: CgroupTree, docker: FakeDocker) -> None:
        self._cgroups = cgroups
        self._docker = docker
        self.trouble = Trouble("systemd")
        self.calls: list[Call] = []
        self.services: dict[str, str | None] = {
            name: f"{cgroup_path(ENGINE)}/{name}" for name in _SERVICES
        }
        """Service → its cgroup; None: it does not run."""

    async def create_slice(self, spec: SliceSpec) -> None:
        """Make a slice, and those above it without limits; one that exists gets the limits."""
        self.calls.append(Call("create_slice", spec.unit))
        await self.trouble.pass_through()
        self._cgroups.make(spec.unit, spec.limits, lasting=spec.lasting)

    async def set_limits(
        self, unit: UnitName, limits: Limits, fields: Sequence[str], *, lasting: bool
    ) -> bool:
        """Set the named fields; False if there is no such slice."""
        self.calls.append(Call("set_limits", unit, tuple(fields)))
        await self.trouble.pass_through()
        there = self._cgroups.slices.get(unit)
        if there is None:
            return False
        wanted = {name: getattr(limits, name) for name in fields}
        self._cgroups.write(unit, replace(there.limits, **wanted))
        there.lasting |= lasting
        return True

    async def set_scope_limits(self, scope: str, limits: ContainerLimits) -> bool:
        """Set a container's own limits; False if it does not run."""
        self.calls.append(Call("set_scope_limits", UnitName(scope.rpartition("/")[2])))
        await self.trouble.pass_through()
        for one in self._cgroups.scopes.values():
            if one.path == scope:
                one.limits = replace(limits, cpus=limits.cpus or one.limits.cpus)
                self._cgroups.tell(one.slice, "memory.max")
                return True
        return False

    def is_lasting(self, unit: UnitName) -> bool:
        """Tell whether limits were set on a slice for good."""
        there = self._cgroups.slices.get(unit)
        return there is not None and there.lasting

    async def stop_slice(self, unit: UnitName) -> None:
        """Remove a slice, and kill what runs in it."""
        self.calls.append(Call("stop_slice", unit))
        await self.trouble.pass_through()
        if unit in self._cgroups.slices:
            for scope in self._cgroups.remove(unit):
                self._docker.ended(scope.container_id)

    async def service_cgroup(self, service: str) -> str | None:
        """Return the cgroup of a service; None when it does not run."""
        await self.trouble.pass_through()
        return self.services.get(service)
