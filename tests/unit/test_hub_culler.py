"""The culler, as the hub starts it: a process, between the daemon's API and the hub's."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web

from enforcer.api.types import LeaseReply, SampleReply
from enforcer.asyncclient import AsyncClient
from enforcer.model import Claim, EndReason, Sample
from enforcer.quantities import Bytes, Cpus
from spawner.culler import Watcher, last_busy
from tests.apiserver import serving
from tests.unit.configs import parse

TOKEN = "cullers-token"
CHECKOUT = Path(__file__).parents[2]
HOUR = 3600.0


@dataclass
class FakeHub:
    """The part of the hub's API that the culler uses; two of alice's servers idle for an hour."""

    servers: tuple[str, ...] = ("", "two words")
    deleted: list[str] = field(default_factory=list)
    activity: dict[str, datetime] = field(default_factory=dict)
    refuse: int | None = None

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes(
            [
                web.get("/hub/api/", self._about),
                web.get("/hub/api/users", self._users),
                web.post("/hub/api/users/{user}/activity", self._active),
                web.delete("/hub/api/users/{user}/server", self._stop),
                web.delete("/hub/api/users/{user}/servers/{server}", self._stop),
            ]
        )
        return app

    async def _about(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == f"token {TOKEN}"
        return web.json_response({"version": "6.1.1"})

    async def _users(self, _request: web.Request) -> web.Response:
        long_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
        servers = {
            name: {
                "name": name,
                "full_name": f"alice/{name}",
                "ready": True,
                "pending": None,
                "url": "/",
                "started": long_ago,
                "last_activity": long_ago,
            }
            for name in self.servers
            if name not in self.deleted
        }
        alice = {"name": "alice", "admin": False, "servers": servers}
        return web.json_response({"items": [alice], "_pagination": {"next": None}})

    async def _active(self, request: web.Request) -> web.Response:
        if self.refuse is not None:
            return web.Response(status=self.refuse)
        servers = (await request.json())["servers"]
        if not servers.keys() <= {*self.servers}:
            return web.Response(status=400)  # as the hub does: then nothing of it counts
        for name, told in servers.items():
            self.activity[name] = datetime.fromisoformat(told["last_activity"])
        return web.Response(status=200)

    async def _stop(self, request: web.Request) -> web.Response:
        self.deleted.append(request.match_info.get("server", ""))
        return web.Response(status=204)


@asynccontextmanager
async def culling(hub: FakeHub, socket: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    runner = web.AppRunner(hub.app())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-P", "-m", "spawner.culler", "--timeout=600", "--cull-every=1", f"--socket={socket}"),
        env={
            **os.environ,
            "PYTHONPATH": str(CHECKOUT),
            "JUPYTERHUB_API_URL": f"http://127.0.0.1:{port}/hub/api",
            "JUPYTERHUB_API_TOKEN": TOKEN,
        },
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.terminate()
        await asyncio.wait_for(process.communicate(), 20)
        await runner.cleanup()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(40):
        while not true():  # noqa: ASYNC110 - what it waits for is another process's
            await asyncio.sleep(0.05)


def used(at: float, cpu: float) -> tuple[float, Sample]:
    one = Sample(
        cpu=Cpus(int(cpu * 1_000_000)),
        memory=Bytes(0),
        throttled=0.0,
        cpu_pressure=0.0,
        memory_pressure=0.0,
        io_pressure=0.0,
        oom_kills=0,
    )
    return at, one


@pytest.mark.asyncio
async def test_what_computes_is_spared_and_told_to_the_hub_and_what_does_not_is_stopped(
    tmp_path: Path,
) -> None:
    hub = FakeHub()
    async with serving(parse(), tmp_path) as api:
        now = time.time()
        for name, cpu in (("", 0.01), ("two words", 0.5)):
            lease, _ = await api.operations.claim(Claim(user="alice", server=name, profile="Tiny"))
            api.operations.bind(lease.id, lease.id * 2)
            samples = [used(now - 300 + 2 * tick, cpu) for tick in range(100)]
            api.operations.samples[lease.id] = samples
        async with culling(hub, api.path):
            await until(lambda: bool(hub.deleted) and bool(hub.activity))
            await asyncio.sleep(2.5)  # more rounds of it
    assert hub.deleted == [""]
    assert hub.activity.keys() == {"two words"}
    assert now - 200 < hub.activity["two words"].timestamp() < now


@pytest.mark.asyncio
async def test_a_server_that_the_hub_does_not_know_hides_no_other(tmp_path: Path) -> None:
    hub = FakeHub(servers=("known",))
    async with serving(parse(), tmp_path) as api:
        now = time.time()
        for name in ("by hand", "known"):
            lease, _ = await api.operations.claim(Claim(user="alice", server=name, profile="Tiny"))
            api.operations.bind(lease.id, lease.id * 2)
            api.operations.samples[lease.id] = [used(now - 30, 1.0), used(now - 15, 1.0)]
        async with culling(hub, api.path):
            await until(lambda: bool(hub.activity))
    assert hub.activity.keys() == {"known"}


@pytest.mark.asyncio
async def test_while_the_daemon_cannot_be_asked_nothing_is_stopped(tmp_path: Path) -> None:
    hub = FakeHub()
    async with culling(hub, tmp_path / "no.sock") as process:
        assert process.stderr is not None
        said = ""
        async with asyncio.timeout(40):
            while "Not culling alice/two words: the enforcer cannot be reached" not in said:
                said += (await process.stderr.readline()).decode()
    assert hub.deleted == []


@pytest.mark.asyncio
@pytest.mark.parametrize("refusal", [404, 500])
async def test_a_hub_that_will_not_hear_of_it_stops_nobody(tmp_path: Path, refusal: int) -> None:
    hub = FakeHub(refuse=refusal, servers=("busy",))
    async with serving(parse(), tmp_path) as api:
        lease, _ = await api.operations.claim(Claim(user="alice", server="busy", profile="Tiny"))
        api.operations.bind(lease.id, lease.id * 2)
        now = time.time()
        api.operations.samples[lease.id] = [used(now - 30, 1.0), used(now - 15, 1.0)]
        async with culling(hub, api.path) as process:
            await asyncio.sleep(6)
            assert process.returncode is None
    assert hub.deleted == []


@pytest.mark.asyncio
async def test_a_server_that_ends_meanwhile_hides_no_other(tmp_path: Path) -> None:
    async with serving(parse(), tmp_path) as api:
        now = time.time()
        for name in ("ends", "lives"):
            lease, _ = await api.operations.claim(Claim(user="alice", server=name, profile="Tiny"))
            api.operations.bind(lease.id, lease.id * 2)
            samples = [used(now - 300 + 2 * tick, 0.5) for tick in range(100)]
            api.operations.samples[lease.id] = samples

        class Meanwhile(AsyncClient):
            """One server ends between two questions."""

            async def leases(self, user: str | None = None) -> tuple[LeaseReply, ...]:
                found = await super().leases(user)
                for one in found:
                    if one.server == "ends":
                        api.operations.end(one.id, EndReason.EXITED)
                return found

        async with Meanwhile(str(api.path)) as client:
            assert list(await Watcher(client, 0.1).busy()) == [("alice", "lives")]


def reply(at: float, cpu: float) -> SampleReply:
    return SampleReply(
        at=at,
        cpu=cpu,
        memory=0,
        throttled=0,
        cpu_pressure=0,
        memory_pressure=0,
        io_pressure=0,
        oom_kills=0,
    )


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([], None),
        ([(0, 0.05), (2, 0.05)], None),
        # a kernel that wakes up once a minute
        ([(tick * 2, 1.0 if tick == 7 else 0.0) for tick in range(30)], None),
        # a moment just after the minute turned, and one at the far end of what is known
        ([(tick * 2, 0.3 if tick in {30, 60} else 0.0) for tick in range(61)], None),
        ([(58, 0.0), (60, 1.0), (62, 0.0)], None),
        ([(0, 0.0), (2, 5.0)], 2),
        ([(tick * 2, 0.3 if tick < 30 else 0.0) for tick in range(40)], 58),
        ([(tick * 2, 0.3) for tick in range(37)], 58),
        ([(tick * 2, 0.3) for tick in range(47)], 92),
        # few ticks in a minute, late ones, a clock that was set, and a machine that slept
        ([(tick * 40, 0.11) for tick in range(6)], 160),
        ([(0, 0.09), (55, 0.09), (119, 0.09)], None),
        ([(0, 0.2), (20, 0.2), (23, 0.2), (59, 0.2)], 59),
        ([(50, 9.0), (20, 9.0)], None),
        ([(0, 0.0), (7200, 0.09)], None),
    ],
)
def test_busy_is_what_uses_cpu_on_average_over_a_minute(
    samples: list[tuple[float, float]], expected: float | None
) -> None:
    assert last_busy([reply(at, cpu) for at, cpu in samples], 0.1) == expected
