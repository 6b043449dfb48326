"""The machine's last minutes, from the real API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from enforcer.api.types import HistoryReply
from enforcer.asyncclient import AsyncClient
from enforcer.model import Claim, EndReason, Usage
from enforcer.names import lease_slice
from enforcer.quantities import GIB, Bytes
from spawner.pages import overview
from spawner.pages.watch import Watch, past
from tests.apiserver import ApiUnderTest, serving
from tests.unit.configs import VALID, parse
from tests.unit.test_pages_told import sample


@pytest_asyncio.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiUnderTest]:
    async with serving(parse(VALID), tmp_path) as under_test:
        yield under_test


async def use(
    api: ApiUnderTest,
    user: str,
    cores: float,
    memory: int,
    ticks: int = 1,
    profile: str = "Large",
) -> None:
    """Have a user use so much for some ticks."""
    operations = api.operations
    lease, _ = await operations.claim(Claim(user=user, profile=profile))
    if lease.container_id is None:
        operations.bind(lease.id, f"{user}-1")
    unit = lease_slice(profile, user, "")
    for _ in range(ticks):
        before = operations.usage.get(unit, Usage())
        used = before.cpu_usec + round(cores * 1e6)
        operations.usage[unit] = replace(before, cpu_usec=used, memory_current=Bytes(memory))
        operations.tick()


@pytest.mark.asyncio
async def test_servers_are_added_up_by_user_and_in_all(api: ApiUnderTest) -> None:
    async with AsyncClient(str(api.path), 5) as client:
        watch = Watch(client, 1.0)
        await use(api, "alice", 2.0, 3 * GIB, ticks=3)
        await watch.look()
        last = watch.moments[-1]
        assert last.users["alice"].memory == last.hub.memory == 3 * GIB
        assert last.users["alice"].cpu == last.hub.cpu == pytest.approx(2.0)


@pytest.mark.asyncio
async def test_the_servers_own_history_is_there_after_a_start(api: ApiUnderTest) -> None:
    await use(api, "alice", 1.0, GIB, ticks=5)
    async with AsyncClient(str(api.path), 5) as client:
        watch = Watch(client, 1.0)
        await watch.look()
        document = overview.machine(watch, "alice", 0.0, ["Large"])
        assert document.series.mine_memory == [GIB] * len(document.series.at)
        assert len(document.series.at) >= 4
        assert document.series.machine_cpu[0] is None
        assert document.series.machine_cpu[-1] is not None
        newer = overview.machine(watch, "alice", document.series.at[-2], ["Large"])
        assert newer.series.at == document.series.at[-1:]


def test_of_a_finer_history_only_as_much_is_kept_as_is_looked_at() -> None:
    samples = [sample(at, 1) for at in range(20)]
    history = HistoryReply(lease_id="a", ended=False, tick_seconds=1.0, samples=samples)
    assert [one.at for one in past([("alice", history)], 10.0, 2.0)] == [0, 2, 4, 6, 8]
    both = past([("alice", history), ("bob", history)], 3.0, 1.0)
    assert [one.hub.memory for one in both] == [2 * GIB] * 3


@pytest.mark.asyncio
async def test_nobody_else_has_a_name_in_the_machine_view(api: ApiUnderTest) -> None:
    await use(api, "alice", 1.0, GIB, ticks=2)
    await use(api, "secretive", 2.0, 2 * GIB, ticks=2)
    async with AsyncClient(str(api.path), 5) as client:
        watch = Watch(client, 1.0)
        await watch.look()
        document = overview.machine(watch, "alice", 0.0, ["Large"])
        assert [one.memory for one in document.mine] == [GIB]
        assert [one.memory for one in document.others] == [2 * GIB]
        assert "secretive" not in document.model_dump_json()
        everyone = overview.admin(watch, ())
        assert {one.user for one in everyone.leases} == {"alice", "secretive"}


@pytest.mark.asyncio
async def test_a_profile_tells_of_nobody_elses_use_alone(api: ApiUnderTest) -> None:
    await use(api, "bob", 1.0, GIB, profile="Tiny")
    await use(api, "alice", 1.0, GIB)
    async with AsyncClient(str(api.path), 5) as client:
        watch = Watch(client, 1.0)

        async def told(user: str, *profiles: str) -> dict[str, tuple[bool, str]]:
            await watch.look()
            groups = overview.machine(watch, user, 0.0, profiles).groups
            assert all((one.used is None) is (one.throttled is None) for one in groups)
            return {one.title: (one.used is not None, one.untold) for one in groups}

        alone = "not told here, because only one person uses it now"
        both = {"profile Tiny": (False, alone), "profile Large": (True, "")}
        assert await told("alice", "Tiny", "Large") == both
        assert await told("alice", "Large") == {"profile Large": (True, "")}
        assert await told("carol", "Tiny") == {"profile Tiny": (False, alone)}
        # a server goes on in a profile that is its user's no more
        assert await told("bob") == {"profile Tiny": (True, "")}
        await use(api, "erin", 1.0, GIB, profile="Tiny")
        assert await told("carol", "Tiny") == {"profile Tiny": (True, "")}
        everything = overview.machine(watch, "ada", 0.0, None).groups
        assert [one.used is None for one in everything] == [False, False]


@pytest.mark.asyncio
async def test_of_a_profile_that_nobody_is_in_any_more_nothing_is_told(api: ApiUnderTest) -> None:
    await use(api, "bob", 1.0, GIB)
    async with AsyncClient(str(api.path), 5) as client:
        watch = Watch(client, 1.0)
        api.operations.end(api.operations.book.live[0].id, EndReason.STOPPED)
        await watch.look()
        (group,) = overview.machine(watch, "alice", 0.0, ["Large"]).groups
        assert (group.used, group.untold) == (None, "nobody uses it now")


@pytest.mark.asyncio
async def test_a_daemon_that_is_gone_leaves_the_last_picture(api: ApiUnderTest) -> None:
    await use(api, "alice", 1.0, GIB, ticks=2)
    async with AsyncClient(str(api.path), 5) as client:
        watch = Watch(client, 1.0)
        await watch.look()
        seen = watch.moments
        await client.close()
        await asyncio.to_thread(api.path.unlink)
        await watch.look()
        document = overview.machine(watch, "alice", 0.0, ["Large"])
        assert document.trouble is not None
        assert document.trouble.code == "daemon.unreachable"
        assert watch.moments == seen
        assert document.machine is not None


def test_before_the_first_answer_there_is_only_trouble(tmp_path: Path) -> None:
    async def look() -> None:
        async with AsyncClient(str(tmp_path / "none"), 5) as client:
            watch = Watch(client, 1.0)
            await watch.look()
            assert overview.machine(watch, "alice", 0.0, ["Large"]).machine is None
            assert overview.admin(watch, ()).trouble is not None

    asyncio.run(look())
