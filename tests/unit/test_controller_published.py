"""What the last tick's picture tells of shares of time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from enforcer.api.overview import machine_reply
from enforcer.explain import explain
from enforcer.model import HostUsage, Usage
from enforcer.quantities import CORE
from tests.unit.controllerlab import LEAF, Lab, placed

pytestmark = pytest.mark.asyncio


async def test_a_tick_that_an_event_brings_about_tells_of_no_mere_moment() -> None:
    lab, usage = Lab(), Usage(cpu_usec=CORE, tasks=1)
    async with lab.running() as controller:
        await placed(lab, controller)
        for seconds in (2, 2, 2, 0.05):
            lab.world.clock.advance(seconds)
            usage = replace(
                usage,
                cpu_usec=usage.cpu_usec + int(seconds * CORE),
                periods=usage.periods + int(10 * seconds),
                periods_throttled=usage.periods_throttled + int(10 * seconds),
            )
            lab.world.kernel.set_usage(LEAF, usage)
            # counted by the timer: what it counts in a moment may be all of a CPU, or nothing
            busy = lab.world.kernel.host_usage.cpu_usec + int(seconds // 1 * CORE)
            lab.world.kernel.host_usage = HostUsage(cpu_usec=busy)
            await controller.tick()
        published, rights = controller.published(), await controller.rights("ann")
        assert explain(published, rights, "ann", "").levels[0].throttled == 1
        assert machine_reply(published).used.cpu == pytest.approx(1, rel=0.05)
