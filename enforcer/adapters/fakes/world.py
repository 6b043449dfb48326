"""All the fakes around one tree of cgroups."""

from __future__ import annotations

from enforcer.adapters.fakes.clock import FakeClock
from enforcer.adapters.fakes.docker import FakeDocker
from enforcer.adapters.fakes.host import FakeHost
from enforcer.adapters.fakes.kernel import FakeKernel
from enforcer.adapters.fakes.ledger import MemoryLedger
from enforcer.adapters.fakes.systemd import FakeSystemd
from enforcer.adapters.fakes.tree import CgroupTree, Tree
from enforcer.model import Capacity
from enforcer.names import UnitName
from enforcer.ports import Clock, Docker, Host, Kernel, Ledger, Systemd


class FakeWorld:
    """A machine. `tree` declares the slices that are there; by default none is."""

    def __init__(self, tree: Tree | None = None, *, capacity: Capacity | None = None) -> None:
        self.clock = FakeClock()
        self.cgroups = CgroupTree(tree or {}, self.clock.monotonic)
        self.docker = FakeDocker(self.cgroups, self.clock.now)
        self.systemd = FakeSystemd(self.cgroups, self.docker)
        self.kernel = FakeKernel(self.cgroups)
        self.host = FakeHost() if capacity is None else FakeHost(capacity)
        self.ledger = MemoryLedger()

    def oom_kill(self, container_id: str, at: UnitName | None = None, *, own: bool = False) -> None:
        """OOM-kill a container's main process, which ends it; see FakeKernel.kill."""
        self.kernel.kill(container_id, at, own=own)
        self.docker.exit(container_id)

    def reboot(self) -> None:
        """Start the machine anew: no container runs, transient slices and counters are gone."""
        for container_id in list(self.cgroups.scopes):
            self.docker.exit(container_id)
        lasting = {unit: one for unit, one in self.cgroups.slices.items() if one.lasting}
        self.cgroups.slices.clear()
        for unit, one in lasting.items():
            self.cgroups.make(unit, one.limits, lasting=True)


def _ports(world: FakeWorld) -> tuple[Systemd, Kernel, Docker, Host, Ledger, Clock]:
    """Have the type checker prove that each fake implements its port."""
    return world.systemd, world.kernel, world.docker, world.host, world.ledger, world.clock
