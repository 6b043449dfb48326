"""A start that waits: in the queue, for the daemon, for an image; and others meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from enforcer.model import EndReason, LeaseState
from enforcer.quantities import GIB
from spawner.refusals import StartRefused
from tests.unit.spawner.lab import ONE_AT_A_TIME, a_lab, until
from tests.unit.spawner.starts import refused, watch

pytestmark = pytest.mark.asyncio


async def test_with_the_daemon_down_nothing_starts_and_the_user_is_told(tmp_path: Path) -> None:
    async with a_lab(tmp_path, socket_path=str(tmp_path / "nobody.sock")) as lab:
        error = await refused(lab.user())
        assert error.status_code == 503
        assert error.jupyterhub_message.startswith("The machine's resource service is down")
        assert "nobody.sock" in error.log_message
        assert lab.nothing_is_left()


async def test_a_start_tells_what_it_waits_for_in_the_queue(tmp_path: Path) -> None:
    async with a_lab(tmp_path, ONE_AT_A_TIME) as lab:
        first, second = lab.user("daemon"), lab.user("bin")
        await first.spawn()
        start = asyncio.create_task(second.spawn(options={}))
        await until(lambda: LeaseState.QUEUED in lab.leases())
        lines: list[str] = []
        watching = asyncio.create_task(watch(second, lines.append))
        await until(lambda: any("number 1 in line" in line for line in lines))
        assert not start.done()
        await first.stop()
        await start
        await watching
        assert any("Starting the container" in line for line in lines)
        assert len(lab.docker.containers) == 1


async def test_a_start_that_waits_in_the_queue_can_be_cancelled(tmp_path: Path) -> None:
    async with a_lab(tmp_path, ONE_AT_A_TIME) as lab:
        first, second = lab.user("daemon"), lab.user("bin")
        await first.spawn()
        start = asyncio.create_task(second.spawn(options={}))
        await until(lambda: LeaseState.QUEUED in lab.leases())
        start.cancel()
        await asyncio.wait([start], timeout=1)
        await second.stop()
        assert lab.leases() == [LeaseState.BOUND]


async def test_a_start_does_not_wait_in_the_queue_for_ever(tmp_path: Path) -> None:
    async with a_lab(tmp_path, ONE_AT_A_TIME, queue_timeout=0.3) as lab:
        await lab.user("daemon").spawn()
        error = await refused(lab.user("bin"))
        assert error.status_code == 409
        assert "nothing came free" in error.jupyterhub_message.lower()
        assert lab.leases() == [LeaseState.BOUND]


async def test_a_daemon_that_restarts_loses_nobodys_place_in_the_queue(tmp_path: Path) -> None:
    async with a_lab(tmp_path, ONE_AT_A_TIME) as lab:
        first = lab.user("daemon")
        await first.spawn()
        start = asyncio.create_task(lab.user("bin").spawn(options={}))
        await until(lambda: LeaseState.QUEUED in lab.leases())
        await lab.stop_daemon()
        await asyncio.sleep(0.1)
        await lab.start_daemon()
        await first.stop()
        await start
        assert lab.leases() == [LeaseState.BOUND]


async def test_a_daemon_that_goes_away_after_its_grant_stops_no_start(tmp_path: Path) -> None:
    async with a_lab(tmp_path, daemon_timeout=1.0) as lab:
        lab.docker.before["start"] = lab.stop_daemon
        user = lab.user()
        await user.spawn()
        assert lab.docker.only()["HostConfig"]["Memory"] == 4 * GIB


async def test_a_daemon_that_goes_away_during_a_claim_keeps_no_lease(tmp_path: Path) -> None:
    async with a_lab(tmp_path, daemon_timeout=0.3, cleanup_timeout=0.1) as lab:
        lab.api.operations.claiming.clear()
        error = await refused(lab.user())
        assert error.status_code == 503
        lab.api.operations.claiming.set()
        await until(lambda: not lab.docker.containers and not lab.leases(), 10)


async def test_who_loses_their_place_in_the_queue_reads_why(tmp_path: Path) -> None:
    async with a_lab(tmp_path, ONE_AT_A_TIME) as lab:
        await lab.user("daemon").spawn()
        start = asyncio.create_task(refused(lab.user("bin")))
        await until(lambda: LeaseState.QUEUED in lab.leases())
        lab.api.operations.end(lab.api.operations.book.queued[0].id, EndReason.EXPIRED)
        assert "your turn did not come in time" in (await start).jupyterhub_message.lower()


async def test_a_slow_pull_holds_up_nobody_else(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        del lab.docker.images["lab/science:2"]
        layer = {"status": "Downloading", "progressDetail": {"current": 1, "total": 4}, "id": "a"}
        lab.docker.pulls["lab/science:2"] = [layer]
        lab.docker.gate.clear()
        slow = [lab.user("daemon"), lab.user("bin")]
        starts = [asyncio.create_task(one.spawn(options={"image": "Science"})) for one in slow]
        await until(lambda: lab.docker.asked["pull"])
        quick = lab.user("man")
        await quick.spawn(options={"image": "Base"})
        assert await quick.spawner.poll() is None
        assert not any(start.done() for start in starts)
        lines: list[str] = []
        watching = asyncio.create_task(watch(slow[0], lines.append))
        await until(lambda: any("1 layers" in line for line in lines))
        lab.docker.gate.set()
        await asyncio.gather(*starts, watching)
        assert lab.docker.asked["pull"] == 1
        assert len(lab.docker.containers) == 3


async def test_an_image_that_cannot_be_fetched_is_told(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        del lab.docker.images["lab/base:1"]
        error = await refused(lab.user())
        assert "could not be fetched" in error.jupyterhub_message
        assert "manifest for lab/base:1 not found" in error.jupyterhub_message
        lab.docker.pulls["lab/base:1"] = [{"error": "no space left on device"}]
        error = await refused(lab.user("bin"))
        assert "no space left on device" in error.jupyterhub_message
        assert lab.nothing_is_left()


async def test_a_pull_has_its_time(tmp_path: Path) -> None:
    async with a_lab(tmp_path, pull_timeout=1.0) as lab:
        del lab.docker.images["lab/base:1"]
        lab.docker.pulls["lab/base:1"] = []
        lab.docker.gate.clear()
        error = await refused(lab.user())
        assert "takes longer than" in error.jupyterhub_message
        assert lab.nothing_is_left()


async def test_a_pull_that_nobody_waits_for_any_more_ends(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        del lab.docker.images["lab/base:1"]
        lab.docker.pulls["lab/base:1"] = []
        lab.docker.gate.clear()
        user = lab.user()
        start = asyncio.create_task(user.spawn(options={}))
        await until(lambda: lab.docker.asked["pull"])
        start.cancel()
        await asyncio.wait([start], timeout=1)
        await user.stop()
        assert lab.nothing_is_left()


async def test_an_image_may_not_be_fetched_where_the_admin_said_never(tmp_path: Path) -> None:
    async with a_lab(tmp_path, pull_policy="never") as lab:
        del lab.docker.images["lab/base:1"]
        error = await refused(lab.user())
        assert "the admin has to fetch it first" in error.jupyterhub_message.lower()
        assert lab.docker.asked["pull"] == 0


async def test_many_users_start_at_once(tmp_path: Path) -> None:
    names = ["daemon", "bin", "sys", "sync", "games", "man", "lp", "mail", "news", "uucp", "proxy"]
    async with a_lab(tmp_path) as lab:
        users = [lab.user(name) for name in names]
        found = await asyncio.gather(
            *(user.spawn(options={}) for user in users), return_exceptions=True
        )
        refusals = [one for one in found if isinstance(one, BaseException)]
        assert all(isinstance(one, StartRefused) for one in refusals)
        assert len(lab.docker.containers) == len(names) - len(refusals)
        assert len(lab.leases()) == len(lab.docker.containers)
        for user in users:
            if user.spawner.server is not None:
                await user.stop()
        assert lab.nothing_is_left()
