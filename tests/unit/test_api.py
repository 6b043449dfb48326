"""The API's routes, through a real Unix socket, against an in-memory controller."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from enforcer.api.problems import CONTENT_TYPE as PROBLEM_TYPE
from enforcer.api.types import Problem, Reply
from enforcer.errors import InvalidError
from enforcer.model import Config, EndReason, ReportDrift
from tests.apiserver import ALICE, BOB, HUB, ROOT, STRANGER, ApiUnderTest, serving
from tests.unit.configs import VALID, parse

NOWHERE = "f" * 32


def config(extra: str = "") -> Config:
    return parse(VALID + '\n[daemon]\nhub_users = ["hub"]\n' + extra)


class Caller:
    """Sends requests as whomever the test says, checks that each answer is one declared."""

    def __init__(self, under_test: ApiUnderTest) -> None:
        self.under_test = under_test
        self.operations = under_test.operations
        self.headers: Any = {}

    async def ask(
        self, method: str, target: str, body: object = None, *, uid: int = ROOT
    ) -> tuple[int, Any]:
        self.under_test.uid = uid
        raw = body.encode() if isinstance(body, str) else None if body is None else json.dumps(body)
        connector = aiohttp.UnixConnector(str(self.under_test.path))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, f"http://enforcer{target}", data=raw) as answer,
        ):
            text = await answer.read()
            self.headers = answer.headers
            if answer.status >= 400:
                assert answer.headers["Content-Type"] == PROBLEM_TYPE
                Problem.model_validate_json(text)
            return answer.status, json.loads(text) if text[:1] in {b"{", b"["} else text

    async def refused(
        self, method: str, target: str, body: object = None, *, uid: int = ROOT
    ) -> tuple[int, str]:
        status, said = await self.ask(method, target, body, uid=uid)
        return status, said["code"]

    async def claim(self, user: str = "alice", *, uid: int = HUB, **more: object) -> dict[str, Any]:
        status, said = await self.ask("POST", "/v1/leases", {"user": user, **more}, uid=uid)
        assert status in {200, 201, 202}, said
        return dict(said)


@pytest_asyncio.fixture
async def api(tmp_path: Path) -> AsyncIterator[Caller]:
    async with serving(config(), tmp_path) as under_test:
        yield Caller(under_test)


@pytest_asyncio.fixture
async def queueing(tmp_path: Path) -> AsyncIterator[Caller]:
    """Where there is room for one guarantee of 8 GiB in Tiny, and others wait."""
    text = VALID.replace("[resource_profiles.Large]", "mem_total = 3\n[resource_profiles.Large]")
    parsed = parse(text + '\n[admission]\nmode = "queue"\n[daemon]\nhub_users = ["hub"]\n')
    async with serving(parsed, tmp_path) as under_test:
        yield Caller(under_test)


@pytest.mark.asyncio
async def test_a_new_claim_is_201_with_its_placement_and_the_same_again_200(api: Caller) -> None:
    body = {"user": "alice", "profile": "Large", "cpu_limit": "150%", "mem_limit": "10 GiB"}
    status, first = await api.ask("POST", "/v1/leases", body, uid=HUB)
    assert status == 201
    assert first["cpu_limit"] == 1.5
    assert first["mem_limit"] == 10 * 2**30
    assert first["placement"]["cgroup_parent"] == "jupyter-workload-Large-alice-default.slice"
    assert first["placement"]["nano_cpus"] == 1_500_000_000
    assert "alice's server in profile Large: up to 1.5 cores and 10 GiB" in first["sentence"]
    status, again = await api.ask("POST", "/v1/leases", body, uid=HUB)
    assert status == 200
    assert again["id"] == first["id"]


@pytest.mark.asyncio
async def test_a_claim_that_has_to_wait_is_202_with_its_place(queueing: Caller) -> None:
    await queueing.claim("alice", profile="Tiny", mem_guarantee="2 GiB")
    status, said = await queueing.ask(
        "POST", "/v1/leases", {"user": "bob", "profile": "Tiny", "mem_guarantee": "2 GiB"}
    )
    assert status == 202
    assert said["state"] == "queued"
    assert said["queue"]["place"] == 1
    assert "1 GiB" in said["queue"]["sentence"]
    assert said["placement"] is None


@pytest.mark.asyncio
async def test_a_long_poll_answers_as_soon_as_the_queue_moves(queueing: Caller) -> None:
    first = await queueing.claim("alice", profile="Tiny", mem_guarantee="2 GiB")
    second = await queueing.claim("bob", profile="Tiny", mem_guarantee="2 GiB")
    target = f"/v1/leases/{second['id']}?wait_seconds=30&state=queued"
    waiting = asyncio.create_task(queueing.ask("GET", target))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await queueing.ask("DELETE", f"/v1/leases/{first['id']}")
    async with asyncio.timeout(5):
        status, said = await waiting
    assert (status, said["state"]) == (200, "pending")


@pytest.mark.asyncio
async def test_a_long_poll_ends_with_its_time(queueing: Caller) -> None:
    await queueing.claim("alice", profile="Tiny", mem_guarantee="2 GiB")
    second = await queueing.claim("bob", profile="Tiny", mem_guarantee="2 GiB")
    target = f"/v1/leases/{second['id']}?wait_seconds=0.05&state=queued"
    assert (await queueing.ask("GET", target))[1]["state"] == "queued"


@pytest.mark.asyncio
async def test_a_user_acts_for_nobody_else(api: Caller) -> None:
    lease = await api.claim("bob")
    assert await api.refused("POST", "/v1/leases", {"user": "bob"}, uid=ALICE) == (
        403,
        "peer.not-allowed",
    )
    one = f"/v1/leases/{lease['id']}"
    for method, target, body in (
        ("GET", one, None),
        ("GET", one + "/history", None),
        ("GET", one + "/bounds", None),
        ("DELETE", one, None),
        ("PATCH", one, {"cpu_limit": 1}),
    ):
        status, said = await api.ask(method, target, body, uid=ALICE)
        assert (status, said["code"]) == (404, "lease.not-found")
        nobodys = target.replace(lease["id"], NOWHERE)
        status, absent = await api.ask(method, nobodys, body, uid=ALICE)
        assert (status, absent) == (404, {**said, "detail": f"there is no lease {NOWHERE}"})
    for target in ("/v1/leases", "/v1/receipts", "/v1/explain", "/v1/catalogue"):
        assert await api.refused("GET", f"{target}?user=bob", uid=ALICE) == (
            403,
            "peer.not-allowed",
        )


@pytest.mark.asyncio
async def test_a_user_sees_and_changes_what_is_their_own(api: Caller) -> None:
    await api.claim("bob", uid=HUB)
    status, lease = await api.ask("POST", "/v1/leases", {"user": "alice"}, uid=ALICE)
    assert status == 201
    api.operations.tick()
    _, said = await api.ask("GET", "/v1/leases", uid=ALICE)
    assert [one["user"] for one in said["leases"]] == ["alice"]
    _, slices = await api.ask("GET", "/v1/slices", uid=ALICE)
    assert {one["kind"] for one in slices["slices"]} == {"user", "lease"}
    assert "bob" not in json.dumps(slices)
    _, status_said = await api.ask("GET", "/v1/status", uid=ALICE)
    assert [one["user"] for one in status_said["mine"]] == ["alice"]
    assert status_said["drift"] is None
    assert status_said["repairs"] is None
    assert (await api.ask("DELETE", f"/v1/leases/{lease['id']}", uid=ALICE))[0] == 204


@pytest.mark.asyncio
async def test_root_and_the_hub_see_everything(api: Caller) -> None:
    await api.claim("alice")
    await api.claim("bob")
    api.operations.tick()
    api.operations.open_drift = (
        ReportDrift(what="engine-outside", subject="docker.service", message="m", command="c"),
    )
    api.operations.tick()
    for uid in (ROOT, HUB):
        _, said = await api.ask("GET", "/v1/leases", uid=uid)
        assert {one["user"] for one in said["leases"]} == {"alice", "bob"}
        _, said = await api.ask("GET", "/v1/leases?user=bob", uid=uid)
        assert {one["user"] for one in said["leases"]} == {"bob"}
        _, said = await api.ask("GET", "/v1/status", uid=uid)
        assert said["privileged"]
        assert said["drift"][0]["what"] == "engine-outside"
        _, said = await api.ask("GET", "/v1/slices", uid=uid)
        assert [one["depth"] for one in said["slices"]][:3] == [0, 1, 1]


@pytest.mark.asyncio
async def test_a_uid_the_host_does_not_know_gets_nothing(api: Caller) -> None:
    for target in ("/v1/status", "/v1/openapi.json", "/metrics"):
        assert await api.refused("GET", target, uid=STRANGER) == (403, "peer.unknown")
    api.under_test.host.users["nobody"] = 65534
    assert await api.refused("GET", "/v1/status", uid=65534) == (403, "peer.unknown")


@pytest.mark.asyncio
async def test_groups_are_believed_from_root_and_the_hub_only(api: Caller) -> None:
    body = {"user": "alice", "groups": ["ml"]}
    assert await api.refused("POST", "/v1/leases", body, uid=ALICE) == (403, "peer.not-privileged")
    for path in ("/v1/catalogue", "/v1/explain"):
        found = await api.refused("GET", f"{path}?group=ml", uid=ALICE)
        assert found == (403, "peer.not-privileged"), path
        assert await api.refused("GET", f"{path}?group=a%0Ab") == (400, "name.invalid"), path
    assert (await api.ask("POST", "/v1/leases", body, uid=HUB))[0] == 201
    for path in ("/v1/catalogue", "/v1/explain"):
        assert (await api.ask("GET", f"{path}?user=alice&group=ml&group=bio", uid=HUB))[0] == 200


@pytest.mark.asyncio
async def test_the_metrics_tell_nobody_of_others_but_root_and_the_hub(api: Caller) -> None:
    await api.claim("bob")
    api.operations.tick()
    status, said = await api.ask("GET", "/metrics", uid=ALICE)
    assert (status, said["code"]) == (403, "peer.not-privileged")
    assert said["hint"] == "GET /v1/slices tells of what is your own"
    for uid in (ROOT, HUB):
        status, text = await api.ask("GET", "/metrics", uid=uid)
        assert status == 200
        assert b'user="bob"' in text


@pytest.mark.asyncio
async def test_only_root_reloads_and_plans(api: Caller) -> None:
    for uid in (ALICE, HUB):
        assert await api.refused("POST", "/v1/reload", uid=uid) == (403, "peer.not-root")
        assert await api.refused("POST", "/v1/plan", VALID, uid=uid) == (403, "peer.not-root")
    _, said = await api.ask("POST", "/v1/reload")
    assert said == {"changes": ["profile Large: mem_limit 40 GiB → 20 GiB"]}
    _, said = await api.ask("POST", "/v1/plan", VALID)
    assert said["changes"][0]["subject"] == "profile Large"


@pytest.mark.asyncio
async def test_a_bad_configuration_is_400_with_every_mistake(api: Caller) -> None:
    api.operations.reloading = InvalidError("config.invalid", "line 3: wrong\nline 4: wrong")
    status, said = await api.ask("POST", "/v1/reload")
    assert (status, said["code"]) == (400, "config.invalid")
    assert said["detail"] == "line 3: wrong\nline 4: wrong"
    assert await api.refused("POST", "/v1/plan", "not = [toml") == (400, "config.invalid")


@pytest.mark.asyncio
async def test_to_end_a_lease_twice_is_no_mistake_and_to_end_an_unknown_one_is(api: Caller) -> None:
    one = f"/v1/leases/{(await api.claim('alice'))['id']}"
    assert await api.ask("DELETE", one, uid=ALICE) == (204, b"")
    assert await api.ask("DELETE", one, uid=ALICE) == (204, b"")
    assert await api.refused("DELETE", one, uid=BOB) == (404, "lease.not-found")
    assert await api.refused("DELETE", f"/v1/leases/{NOWHERE}") == (404, "lease.not-found")
    assert await api.refused("DELETE", "/v1/leases/no-id") == (404, "lease.not-found")


@pytest.mark.asyncio
async def test_to_end_a_lease_that_ended_by_itself_is_no_mistake(api: Caller) -> None:
    lease = await api.claim("alice")
    await api.operations.release(lease["id"], EndReason.EXITED)
    assert (await api.ask("DELETE", f"/v1/leases/{lease['id']}", uid=ALICE))[0] == 204
    assert (await api.refused("DELETE", f"/v1/leases/{lease['id']}", uid=BOB))[0] == 404


@pytest.mark.asyncio
async def test_a_user_ends_no_lease_whose_container_runs(api: Caller) -> None:
    lease = await api.claim("alice")
    one = f"/v1/leases/{lease['id']}"
    api.operations.bind(lease["id"], "c1")
    status, said = await api.ask("DELETE", one, uid=ALICE)
    assert (status, said["code"], said["hint"]) == (409, "lease.running", "stop the server first")
    assert api.operations.book.get(lease["id"]) is not None
    api.operations.gone("c1")
    assert await api.ask("DELETE", one, uid=ALICE) == (204, b"")


@pytest.mark.parametrize("uid", [ROOT, HUB])
@pytest.mark.asyncio
async def test_root_and_the_hub_end_a_lease_whose_container_runs(api: Caller, uid: int) -> None:
    lease = await api.claim("alice")
    api.operations.bind(lease["id"], "c1")
    assert await api.ask("DELETE", f"/v1/leases/{lease['id']}", uid=uid) == (204, b"")


@pytest.mark.asyncio
async def test_a_user_leaves_the_queue(queueing: Caller) -> None:
    await queueing.claim("alice", profile="Tiny", mem_guarantee="2 GiB")
    queued = await queueing.claim("bob", profile="Tiny", mem_guarantee="2 GiB")
    assert queued["state"] == "queued"
    assert (await queueing.ask("DELETE", f"/v1/leases/{queued['id']}", uid=BOB))[0] == 204


@pytest.mark.asyncio
async def test_a_resize_changes_numbers_for_a_while(api: Caller) -> None:
    lease = await api.claim("alice", profile="Large", cpu_limit=2)
    target = f"/v1/leases/{lease['id']}"
    _, said = await api.ask("PATCH", target, {"cpu_limit": 4, "seconds": 60}, uid=HUB)
    assert said["cpu_limit"] == 4
    assert said["resized_until"] == api.operations.clock.now() + 60
    assert await api.refused("PATCH", target, {"cpu_limit": 99}) == (403, "limit.above-profile")
    assert await api.refused("PATCH", target, {"profile": "Tiny"}) == (400, "request.invalid")


@pytest.mark.asyncio
async def test_a_conflict_is_409_and_a_claim_without_room_too(api: Caller) -> None:
    lease = await api.claim("alice", profile="Large")
    api.operations.bind(lease["id"], "c1")
    body = {"user": "alice", "profile": "Tiny"}
    assert await api.refused("POST", "/v1/leases", body) == (409, "lease.bound")
    body = {"user": "alice", "server": "two", "profile": "Large"}
    assert await api.refused("POST", "/v1/leases", body) == (409, "admission.user-total")


@pytest.mark.asyncio
async def test_history_and_receipts_tell_of_what_was(api: Caller) -> None:
    lease = await api.claim("alice")
    api.operations.tick()
    api.operations.tick()
    _, said = await api.ask("GET", f"/v1/leases/{lease['id']}/history", uid=ALICE)
    assert said["lease_id"] == lease["id"]
    samples = said["samples"]
    assert samples
    assert not said["ended"]
    await api.ask("DELETE", f"/v1/leases/{lease['id']}", uid=ALICE)
    _, said = await api.ask("GET", "/v1/receipts?limit=5", uid=ALICE)
    assert said["receipts"][0]["lease_id"] == lease["id"]
    assert said["receipts"][0]["reason"] == "cancelled"
    assert "alice's server was withdrawn" in said["receipts"][0]["sentence"]
    assert (await api.ask("GET", "/v1/receipts", uid=BOB))[1] == {"receipts": []}
    target = f"/v1/leases/{lease['id']}/history"
    for uid in (ALICE, HUB, ROOT):
        _, said = await api.ask("GET", target, uid=uid)
        assert (said["ended"], said["samples"]) == (True, samples)
    anothers = await api.ask("GET", target, uid=BOB)
    del api.operations.samples[lease["id"]]
    gone = await api.ask("GET", target, uid=ALICE)
    assert gone == anothers
    assert (gone[0], gone[1]["code"]) == (404, "lease.not-found")
    assert "kept for 900 s after its end" in gone[1]["hint"]


@pytest.mark.asyncio
async def test_the_catalogue_says_what_fits(queueing: Caller) -> None:
    await queueing.claim("alice", profile="Tiny", mem_guarantee="2 GiB")
    queueing.operations.tick()
    _, said = await queueing.ask("GET", "/v1/catalogue?user=bob", uid=HUB)
    tiny, large = said["profiles"]
    assert (tiny["name"], tiny["fits"]) == ("Tiny", False)
    assert tiny["sentence"].startswith("would wait: asked for 2 GiB guaranteed")
    assert large["fits"]
    assert said["bounds"]["cpu_limit"] == 10
    assert said["home"] == "/media/daten/bob"
    assert "alice" not in json.dumps(said)


@pytest.mark.asyncio
async def test_explain_tells_of_oneself(api: Caller) -> None:
    _, said = await api.ask("GET", "/v1/explain", uid=ALICE)
    assert said["summary"] == "alice's server has no lease"
    await api.claim("alice")
    api.operations.tick()
    _, said = await api.ask("GET", "/v1/explain", uid=ALICE)
    assert said["levels"][0]["title"] == "alice's server"
    assert said["lease"]["user"] == "alice"


@pytest.mark.asyncio
async def test_explain_tells_of_the_hubs_groups_those_named_or_those_of_the_claim(
    tmp_path: Path,
) -> None:
    groups = "[group_profiles.ml]\nservers_max = 3\n[group_profiles.bio]\nservers_max = 5\n"
    async with serving(config(groups), tmp_path) as under_test:
        api = Caller(under_test)

        async def told(query: str) -> tuple[str, str]:
            _, said = await api.ask("GET", f"/v1/explain?user=alice{query}", uid=HUB)
            right = next(one for one in said["rights"] if one["key"] == "servers_max")
            return right["value"], right["source"]

        assert await told("") == ("no limit", "nowhere given")
        assert await told("&group=ml") == ("3", "group ml")
        assert await told("&group=ml&group=bio") == ("5", "group ml, group bio")
        await api.claim("alice", groups=["ml"])
        assert await told("") == ("3", "group ml")
        assert await told("&group=bio") == ("5", "group bio")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "request.invalid"),
        ({"user": ""}, "name.invalid"),
        ({"user": "a\nb"}, "name.invalid"),
        ({"user": "a\0b"}, "name.invalid"),
        ({"user": "x" * 256}, "name.invalid"),
        ({"user": "\ud800"}, "name.invalid"),
        ({"user": 5}, "request.invalid"),
        ({"user": "alice", "profile": ""}, "name.invalid"),
        ({"user": "alice", "cpu_limit": 0}, "limit.not-positive"),
        ({"user": "alice", "mem_limit": 0}, "limit.not-positive"),
        ({"user": "alice", "cpu_limit": -1}, "quantity.invalid"),
        ({"user": "alice", "mem_limit": -1}, "quantity.invalid"),
        ({"user": "alice", "cpu_limit": True}, "quantity.invalid"),
        ({"user": "alice", "mem_limit": True}, "quantity.invalid"),
        ({"user": "alice", "mem_limit": 1.5}, "quantity.invalid"),
        ({"user": "alice", "mem_limit": "10"}, "quantity.invalid"),
        ({"user": "alice", "mem_limit": "10 %"}, "quantity.invalid"),
        ({"user": "alice", "cpu_limit": 10**30}, "quantity.invalid"),
        ({"user": "alice", "mem_limit": 2**63}, "quantity.invalid"),
        ({"user": "alice", "cpu_limit": [1]}, "quantity.invalid"),
        ({"user": "alice", "cpu_limit": {"a": 1}}, "quantity.invalid"),
        ({"user": "alice", "groups": "ml"}, "request.invalid"),
        ({"user": "alice", "groups": ["a\n"]}, "name.invalid"),
        ({"user": "alice", "cpus": 2}, "request.invalid"),
        ('{"user": "alice", "cpu_limit": NaN}', "request.not-json"),
        ('{"user": "alice", "cpu_limit": Infinity}', "request.not-json"),
        ('{"user": "alice", "cpu_limit": 1e400}', "quantity.invalid"),
        ('{"user": "alice", "cpu_limit": ' + "9" * 5000 + "}", "request.not-json"),
        ('{"user": "alice", "user": "bob"}', "request.not-json"),
        ("[" * 60_000, "request.not-json"),
        ('{"a":' * 10_000, "request.not-json"),
        ("", "request.not-json"),
        ("null", "request.not-json"),
        ('"alice"', "request.not-json"),
    ],
)
@pytest.mark.asyncio
async def test_a_claim_of_a_wrong_form_is_400_and_leaves_nothing(
    api: Caller, body: object, code: str
) -> None:
    assert await api.refused("POST", "/v1/leases", body) == (400, code)
    assert not api.operations.book.leases


@pytest.mark.asyncio
async def test_every_mistake_of_a_claim_is_told_at_once(api: Caller) -> None:
    body = {"user": "alice", "cpu_limit": 0, "mem_limit": "ten", "cpu": 1}
    _, said = await api.ask("POST", "/v1/leases", body)
    assert said["code"] == "request.invalid"
    for part in ("cpu_limit: a limit of 0", "mem_limit: 'ten'", "cpu: is no key"):
        assert part in said["detail"]


@pytest.mark.parametrize(
    "target",
    [
        "/v1/leases?user=alice&user=bob",
        "/v1/leases?usr=alice",
        "/v1/leases?user",
        "/v1/status?x=1",
        "/v1/receipts?limit=-1",
        "/v1/receipts?limit=nan",
        "/v1/receipts?limit=1001",
        "/v1/receipts?limit=1e400",
    ],
)
@pytest.mark.asyncio
async def test_a_query_that_makes_no_sense_is_400(api: Caller, target: str) -> None:
    assert await api.refused("GET", target) == (400, "query.invalid")


@pytest.mark.asyncio
async def test_a_wait_is_bounded_and_its_state_must_be_one(api: Caller) -> None:
    one = f"/v1/leases/{(await api.claim())['id']}"
    for query in ("wait_seconds=61", "wait_seconds=-1", "wait_seconds=inf", "state=asleep"):
        assert await api.refused("GET", f"{one}?{query}") == (400, "query.invalid")


@pytest.mark.asyncio
async def test_unknown_paths_and_methods_are_problems_too(api: Caller) -> None:
    assert await api.refused("GET", "/v2/status") == (404, "route.unknown")
    assert await api.refused("PUT", "/v1/leases") == (405, "method.not-allowed")
    assert set(api.headers["Allow"].split(",")) == {"GET", "POST"}


@pytest.mark.asyncio
async def test_no_answer_names_a_version_of_the_server(api: Caller) -> None:
    for target in ("/v1/status", "/nowhere", "/metrics"):
        await api.ask("GET", target)
        assert api.headers["Server"] == "enforcer"


@pytest.mark.asyncio
async def test_what_nobody_foresaw_is_a_500_that_tells_nothing(
    api: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    api.operations.groups = {"alice": 5}  # type: ignore[dict-item] # a mistake of ours
    status, said = await api.ask("GET", "/v1/catalogue", uid=ALICE)
    assert (status, said["code"]) == (500, "internal")
    assert "int" not in said["detail"]
    assert "TypeError" in caplog.text


@pytest.mark.asyncio
async def test_every_change_is_logged_with_who_did_it(
    api: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="enforcer.api"):
        await api.claim("alice")
        await api.refused("POST", "/v1/leases", {"user": "bob"}, uid=ALICE)
        await api.ask("GET", "/v1/status")
    lines = [record for record in caplog.records if record.name == "enforcer.api.server"]
    assert [one.getMessage() for one in lines] == [
        f"claim: uid={HUB} peer=hub code=ok status=201",
        f"claim: uid={ALICE} peer=alice code=peer.not-allowed status=403",
    ]
    assert (vars(lines[1])["uid"], vars(lines[1])["code"]) == (ALICE, "peer.not-allowed")


@pytest.mark.asyncio
async def test_a_claim_is_finished_though_its_peer_hung_up(api: Caller) -> None:
    api.operations.claiming.clear()
    asking = asyncio.create_task(api.ask("POST", "/v1/leases", {"user": "alice"}))
    await asyncio.sleep(0.05)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    api.operations.claiming.set()
    await asyncio.sleep(0.05)
    assert [one.user for one in api.operations.book.leases] == ["alice"]


@pytest.mark.asyncio
async def test_every_route_answers_as_the_table_declares(api: Caller) -> None:
    lease = await api.claim("alice")
    api.operations.tick()
    bodies: dict[str, object] = {
        "claim": {"user": "bob"},
        "resize": {"cpu_limit": 1},
        "plan": VALID,
    }
    # ending the lease comes last
    for route in sorted(api.under_test.api.routes, key=lambda one: one.name == "release"):
        target = route.path.replace("{lease_id}", lease["id"])
        status, said = await api.ask(route.method, target, bodies.get(route.name))
        declared = route.answers[status]
        if isinstance(declared, type) and issubclass(declared, Reply):
            declared.model_validate_json(json.dumps(said))
            assert set(said) == set(declared.model_fields)
        elif declared is None:
            assert said == b""
        else:
            assert api.headers["Content-Type"].startswith(declared)


@pytest.mark.asyncio
async def test_a_peer_that_waits_does_not_hold_up_the_daemons_end(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with serving(config(), tmp_path) as under_test:
        caller = Caller(under_test)
        one = f"/v1/leases/{(await caller.claim())['id']}"
        waiting = asyncio.create_task(caller.ask("GET", f"{one}?wait_seconds=60&state=pending"))
        await asyncio.sleep(0.05)
        began = loop.time()
    with pytest.raises(aiohttp.ClientError):
        await waiting
    assert loop.time() - began < 10
