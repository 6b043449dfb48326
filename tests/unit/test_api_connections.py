"""What a peer can do to the API's sockets without harming anybody else."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from enforcer.api.connections import Bounds, Register
from enforcer.api.server import Server, metrics_app
from enforcer.metrics import Metrics
from tests.apiserver import ALICE, BOB, HUB, ROOT, ApiUnderTest, hang_up, serving
from tests.fakes_operations import FakeOperations
from tests.unit.configs import VALID, parse

CONFIG = parse(VALID + '\n[daemon]\nhub_users = ["hub"]\n')
GET = b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
HASTY = Bounds(header_seconds=0.1, idle_seconds=0.3)
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest_asyncio.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiUnderTest]:
    async with serving(CONFIG, tmp_path) as under_test:
        yield under_test


@pytest_asyncio.fixture
async def hasty(tmp_path: Path) -> AsyncIterator[ApiUnderTest]:
    async with serving(CONFIG, tmp_path, HASTY) as under_test:
        yield under_test


async def status_of(api: ApiUnderTest) -> int:
    """The status of a whole request on a connection of its own; 0 if it is hung up on."""
    answer = await api.say(LAST)
    return int(answer.split()[1]) if answer else 0


async def answer_of(reader: asyncio.StreamReader) -> int:
    """Read one answer of a kept connection; return its status."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = next(line for line in head.splitlines() if line.startswith("Content-Length"))
    await reader.readexactly(int(length.split()[1]))
    return int(head.split()[1])


