"""A start through the hub's own code: what is made, and that nothing is left where it fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from enforcer.model import LEASE_LABEL, LeaseState
from enforcer.quantities import GIB
from tests.unit.spawner.lab import a_lab

pytestmark = pytest.mark.asyncio


async def test_a_server_starts_where_the_daemon_put_it_and_stops_without_a_trace(
    tmp_path: Path,
) -> None:
    async with a_lab(tmp_path) as lab:
        user = lab.user()
        await user.spawn(options={"profile": "Large", "cpu_limit": 4, "mem_limit": 8.5})
        container = lab.docker.only()
        host, config = container["HostConfig"], container["Config"]
        (lease,) = lab.api.operations.book.leases
        assert lease.state is LeaseState.BOUND
        assert host["CgroupParent"] == lease.unit
        assert config["Labels"][LEASE_LABEL] == lease.id
        assert host["NanoCpus"] == 4_000_000_000
        assert host["Memory"] == host["MemorySwap"] == 8.5 * GIB
        assert config["Image"] == "lab/base:1"
        assert config["Cmd"] == ["start-notebook.py"]
        await user.stop()
        assert lab.nothing_is_left()
