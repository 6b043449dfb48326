"""The holes a spawner can have, tried through a whole hub: form, link and REST."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from enforcer.model import LeaseState
from enforcer.quantities import GIB
from tests.hub.process import Browser, RunningHub, a_hub
from tests.unit.spawner.lab import Lab, a_lab, until

pytestmark = pytest.mark.asyncio

REFUSED: list[Any] = [
    {"cpu_limit": 0},
    {"cpu_limit": -1},
    {"mem_limit": -0.5},
    {"cpu_limit": "2"},
    {"cpu_limit": True},
    {"mem_limit": 1e300},
    {"mem_limit": 10**50},
    {"profile": "Secret"},
    {"profile": {"name": "Small"}},
    {"image": "lab/private:1"},
    {"image": "*"},
    {"volumes": {"/": "/"}},
    {"user_options": {"extra_host_config": {"privileged": True}}},
    {"__jupyterhub_bytes__": True, "data": "eA=="},
    {"profile": "Small\u0000", "image": "\ud800"},
]


async def test_nothing_gets_past_the_policy_by_form_link_or_rest(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab, a_hub(lab) as hub:
        browser = await hub.log_in("daemon")
        try:
            await _refused_by_rest(hub)
            await _refused_by_link_or_form(browser)
            assert lab.nothing_is_left()
            # no page is an error, and the hub has not ended over so many failures
            assert (await hub.api("GET", "/users"))[0] == 200
            assert (await browser.get("/hub/home"))[0] == 200
            await _granted(hub, browser, lab)
            await _told_that_the_daemon_is_down(hub, browser, lab)
        finally:
            await browser.close()


async def _refused_by_rest(hub: RunningHub) -> None:
    for options in REFUSED:
        status, said = await hub.start("daemon", options)
        assert 400 <= status < 500, (options, status, said)
        assert len(said) > 20, (options, said)
    status, said = await hub.api("POST", "/users/daemon/server", raw=b'{"cpu_limit": NaN}')
    assert status == 400, said


async def _refused_by_link_or_form(browser: Browser) -> None:
    for query in ("opt-cpu_limit=0", "opt-cpu_limit=-1", "opt-mem_limit=nan"):
        status, page = await browser.get(f"/hub/spawn?{query}")
        assert status == 400
        assert "enforcer-form" in page
    status, page = await browser.get("/hub/spawn?opt-profile=Secret")
    assert status == 404
    assert "You have no profile named" in page
    status, page = await browser.get("/hub/spawn")
    assert status == 200
    for fields in ({"cpu_limit": "0"}, {"mem_limit": "-1"}, {"image": "<script>"}):
        status, answer = await browser.post("/hub/spawn", page, **fields)
        assert 400 <= status < 500
        assert "'<script>'" not in answer


async def _granted(hub: RunningHub, browser: Browser, lab: Lab) -> None:
    """Start without options, by REST; then with some, by the form."""
    status, said = await hub.start("daemon")
    assert status == 201, said
    host = lab.docker.only()["HostConfig"]
    assert host["Memory"] == 4 * GIB
    assert host["NanoCpus"] == 2_000_000_000
    assert [one["Target"] for one in host["Mounts"]] == ["/home/daemon", "/media/references"]
    await _stop(hub, lab, "daemon")
    _, page = await browser.get("/hub/spawn")
    await browser.post("/hub/spawn", page, profile="Large", cpu_limit="1.5")
    assert lab.docker.only()["HostConfig"]["NanoCpus"] == 1_500_000_000
    await _stop(hub, lab, "daemon")


async def _told_that_the_daemon_is_down(hub: RunningHub, browser: Browser, lab: Lab) -> None:
    await lab.api.server.stop()
    for path in ("/hub/home", "/hub/token"):
        assert (await browser.get(path))[0] == 200
    status, page = await browser.get("/hub/spawn")
    assert status == 200
    assert "resource service is down" in page
    for _ in range(3):
        status, answer = await browser.post("/hub/spawn", page, profile="Small")
        assert status == 503
        assert "resource service is down" in answer
    assert (await hub.api("GET", "/"))[0] == 200
    assert not lab.docker.containers


async def test_a_hub_that_restarts_forgets_nothing_and_a_queue_can_be_left(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        async with a_hub(lab) as hub:
            await hub.api("POST", "/users/daemon")
            status, said = await hub.start("daemon", {"mem_limit": 1}, "gpu")
            assert status == 201, said
        first = lab.docker.only()["Id"]
        lab.docker.faults["inspect"] = 500
        async with a_hub(lab) as hub:
            status, model = await hub.api("GET", "/users/daemon")
            assert model["servers"]["gpu"]["ready"], model
            assert model["servers"]["gpu"]["state"]["object_id"] == first
            lab.docker.faults.clear()
            lab.api.operations.claiming.clear()
            starting = asyncio.create_task(hub.start("daemon"))
            await until(lambda: lab.docker.asked["image"] > 2)
            await asyncio.sleep(0.2)
            status, said = await hub.api("DELETE", "/users/daemon/server")
            lab.api.operations.claiming.set()
            assert status in {202, 204}, said
            await starting
            await until(lambda: lab.leases() == [LeaseState.BOUND])
            await hub.api("DELETE", "/users/daemon/servers/gpu")
            await until(lab.nothing_is_left)


async def _stop(hub: RunningHub, lab: Lab, user: str) -> None:
    await hub.api("DELETE", f"/users/{user}/server")
    await until(lab.nothing_is_left)
