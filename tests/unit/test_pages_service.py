"""The service over HTTP: the real API below it, and of the hub only its word on tokens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from jupyterhub.services.auth import HubOAuth
from yarl import URL

from enforcer.model import Claim, EndReason, Resize, Usage
from enforcer.quantities import CORE, GIB, Bytes, Cpus
from spawner.pages.application import serving
from spawner.pages.settings import Settings
from tests.apiserver import ApiUnderTest
from tests.apiserver import serving as serving_api
from tests.unit.configs import VALID, parse
from tests.unit.hubapi import ACCESS, HubApi, hub_api

PREFIX = "/services/enforcer/"


class Asker:
    """Asks the service as the holder of a token."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        hub: HubApi,
        api: ApiUnderTest,
        auth: HubOAuth,
    ) -> None:
        self.session = session
        self.auth = auth
        self.hub = hub
        self.api = api

    async def ask(
        self, token: str | None, path: str, body: object = None, **headers: str
    ) -> tuple[int, Any]:
        """Return status and document; with a body it is a POST."""
        if token is not None:
            headers["Authorization"] = f"token {token}"
        async with self.session.request(
            "GET" if body is None else "POST",
            f"http://pages{PREFIX}{path}",
            json=body,
            headers=headers,
            allow_redirects=False,
        ) as answer:
            return answer.status, await answer.json() if answer.content_length else None


def descriptors() -> set[str]:
    """What is open."""
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


@pytest_asyncio.fixture
async def asker(tmp_path: Path) -> AsyncIterator[Asker]:
    before = descriptors()
    pages = str(tmp_path / "pages.sock")
    async with hub_api() as hub, serving_api(parse(VALID), tmp_path) as api:
        hub.know("alices", "alice")
        hub.know("bobs", "bob")
        hub.know("adas", "ada", (ACCESS, "admin-ui", "delete:servers"))
        settings = Settings(
            listen=pages,
            prefix=PREFIX,
            hub_prefix="/hub/",
            api_url=hub.url,
            token="the service's own",
            socket_path=str(api.path),
            poll_seconds=30.0,
        )
        async with (
            serving(settings) as service,
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(pages)) as session,
        ):
            await service.watch.look()
            yield Asker(session, hub, api, service.auth)
    # the resolver of the hub's client is taken down by a thread of its own
    for _ in range(500):
        if descriptors() <= before:
            break
        await asyncio.sleep(0.02)


async def lease_of(asker: Asker, user: str) -> str:
    """Give a user a running server with some history."""
    lease, _ = await asker.api.operations.claim(Claim(user=user, profile="Large"))
    asker.api.operations.bind(lease.id, f"{user}-1")
    for _ in range(3):
        asker.api.operations.tick()
    return lease.id


@pytest.mark.asyncio
async def test_a_user_sees_their_own_servers_with_history(asker: Asker) -> None:
    await lease_of(asker, "alice")
    await lease_of(asker, "bob")
    status, mine = await asker.ask("alices", "api/mine")
    assert status == 200
    (server,) = mine["servers"]
    assert server["lease"]["user"] == "alice"
    assert len(server["samples"]["at"]) >= 3
    since = server["samples"]["at"][-2]
    _, newer = await asker.ask("alices", f"api/mine?since={since}")
    assert newer["servers"][0]["samples"]["at"] == server["samples"]["at"][-1:]


@pytest.mark.asyncio
async def test_a_server_that_ends_while_it_is_told_of_is_told_of_as_ended(asker: Asker) -> None:
    lease = await lease_of(asker, "alice")
    asker.api.operations.ending.add(lease)
    _, mine = await asker.ask("alices", "api/mine")
    assert mine["servers"] == []
    _, mine = await asker.ask("alices", "api/mine")
    assert [one["id"] for one in mine["receipts"]] == [lease]


