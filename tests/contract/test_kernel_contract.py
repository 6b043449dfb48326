"""The fakes, held to what the real kernel and PID 1 do; tests/machine/test_kernel.py has those."""

from __future__ import annotations

import pytest

from enforcer.adapters.fakes import FakeWorld, Scope
from enforcer.model import ContainerLimits
from enforcer.names import UnitName
from tests.contract.kernel_contract import CHECKS, Check


class MemoryWorld(FakeWorld):
    """The fakes, with the hands that the contract wants."""

    def write(self, unit: UnitName, field: str, value: int | None) -> None:
        self.kernel.write(unit, field, value)

    def write_scope(self, container_id: str, limits: ContainerLimits) -> None:
        self.kernel.write_scope(container_id, limits)

    async def run(self, unit: UnitName, container_id: str) -> None:
        self.cgroups.begin(Scope(container_id=container_id, slice=unit, limits=ContainerLimits()))

    async def end(self, container_id: str) -> None:
        self.cgroups.end(container_id)


@pytest.mark.asyncio
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: str(check.__name__))
async def test_the_fakes_keep_the_contract(check: Check) -> None:
    await check(MemoryWorld())