async def closed(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(5):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


def problem(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert b"aiohttp" not in head
    assert b"Python" not in head
    return int(head.split()[1]), json.loads(body)["code"]


@pytest.mark.asyncio
async def test_a_thousand_held_connections_of_a_user_do_not_lock_others_out(
    api: ApiUnderTest,
) -> None:
    api.uid = ALICE
    held = [await api.connect() for _ in range(1000)]
    await asyncio.sleep(0.2)
    assert api.register.total == api.register.bounds.per_uid
    for uid in (ROOT, HUB, BOB):
        api.uid = uid
        assert await status_of(api) == 200
    api.uid = ALICE
    assert problem(await api.say(LAST)) == (503, "connections.too-many")
    await hang_up(*(writer for _, writer in held))
    await asyncio.sleep(0.2)
    assert api.register.total == 0
    assert await status_of(api) == 200


@pytest.mark.asyncio
async def test_many_users_together_leave_room_for_the_hub(tmp_path: Path) -> None:
    bounds = Bounds(total=12, per_uid=2, reserved=4)
    async with serving(CONFIG, tmp_path, bounds) as api:
        held: list[Streams] = []
        for uid in range(2000, 2010):
            api.uid = uid
            held += [await api.connect() for _ in range(3)]
            await asyncio.sleep(0.02)
        assert api.register.total == 8
        api.uid = HUB
        held += [await api.connect() for _ in range(3)]
        await asyncio.sleep(0.05)
        assert await status_of(api) == 200
        await hang_up(*(writer for _, writer in held))


@pytest.mark.asyncio
async def test_a_header_that_dawdles_ends_the_connection(hasty: ApiUnderTest) -> None:
    silent, dawdling = await hasty.connect(), await hasty.connect()
    dawdling[1].write(b"GET /v1/status HTTP/1.1\r\n")

    async def drip() -> None:
        while True:
            dawdling[1].write(b"X-A: b\r\n")
            await asyncio.sleep(0.02)

    dripping = asyncio.create_task(drip())
    assert await closed(silent[0]) == b""
    assert await closed(dawdling[0]) == b""
    dripping.cancel()
    await asyncio.gather(dripping, return_exceptions=True)
    await hang_up(silent[1], dawdling[1])
    assert hasty.register.total == 0


@pytest.mark.asyncio
async def test_a_kept_connection_may_rest_longer_than_a_header_may_take(
    hasty: ApiUnderTest,
) -> None:
    reader, writer = await hasty.connect()
    for _ in range(2):
        writer.write(GET)
        assert await answer_of(reader) == 200
        await asyncio.sleep(0.2)
    await closed(reader)
    await hang_up(writer)


@pytest.mark.asyncio
async def test_the_second_header_of_a_kept_connection_may_not_dawdle_either(
    hasty: ApiUnderTest,
) -> None:
    reader, writer = await hasty.connect()
    writer.write(GET)
    assert await answer_of(reader) == 200
    began = asyncio.get_running_loop().time()
    writer.write(b"GET /v1")
    await closed(reader)
    assert asyncio.get_running_loop().time() - began < HASTY.idle_seconds
    await hang_up(writer)


@pytest.mark.asyncio
async def test_a_slow_answer_is_no_dawdling_header(hasty: ApiUnderTest) -> None:
    hasty.operations.claiming.clear()
    body = b'{"user": "alice"}'
    head = b"POST /v1/leases HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 17\r\n\r\n"
    asking = asyncio.create_task(hasty.say(head + body))
    await asyncio.sleep(0.4)
    hasty.operations.claiming.set()
    assert (await asking).startswith(b"HTTP/1.1 201")


@pytest.mark.asyncio
async def test_who_hangs_up_in_the_middle_keeps_the_place_until_it_is_answered(
    api: ApiUnderTest,
) -> None:
    api.operations.claiming.clear()
    body = b'{"user": "alice"}'
    _, writer = await api.connect()
    writer.write(b"POST /v1/leases HTTP/1.1\r\nHost: x\r\nContent-Length: 17\r\n\r\n" + body)
    await asyncio.sleep(0.05)
    await hang_up(writer)
    await asyncio.sleep(0.05)
    assert api.register.total == 1
    api.operations.claiming.set()
    await asyncio.sleep(0.05)
    assert api.register.total == 0


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nBad Header: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"\0" * 100 + b"\r\n\r\n",
    ],
)
@pytest.mark.asyncio
async def test_what_is_no_http_is_a_problem_and_the_next_request_is_answered(
    api: ApiUnderTest, raw: bytes
) -> None:
    status, code = problem(await api.say(raw))
    assert (status // 100, code) == (4, "request.malformed")
    assert await status_of(api) == 200


@pytest.mark.asyncio
async def test_a_truncated_request_leaves_nothing(api: ApiUnderTest) -> None:
    head = b"POST /v1/leases HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
    await api.say(head + b'{"user": "al', end=True)
    await api.say(b"POST /v1/lea", end=True)
    assert not api.operations.book.leases
    assert await status_of(api) == 200
    assert api.register.total == 0


@pytest.mark.parametrize("lie", [b"Content-Length: 70000", b"Transfer-Encoding: chunked"])
@pytest.mark.asyncio
async def test_a_body_that_is_too_large_is_413_however_it_comes(
    api: ApiUnderTest, lie: bytes
) -> None:
    body = b'{"user": "' + b"a" * 69_988 + b'"}'
    if lie.startswith(b"Transfer"):
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    raw = b"POST /v1/leases HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + lie + b"\r\n\r\n" + body
    assert problem(await api.say(raw)) == (413, "request.too-large")


@pytest.mark.asyncio
async def test_a_plan_may_have_a_mebibyte_and_no_more(api: ApiUnderTest) -> None:
    for size, code in ((1 << 20, "config.invalid"), ((1 << 20) + 1, "request.too-large")):
        head = b"POST /v1/plan HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        raw = head + b"Content-Length: %d\r\n\r\n" % size + b"x" * size
        assert problem(await api.say(raw))[1] == code


@pytest.mark.parametrize(
    ("target", "body"),
    [
        (b"/v1/leases?user=%ff", b""),
        (b"/v1/leases?user=\xff", b""),
        (b"/v1/leases?%ff=a", b""),
        (b"/v1/leases", b'{"user": "\xff"}'),
    ],
)
@pytest.mark.asyncio
async def test_what_is_no_utf8_is_400(api: ApiUnderTest, target: bytes, body: bytes) -> None:
    method = b"POST" if body else b"GET"
    head = b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    status, code = problem(await api.say(method + b" " + target + head + body))
    assert (status, code) in {(400, "request.not-utf8"), (400, "request.malformed")}


@pytest.mark.asyncio
async def test_a_compressed_body_is_not_unpacked(api: ApiUnderTest) -> None:
    body = b"\x1f\x8b" + b"\xff" * 30
    head = b"POST /v1/leases HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Encoding: gzip\r\n"
    raw = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    assert problem(await api.say(raw)) == (400, "request.not-utf8")


@pytest.mark.asyncio
async def test_only_100_continue_can_be_expected(api: ApiUnderTest) -> None:
    head = b"GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: "
    assert problem(await api.say(head + b"miracles\r\n\r\n")) == (417, "request.malformed")
    assert (await api.say(head + b"100-continue\r\n\r\n")).startswith(b"HTTP/1.1 100 Continue")


@pytest.mark.asyncio
async def test_the_uid_is_the_one_of_the_socket(api: ApiUnderTest) -> None:
    api.uid = None
    api.host.users["me"] = os.getuid()
    name = "root" if os.getuid() == 0 else "me"
    _, _, body = (await api.say(LAST)).partition(b"\r\n\r\n")
    assert json.loads(body)["user"] == name


@pytest.mark.asyncio
async def test_on_tcp_there_are_the_metrics_and_nothing_else() -> None:
    operations = FakeOperations(CONFIG)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    register = Register(Bounds(total=8, per_uid=8, reserved=0), lambda _: False)
    server = Server(metrics_app(Metrics(operations.published)), register)
    await server.start(listener)
    # aiodns, where it is installed, keeps descriptors open after its session's end
    connector = aiohttp.TCPConnector(resolver=aiohttp.ThreadedResolver())
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector) as session:
        for method, target, status in (
            ("GET", "/metrics", 200),
            ("GET", "/", 200),
            ("GET", "/v1/status", 404),
            ("POST", "/metrics", 405),
        ):
            async with session.request(method, target) as answer:
                assert answer.status == status
                assert answer.headers["Server"] == "enforcer"
    await server.stop()


@pytest.mark.asyncio
async def test_a_crowd_that_waits_to_be_turned_away_is_not_all_that_the_daemon_does(
    tmp_path: Path,
) -> None:
    nobody = Bounds(total=1, per_uid=0, reserved=0)
    async with serving(CONFIG, tmp_path, nobody) as api:
        api.uid = ALICE
        crowd = [socket.socket(socket.AF_UNIX) for _ in range(100)]
        for one in crowd:  # they are all there before the door sees the first
            one.connect(str(api.path))
        turns = 0
        while api.register.refused < len(crowd):
            await asyncio.sleep(0)
            turns += 1
        for one in crowd:
            one.close()
    assert turns >= len(crowd) // 2