@pytest.mark.asyncio
async def test_a_resize_leaves_the_limits_of_before_in_the_history(asker: Asker) -> None:
    lease = await lease_of(asker, "alice")
    await asker.api.operations.resize(
        lease, Resize(cpu_limit=Cpus(CORE // 2), mem_limit=Bytes(GIB))
    )
    asker.api.operations.tick()
    _, mine = await asker.ask("alices", "api/mine")
    samples = mine["servers"][0]["samples"]
    assert samples["cpu_limit"][0] == samples["cpu_limit"][-2] > samples["cpu_limit"][-1] == 0.5
    assert samples["mem_limit"][0] == samples["mem_limit"][-2] > samples["mem_limit"][-1] == GIB


@pytest.mark.asyncio
async def test_who_is_unknown_or_has_another_kind_of_token_gets_403_as_json(asker: Asker) -> None:
    asker.hub.know("narrow", "alice", ("read:users:name!user=alice",))
    asker.hub.know("other", "alice", ("access:services!service=other",))
    asker.hub.know("service", "culler", (ACCESS,), "service")
    for token in (None, "nobodys", "narrow", "other", "service"):
        status, said = await asker.ask(token, "api/mine")
        assert (status, said["code"]) == (403, "pages.forbidden"), token


@pytest.mark.asyncio
async def test_a_page_sends_who_is_unknown_to_the_hub_and_refuses_who_may_not(
    asker: Asker,
) -> None:
    async with asker.session.get(f"http://pages{PREFIX}", allow_redirects=False) as answer:
        assert answer.status == 302
        assert answer.headers["Location"].startswith("/hub/api/oauth2/authorize?")
    asker.hub.know("other", "alice", ("access:services!service=other",))
    headers = {"Authorization": "token other"}
    async with asker.session.get(
        f"http://pages{PREFIX}", headers=headers, allow_redirects=False
    ) as answer:
        assert answer.status == 403


@pytest.mark.asyncio
async def test_a_user_resizes_their_own_server_only(asker: Asker) -> None:
    lease = await lease_of(asker, "alice")
    path = f"api/leases/{lease}"
    status, said = await asker.ask("alices", path, {"mem_limit": "12.5 GiB", "seconds": 60})
    assert (status, said["lease"]["mem_limit"]) == (200, int(12.5 * GIB))
    assert said["bounds"]["mem_limit"] == 40 * GIB
    assert said["lease"]["placement"] is None
    for wanted in (None, {"mem_limit": "1 GiB"}):
        refused = await asker.ask("bobs", path, wanted)
        assert (refused[0], refused[1]["code"]) == (404, "lease.not-found")
        assert refused == await asker.ask("bobs", f"api/leases/{'0' * 32}", wanted)
    status, said = await asker.ask("adas", path, {"cpu_limit": 3})
    assert (status, said["lease"]["cpu_limit"]) == (200, 3)


@pytest.mark.asyncio
async def test_one_server_with_its_history_is_told_to_its_user_and_to_admins_only(
    asker: Asker,
) -> None:
    lease = await lease_of(asker, "alice")
    await lease_of(asker, "bob")
    path = f"api/leases/{lease}/server"
    _, mine = await asker.ask("alices", "api/mine")
    told = {"at": mine["at"], "tick_seconds": mine["tick_seconds"], "server": mine["servers"][0]}
    assert await asker.ask("alices", path) == (200, told)
    assert await asker.ask("adas", path) == (200, told)
    times = told["server"]["samples"]["at"]
    _, newer = await asker.ask("adas", f"{path}?since={times[-2]}")
    assert newer["server"]["samples"]["at"] == times[-1:]
    refused = await asker.ask("bobs", path)
    assert (refused[0], refused[1]["code"]) == (404, "lease.not-found")
    assert refused == await asker.ask("bobs", f"api/leases/{'0' * 32}/server")
    status, said = await asker.ask("adas", f"{path}?since=x")
    assert (status, said["code"]) == (400, "query.invalid")
    asker.api.operations.end(lease, EndReason.STOPPED)
    for token in ("alices", "adas"):
        assert await asker.ask(token, path) == refused


@pytest.mark.asyncio
async def test_an_admin_is_not_told_to_save_the_work_of_somebody_else(asker: Asker) -> None:
    operations = asker.api.operations
    lease = operations.lease(await lease_of(asker, "alice"))
    full = Usage(memory_current=Bytes(lease.grant.mem_limit - 1))
    operations.usage = {lease.unit: full}
    operations.tick()
    operations.usage = {lease.unit: replace(full, oom_kills=1)}
    operations.tick()
    for token, work, whose in (("alices", True, "your"), ("adas", False, "alice's")):
        _, said = await asker.ask(token, f"api/leases/{lease.id}/server")
        assert ("save your work" in said["server"]["warning"]) is work
        assert "At the limit a kernel is killed" in said["server"]["warning"]
        assert f"it was not {whose} own limit" in said["server"]["events"][0]["sentence"]


@pytest.mark.asyncio
async def test_an_admin_enlarges_a_server_whose_profile_comes_from_a_group_of_the_hub(
    asker: Asker,
) -> None:
    operations = asker.api.operations
    operations.config = parse(
        f'{VALID}[group_profiles.ml]\nallowed_resources = ["Large", "Huge"]\n'
        "[resource_profiles.Huge]\ncpu_limit = 20\nmem_limit = 80\n"
    )
    operations.tick()
    lease, _ = await operations.claim(
        Claim(user="alice", profile="Huge", mem_limit=Bytes(20 * GIB), groups=("ml",))
    )
    path = f"api/leases/{lease.id}"
    for token in ("adas", "alices"):
        status, said = await asker.ask(token, path)
        assert (status, said["bounds"]["mem_limit"]) == (200, 80 * GIB)
    status, said = await asker.ask("adas", path, {"mem_limit": said["bounds"]["mem_limit"]})
    assert (status, said["lease"]["mem_limit"]) == (200, 80 * GIB)


@pytest.mark.asyncio
async def test_a_resize_is_the_daemons_to_refuse_and_a_bad_one_is_named(asker: Asker) -> None:
    path = f"api/leases/{await lease_of(asker, 'alice')}"
    status, said = await asker.ask("alices", path, {"cpu_limit": 11})
    assert (status, said["code"]) == (403, "limit.above-profile")
    wrongs: tuple[object, ...] = ({"cpu_limit": "much"}, {"cpus": 1}, {"cpu_limit": -1}, [], "x")
    for wrong in wrongs:
        status, said = await asker.ask("alices", path, wrong)
        assert status == 400, wrong
    async with asker.session.post(
        f"http://pages{PREFIX}{path}", data=b"{}", headers={"Authorization": "token alices"}
    ) as answer:
        assert answer.status == 400


@pytest.mark.asyncio
@pytest.mark.usefixtures("asker")
async def test_a_large_body_is_not_read(tmp_path: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(str(tmp_path / "pages.sock"))
    head = f"POST {PREFIX}api/stop HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
    writer.write(head.encode())
    async with asyncio.timeout(5):
        assert (await reader.readline()).split()[1:2] in ([b"400"], [b"413"], [])
    writer.close()
    await writer.wait_closed()


@pytest.mark.asyncio
async def test_only_an_admin_sees_everyone_and_stops_with_their_own_token(asker: Asker) -> None:
    await lease_of(asker, "alice")
    stop = {"user": "a/b c", "server": "x?y"}
    for path, body in (("api/everyone", None), ("api/stop", stop)):
        status, said = await asker.ask("alices", path, body)
        assert (status, said["code"]) == (403, "pages.not-admin")
    assert asker.hub.stopped == []
    status, said = await asker.ask("adas", "api/everyone")
    assert status == 200
    status, _ = await asker.ask("adas", "api/stop", stop)
    assert status == 204
    assert asker.hub.stopped == ["ada: /hub/api/users/a%2Fb%20c/servers/x%3Fy"]
    for hub_status, expected in ((202, 202), (403, 403), (404, 404), (400, 409), (500, 503)):
        asker.hub.stop_status = hub_status
        status, _ = await asker.ask("adas", "api/stop", {"user": "bob"})
        assert status == expected
    assert asker.hub.stopped[-1] == "ada: /hub/api/users/bob/server"


@pytest.mark.asyncio
async def test_while_the_hub_is_restarted_who_was_known_may_look_and_change_nothing(
    asker: Asker,
) -> None:
    lease = await lease_of(asker, "alice")
    assert (await asker.ask("alices", "api/mine"))[0] == 200
    asker.auth.cache.clear()
    asker.hub.user_status = 503
    assert (await asker.ask("alices", "api/mine"))[0] == 200
    status, said = await asker.ask("alices", f"api/leases/{lease}", {"cpu_limit": 1})
    assert (status, said["message"]) == (502, "the hub does not answer")
    assert (await asker.ask("bobs", "api/mine"))[0] == 502
    asker.hub.user_status = 403
    assert (await asker.ask("alices", "api/mine"))[0] == 403
    asker.auth.cache.clear()
    asker.hub.user_status = 503
    assert (await asker.ask("alices", "api/mine"))[0] == 502


@pytest.mark.asyncio
async def test_a_profile_of_others_is_in_the_machine_view_of_admins_only(asker: Asker) -> None:
    operations = asker.api.operations
    operations.config = parse(
        f'{VALID}[user_profiles.alice]\nallowed_resources = ["Tiny"]\n'
        '[user_profiles.bob]\nallowed_resources = ["Tiny", "Large"]\n'
    )
    await lease_of(asker, "bob")
    for token, expected in (("alices", []), ("bobs", [True]), ("adas", [True])):
        status, said = await asker.ask(token, "api/machine")
        assert status == 200
        assert [one["used"] is not None for one in said["groups"]] == expected, token


@pytest.mark.asyncio
async def test_the_form_is_told_what_fits_now(asker: Asker) -> None:
    status, said = await asker.ask("alices", "api/catalogue?server=x")
    assert status == 200
    assert [one["name"] for one in said["profiles"]] == ["Tiny", "Large"]
    assert [one["key"] for one in said["bars"]] == ["cpu", "memory"]


@pytest.mark.asyncio
@pytest.mark.parametrize("since", ["x", "-1", "nan", "1e99"])
async def test_a_time_that_is_none_is_named(asker: Asker, since: str) -> None:
    status, said = await asker.ask("alices", f"api/mine?since={since}")
    assert (status, said["code"]) == (400, "query.invalid")


@pytest.mark.asyncio
async def test_without_the_daemon_the_machine_view_goes_on_and_the_rest_says_so(
    asker: Asker,
) -> None:
    asker.api.path.unlink()
    await asker.api.finishing.wait(0)
    await asker.api.server.stop()
    status, said = await asker.ask("alices", "api/mine")
    assert (status, said["code"]) == (503, "daemon.unreachable")
    status, said = await asker.ask("alices", "api/machine")
    assert status == 200
    assert said["machine"] is not None


@pytest.mark.asyncio
async def test_what_is_not_there_is_said_in_the_form_that_was_asked_for(asker: Asker) -> None:
    status, said = await asker.ask("alices", "api/nothing")
    assert (status, said["code"]) == (404, "pages.not-found")
    status, said = await asker.ask(None, "api/nothing")
    assert (status, said["code"]) == (403, "pages.forbidden")
    headers = {"Authorization": "token alices"}
    async with asker.session.get(f"http://pages{PREFIX}nothing", headers=headers) as answer:
        assert answer.status == 404
        assert "there is no such page" in await answer.text()
    url = f"http://pages{PREFIX.removesuffix('/')}"
    async with asker.session.get(url, allow_redirects=False) as answer:
        assert answer.headers["Location"] == PREFIX


@pytest.mark.asyncio
async def test_scripts_are_for_anyone_and_nothing_above_them(asker: Asker) -> None:
    for path, expected in (("home.js", 200), ("../__init__.py", 403), ("%2e%2e/build.py", 403)):
        async with asker.session.get(
            URL(f"http://pages{PREFIX}static/{path}", encoded=True)
        ) as answer:
            assert answer.status in {expected, 404}
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
