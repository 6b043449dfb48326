"""What the keeper of the leases remembers of those that ended."""

from __future__ import annotations

from dataclasses import replace

import pytest

from enforcer.adapters.fakes import FakeWorld
from enforcer.book import Book, Change
from enforcer.controller.keeper import Keeper
from enforcer.controller.world import World
from enforcer.model import Cgroup, EndReason, LeaseState, Limits, Observed, Usage
from tests.unit.configs import CAPACITY
from tests.unit.lab import a_lease

ENDED = 1200


@pytest.mark.asyncio
async def test_leases_that_end_by_the_thousand_are_forgotten_unless_their_leaf_is_there() -> None:
    world = FakeWorld(capacity=CAPACITY)
    parts = World(
        systemd=world.systemd,
        kernel=world.kernel,
        docker=world.docker,
        host=world.host,
        ledger=world.ledger,
        clock=world.clock,
    )
    keeper = Keeper(parts)
    leases = [a_lease(f"{n}", "ada") for n in range(ENDED)]
    ended = [
        replace(one, state=LeaseState.RELEASED, end_reason=EndReason.CANCELLED) for one in leases
    ]
    await keeper.commit(Book(), map(Change, leases, ended))
    units = [one.unit for one in leases]
    assert len(keeper.kept(units)) == ENDED
    there = Cgroup(unit=units[0], limits=Limits(), usage=Usage(), populated=False)
    await keeper.account(Observed(taken_at=1, at=1, cgroups={units[0]: there}, containers={}))
    kept = {one.unit for one in keeper.kept(units)}
    assert kept == {units[0], *units[ENDED - 999 :]}
    assert {unit for unit in units if keeper.released_at(unit) is not None} == kept
