"""What the decider remembers from one tick to the next."""

from __future__ import annotations

from dataclasses import replace

import pytest

from enforcer.controller.decide import Decider, Given
from tests.unit.scheduler import PERIOD, Load, machine_for, snapshot
from tests.unit.worlds import config, lease

PROMISED = lease("promised", promised=(1, 0))
HOG = lease("hog")


@pytest.mark.parametrize("tick_seconds", [0.2, 0.5, 1.0, 2.0])
def test_a_guarantee_of_cpu_is_kept_whatever_the_ticks_length(tick_seconds: float) -> None:
    two_cpus = config(cores=2, quota=1.75, engine=0.1)
    daemon = replace(two_cpus.daemon, tick_seconds=tick_seconds)
    leases = (PROMISED, HOG)
    given = Given(
        config=replace(two_cpus, daemon=daemon),
        leases=leases,
        kept=(),
        removable=frozenset(),
        totals={},
        known={},
        known_containers={},
    )
    loads = {PROMISED.unit: Load(1), HOG.unit: Load(2)}
    machine, limits = machine_for(two_cpus, leases, loads)
    decider, quotas, used = Decider(), dict(limits), [0.0]
    for tick in range(round(6 / tick_seconds)):
        caps = decider.tick(snapshot(machine, quotas, tick * tick_seconds), given).caps
        quotas = {unit: min(limit, caps.get(unit, limit)) for unit, limit in limits.items()}
        machine.run(quotas, round(tick_seconds / PERIOD))
        used.append(machine.counters[PROMISED.unit].cpu)
    assert quotas[HOG.unit] < limits[HOG.unit]
    assert (used[-1] - used[-2]) / tick_seconds == pytest.approx(1.0, rel=0.02)
