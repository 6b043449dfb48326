"""The adapter against a dockerd that misbehaves; what a good one does is in the contract."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from enforcer.adapters.docker import DockerEngine
from enforcer.adapters.dockerjson import (
    Event,
    parse_event,
    parse_inspect,
    parse_limits,
    parse_list,
    update_body,
)
from enforcer.errors import UnavailableError
from enforcer.model import LEASE_LABEL, Container, ContainerLimits
from enforcer.quantities import CORE, GIB, MIB, Bytes, Cpus
from tests.contract.docker_contract import following
from tests.unit.dockerd import Dockerd

A, B, C = ("a" * 64, "b" * 64, "c" * 64)
LEASE_ID = "0123456789abcdef" * 2
NOBODY = Container(id=A, name="listed", image="old", running=False, cgroup_parent="")
HUNG_SECONDS = 1.0  # where something hangs: every such test waits for it
PATIENCE_SECONDS = 20.0  # where all answer, on a computer that is busy


@asynccontextmanager
async def engine(
    path: Path, timeout_seconds: float = PATIENCE_SECONDS
) -> AsyncIterator[DockerEngine]:
    made = DockerEngine(path / "docker.sock", timeout_seconds=timeout_seconds)
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def followed(dockerd: Dockerd, path: Path) -> AsyncIterator[tuple[DockerEngine, list[str]]]:
    """Serve it, and follow its events from the first "" on: the engine, and what was told."""
    async with (
        dockerd.serving(path / "docker.sock"),
        engine(path) as docker,
        following(docker) as seen,
    ):
        yield docker, seen


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come about")


@pytest.mark.asyncio
async def test_without_events_every_container_is_inspected_every_time(tmp_path: Path) -> None:
    dockerd = Dockerd()
    dockerd.add(A)
    async with dockerd.serving(tmp_path / "docker.sock"), engine(tmp_path) as docker:
        for _ in range(2):
            assert (await docker.containers())[A].cgroup_parent == "a.slice"
    assert dockerd.asked[A] == 2


@pytest.mark.asyncio
async def test_with_events_only_what_changed_is_inspected(tmp_path: Path) -> None:
    dockerd = Dockerd()
    for one in (A, B, C):
        dockerd.add(one)
    async with followed(dockerd, tmp_path) as (docker, seen):
        await docker.containers()
        dockerd.add(B, Memory=GIB)
        await dockerd.tell_of(B)
        await until(lambda: B in seen)
        found = await docker.containers()
        await docker.containers()
    assert found[B].docker.memory == GIB
    assert (dockerd.asked[A], dockerd.asked[B], dockerd.asked["list"]) == (1, 2, 3)
    assert seen == ["", B]


@pytest.mark.asyncio
async def test_a_stream_that_breaks_off_is_taken_up_and_nothing_known_is_believed(
    tmp_path: Path,
) -> None:
    dockerd = Dockerd()
    dockerd.add(A)
    async with followed(dockerd, tmp_path) as (docker, seen):
        await docker.containers()
        await dockerd.end_streams()
        await until(lambda: seen == ["", ""])
        await docker.containers()
    assert dockerd.asked[A] == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["hung", "broken"])
async def test_one_container_that_cannot_be_inspected_does_not_hide_the_others(
    tmp_path: Path, how: str
) -> None:
    dockerd = Dockerd()
    for one in (A, B):
        dockerd.add(one)
    (dockerd.hung if how == "hung" else dockerd.broken).add(B)
    async with dockerd.serving(tmp_path / "docker.sock"), engine(tmp_path, HUNG_SECONDS) as docker:
        found = await docker.containers()
        assert set(found) == {A, B}
        assert found[B].running
        assert (found[A].cgroup_parent, found[B].cgroup_parent) == ("a.slice", "")
        assert (bool(found[A].unread), bool(found[B].unread)) == (False, True)
        began = time.monotonic()
        assert set(await docker.containers()) == {A, B}
        assert time.monotonic() - began < HUNG_SECONDS
        assert dockerd.asked[B] == 1


@pytest.mark.asyncio
async def test_one_that_dockerd_may_be_making_is_starting_the_first_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("enforcer.adapters.docker._UNREAD_SECONDS", 0.0)
    dockerd = Dockerd()
    dockerd.state = "created"
    for one in (A, B):
        dockerd.add(one)
    dockerd.hung.add(B)
    async with dockerd.serving(tmp_path / "docker.sock"), engine(tmp_path, HUNG_SECONDS) as docker:
        told = []
        for _ in range(2):
            found = (await docker.containers())[B]
            told.append((bool(found.unread), found.starting, len(caplog.records)))
    assert told == [(True, True, 0), (True, False, 1)]


@pytest.mark.asyncio
async def test_one_that_runs_by_now_is_starting_no_more_though_no_event_said_so(
    tmp_path: Path,
) -> None:
    dockerd = Dockerd()
    dockerd.state = "created"
    for one in (A, B):
        dockerd.add(one)
    dockerd.hung.add(B)
    async with dockerd.serving(tmp_path / "docker.sock"), engine(tmp_path, HUNG_SECONDS) as docker:
        assert (await docker.containers())[B].starting
        dockerd.state = "running"
        found = (await docker.containers())[B]
        assert (found.running, found.starting, bool(found.unread)) == (True, False, True)


@pytest.mark.asyncio
async def test_a_dockerd_that_hangs_altogether_is_an_error_in_time(tmp_path: Path) -> None:
    dockerd = Dockerd()
    for number in range(40):
        dockerd.add(f"{number:064x}")
        dockerd.hung.add(f"{number:064x}")
    began = time.monotonic()
    async with dockerd.serving(tmp_path / "docker.sock"), engine(tmp_path, HUNG_SECONDS) as docker:
        with pytest.raises(UnavailableError) as raised:
            await docker.containers()
        assert raised.value.code == "docker.timeout"
        dockerd.hung.add("list")
        with pytest.raises(UnavailableError) as raised:
            await docker.containers()
        assert raised.value.code == "docker.timeout"
        dockerd.hung.clear()
        assert len(await docker.containers()) == 40
    assert time.monotonic() - began < 10 * HUNG_SECONDS + 2


@pytest.mark.asyncio
async def test_a_dockerd_that_answers_nothing_but_errors_is_an_error(tmp_path: Path) -> None:
    dockerd = Dockerd()
    for number in range(40):
        dockerd.add(f"{number:064x}")
        dockerd.broken.add(f"{number:064x}")
    async with dockerd.serving(tmp_path / "docker.sock"), engine(tmp_path, HUNG_SECONDS) as docker:
        with pytest.raises(UnavailableError, match="layer does not exist") as raised:
            await docker.containers()
        assert raised.value.code == "docker.error"
        dockerd.broken.add("list")
        with pytest.raises(UnavailableError) as raised:
            await docker.containers()
        assert raised.value.code == "docker.error"
        dockerd.broken.clear()
        found = await docker.containers()
    assert {one.cgroup_parent for one in found.values()} == {"a.slice"}
    assert len(found) == 40


def _many(dockerd: Dockerd, how: str) -> list[str]:
    """Forty of which every other one cannot be inspected: return these."""
    ids = [f"{number:064x}" for number in range(40)]
    for one in ids:
        dockerd.add(one)
    (dockerd.hung if how == "hung" else dockerd.broken).update(ids[::2])
    return ids[::2]


@pytest.mark.asyncio
async def test_many_containers_that_are_broken_hide_no_other_however_often_asked(
    tmp_path: Path,
) -> None:
    dockerd = Dockerd()
    broken = _many(dockerd, "broken")
    async with followed(dockerd, tmp_path) as (docker, seen):
        for again in range(2):
            found = await docker.containers()
            assert {one for one in found if found[one].unread} == set(broken)
            assert "layer does not exist" in found[broken[0]].unread
            for one in broken[: 10 * (1 - again)]:  # the others are all known by now
                await dockerd.tell_of(one)
            await until(lambda: set(broken[:10]) <= set(seen))
    assert dockerd.asked[broken[0]] == 2
    assert dockerd.asked[broken[-1]] == 1


@pytest.mark.asyncio
async def test_many_broken_ones_are_dockerds_fault_if_what_it_knew_is_broken_too(
    tmp_path: Path,
) -> None:
    dockerd = Dockerd()
    for one in (A, B):
        dockerd.add(one)
    async with followed(dockerd, tmp_path) as (docker, _):
        await docker.containers()
        broken = _many(dockerd, "broken")
        dockerd.containers = {one: dockerd.containers[one] for one in (A, B, *broken)}
        dockerd.broken |= {A, B}
        with pytest.raises(UnavailableError, match="layer does not exist"):
            await docker.containers()
        dockerd.broken -= {A, B}
        found = await docker.containers()
    assert {one for one in found if not found[one].unread} == {A, B}


@pytest.mark.asyncio
async def test_many_broken_ones_of_which_none_runs_are_told_though_there_is_no_other(
    tmp_path: Path,
) -> None:
    dockerd = Dockerd()
    broken = _many(dockerd, "broken")
    dockerd.containers = {one: {**dockerd.containers[one], "State": {}} for one in broken}
    dockerd.state = "exited"
    async with dockerd.serving(tmp_path / "docker.sock"), engine(tmp_path) as docker:
        found = await docker.containers()
    assert all(found[one].unread and not found[one].running for one in broken)


@pytest.mark.asyncio
async def test_many_that_hang_delay_the_others_for_a_bounded_time(tmp_path: Path) -> None:
    dockerd = Dockerd()
    hung = set(_many(dockerd, "hung"))
    async with dockerd.serving(tmp_path / "docker.sock"), engine(tmp_path, HUNG_SECONDS) as docker:
        while not all(dockerd.asked[one] for one in hung):
            began = time.monotonic()
            assert len(await docker.containers()) == 40
            assert time.monotonic() - began < 2 * HUNG_SECONDS + 2
        found = await docker.containers()
        assert {one for one in found if found[one].unread} == hung
        began = time.monotonic()
        with pytest.raises(UnavailableError):
            await docker.update(min(hung), ContainerLimits())
        assert time.monotonic() - began < HUNG_SECONDS


@pytest.mark.asyncio
async def test_what_was_known_of_a_container_stays_known_when_it_cannot_be_inspected(
    tmp_path: Path,
) -> None:
    dockerd = Dockerd()
    dockerd.add(A)
    async with followed(dockerd, tmp_path) as (docker, seen):
        await docker.containers()
        dockerd.broken.add(A)
        await dockerd.tell_of(A)
        await until(lambda: A in seen)
        for _ in range(2):
            found = (await docker.containers())[A]
            assert (found.cgroup_parent, bool(found.unread)) == ("a.slice", True)
        await dockerd.end_streams()
        await until(lambda: seen.count("") == 2)
        assert (await docker.containers())[A].cgroup_parent == "a.slice"
        dockerd.broken.clear()
        await dockerd.tell_of(A)
        await until(lambda: seen.count(A) == 2)
        assert not (await docker.containers())[A].unread


@pytest.mark.asyncio
async def test_no_dockerd_is_an_error_and_one_that_comes_is_found(tmp_path: Path) -> None:
    dockerd = Dockerd()
    async with engine(tmp_path) as docker:
        with pytest.raises(UnavailableError) as raised:
            await docker.containers()
        assert raised.value.code == "docker.unreachable"
        first = asyncio.ensure_future(anext(docker.events()))
        await asyncio.sleep(0.05)
        async with dockerd.serving(tmp_path / "docker.sock"):
            assert await asyncio.wait_for(first, 5) == ""
            assert await docker.containers() == {}


@pytest.mark.asyncio
@pytest.mark.parametrize("nonsense", [b"", b"nonsense", b"\xff\xfe", b"[" * 100_000])
async def test_nonsense_in_place_of_a_list_is_an_error(tmp_path: Path, nonsense: bytes) -> None:
    dockerd = Dockerd()
    dockerd.nonsense = nonsense
    async with dockerd.serving(tmp_path / "docker.sock"), engine(tmp_path) as docker:
        with pytest.raises(UnavailableError) as raised:
            await docker.containers()
    assert raised.value.code == "docker.error"


@pytest.mark.asyncio
async def test_closing_does_not_wait_for_a_stream_that_hangs(tmp_path: Path) -> None:
    dockerd = Dockerd()
    dockerd.hung.add("events")
    async with dockerd.serving(tmp_path / "docker.sock"), engine(tmp_path, HUNG_SECONDS) as docker:
        follow = asyncio.ensure_future(anext(docker.events()))
        await until(lambda: dockerd.asked["events"] == 1)
        began = time.monotonic()
        follow.cancel()
        await asyncio.gather(follow, return_exceptions=True)
    assert time.monotonic() - began < 0.5


@pytest.mark.asyncio
async def test_an_event_of_any_size_costs_bounded_memory_and_is_not_lost(tmp_path: Path) -> None:
    dockerd = Dockerd()
    async with followed(dockerd, tmp_path) as (_, seen):
        for _ in range(3):
            await dockerd.tell(b"x" * (1 << 20))
        await dockerd.tell(b"\n")
        await dockerd.tell(b"\n")
        await dockerd.tell_of(A)
        await until(lambda: A in seen)
    assert seen == ["", "", A]


@pytest.mark.asyncio
async def test_an_update_of_a_container_that_ends_meanwhile_is_no_error(tmp_path: Path) -> None:
    dockerd = Dockerd()
    dockerd.add(A)
    dockerd.refuse_updates = "container is not running"
    limits = ContainerLimits(memory=Bytes(GIB))
    async with dockerd.serving(tmp_path / "docker.sock"), engine(tmp_path) as docker:
        with pytest.raises(UnavailableError, match="not running") as raised:
            await docker.update(A, limits)
        assert raised.value.code == "docker.error"
        dockerd.containers[A]["State"] = {"Running": False}
        assert not await docker.update(A, limits)
        assert not await docker.update(B, limits)
    assert len(dockerd.bodies) == 1


@pytest.mark.asyncio
async def test_a_container_whose_limit_is_a_quota_gets_a_quota(tmp_path: Path) -> None:
    dockerd = Dockerd()
    dockerd.add(A, CpuQuota=50_000, CpuPeriod=100_000)
    limits = ContainerLimits(cpu=Cpus(1_500_000), tasks=7)
    async with dockerd.serving(tmp_path / "docker.sock"), engine(tmp_path) as docker:
        assert await docker.update(A, limits)
    assert dockerd.bodies == [{"CpuPeriod": 100_000, "CpuQuota": 150_000, "PidsLimit": 7}]


@pytest.mark.parametrize(
    ("host", "limits"),
    [
        ({}, ContainerLimits()),
        ({"NanoCpus": 1_500_000_000}, ContainerLimits(cpu=Cpus(1_500_000))),
        ({"CpuQuota": 25_000, "CpuPeriod": 50_000}, ContainerLimits(cpu=Cpus(500_000))),
        ({"CpuQuota": 25_000}, ContainerLimits(cpu=Cpus(250_000))),
        ({"CpuQuota": -1, "CpuPeriod": 50_000}, ContainerLimits()),
        (
            {"Memory": GIB, "MemorySwap": 2 * GIB},
            ContainerLimits(memory=Bytes(GIB), swap=Bytes(GIB)),
        ),
        ({"Memory": GIB, "MemorySwap": GIB}, ContainerLimits(memory=Bytes(GIB), swap=Bytes(0))),
        ({"Memory": GIB, "MemorySwap": -1}, ContainerLimits(memory=Bytes(GIB))),
        ({"Memory": GIB}, ContainerLimits(memory=Bytes(GIB), swap=Bytes(GIB))),
        ({"MemorySwap": -1}, ContainerLimits()),
        ({"PidsLimit": None}, ContainerLimits()),
        ({"PidsLimit": 0}, ContainerLimits()),
        ({"PidsLimit": -1}, ContainerLimits()),
        ({"PidsLimit": 100}, ContainerLimits(tasks=100)),
        ({"CpusetCpus": "0-2"}, ContainerLimits(cpus="0-2")),
        ({"NanoCpus": "1", "Memory": True, "PidsLimit": 1.5}, ContainerLimits()),
    ],
)
def test_dockers_zero_and_minus_one_are_no_limit(
    host: dict[str, object], limits: ContainerLimits
) -> None:
    assert parse_limits(host) == limits


def test_memory_is_always_updated_together_with_swap() -> None:
    limits = ContainerLimits(cpu=CORE, memory=Bytes(64 * MIB), swap=Bytes(MIB), tasks=5)
    assert update_body(limits, by_quota=False) == {
        "NanoCpus": 1_000_000_000,
        "Memory": 64 * MIB,
        "MemorySwap": 65 * MIB,
        "PidsLimit": 5,
    }
    assert update_body(ContainerLimits(memory=Bytes(MIB)), by_quota=False) == {
        "Memory": MIB,
        "MemorySwap": -1,
        "PidsLimit": -1,
    }


def test_a_list_of_cpus_is_updated_where_there_is_one_to_set() -> None:
    body = update_body(ContainerLimits(tasks=5, cpus="0-3"), by_quota=False)
    assert body == {"PidsLimit": 5, "CpusetCpus": "0-3"}


@pytest.mark.parametrize(
    "label", ["", "x", LEASE_ID.upper(), LEASE_ID + "\n", LEASE_ID + "0", 7, None, ["a"]]
)
def test_a_label_that_is_no_leases_id_is_not_passed_on(label: object) -> None:
    raw = {"Config": {"Labels": {LEASE_LABEL: label}}}
    assert parse_inspect(raw, NOBODY).container.lease_id is None


def test_a_label_that_may_be_a_leases_id_is_passed_on() -> None:
    raw = {"Config": {"Labels": {LEASE_LABEL: LEASE_ID, "other": "x"}}}
    assert parse_inspect(raw, NOBODY).container.lease_id == LEASE_ID


@pytest.mark.parametrize("raw", [None, [], "x", {}, {"State": 7, "Config": [], "HostConfig": "x"}])
def test_an_inspect_that_says_nothing_leaves_what_was_listed(raw: object) -> None:
    assert parse_inspect(raw, NOBODY).container == NOBODY


def test_a_container_between_two_restarts_does_not_run() -> None:
    raw = {"State": {"Running": True, "Restarting": True, "Pid": 0}}
    container = parse_inspect(raw, NOBODY).container
    assert not container.running
    assert container.pid is None


@pytest.mark.parametrize("raw", [None, {}, "x", [None], [{}], [{"Id": "../../x"}], [{"Id": 7}]])
def test_a_list_entry_without_an_id_is_left_out(raw: object) -> None:
    assert parse_list(raw) == {}


def test_a_list_entry_says_what_it_can() -> None:
    listed = parse_list([{"Id": A, "Names": None, "Labels": None, "State": "paused"}])[A]
    assert listed.state == "paused"
    assert listed.container.running


@pytest.mark.parametrize(
    "line",
    [b"", b"x", b"[]", b"\xff", b"[" * 100_000, b'{"Actor": {"ID": "short"}}', b'{"Actor":1}'],
)
def test_an_event_that_cannot_be_read_may_be_any_containers(line: bytes) -> None:
    assert parse_event(line) == Event()


@pytest.mark.parametrize(
    ("action", "signal", "stops"),
    [
        ("kill", "15", True),
        ("kill", "9", True),
        ("kill", "1", False),
        ("kill", 9, False),
        ("kill", None, False),
        ("die", "9", False),
        (["kill"], "9", False),
    ],
)
def test_an_event_tells_its_container_and_whether_somebody_ends_it(
    action: object, signal: object, *, stops: bool
) -> None:
    actor = {"ID": A, "Attributes": {"signal": signal}}
    event = parse_event(json.dumps({"Actor": actor, "Action": action}).encode())
    assert (event.container_id, event.stops) == (A, stops)
