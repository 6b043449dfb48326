"""A world in memory, for tests: the same ports, without a kernel, systemd, Docker or a disk."""

from __future__ import annotations

from enforcer.adapters.fakes.clock import FakeClock
from enforcer.adapters.fakes.docker import FakeDocker
from enforcer.adapters.fakes.host import FakeHost
from enforcer.adapters.fakes.kernel import FakeKernel
from enforcer.adapters.fakes.ledger import MemoryLedger
from enforcer.adapters.fakes.systemd import Call, FakeSystemd
from enforcer.adapters.fakes.tree import CgroupTree, Scope, Slice, Tree
from enforcer.adapters.fakes.trouble import Trouble
from enforcer.adapters.fakes.world import FakeWorld

__all__ = [
    "Call",
    "CgroupTree",
    "FakeClock",
    "FakeDocker",
    "FakeHost",
    "FakeKernel",
    "FakeSystemd",
    "FakeWorld",
    "MemoryLedger",
    "Scope",
    "Slice",
    "Tree",
    "Trouble",
]
