"""Both clients against the real server, and against what is no server."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest
import pytest_asyncio

from enforcer.api.types import ExplainReply
from enforcer.asyncclient import AsyncClient
from enforcer.client import Client
from enforcer.errors import (
    ConflictError,
    EnforcerError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from enforcer.model import Claim, LeaseState, Resize
from enforcer.quantities import GIB, Bytes, Cpus
from tests.apiserver import ALICE, ApiUnderTest, serving
from tests.unit.configs import VALID, parse

T = TypeVar("T")
ALICES = Claim(user="alice", profile="Large", cpu_limit=Cpus(1_234_567), mem_limit=Bytes(10 * GIB))


@pytest_asyncio.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiUnderTest]:
    async with serving(parse(VALID), tmp_path) as under_test:
        yield under_test


async def blocking(api: ApiUnderTest, use: Callable[[Client], T]) -> T:
    """Use a blocking client in a thread, as its server lives in this one."""

    def run() -> T:
        with Client(str(api.path), 5) as client:
            return use(client)

    return await asyncio.to_thread(run)


@contextmanager
def answering(path: Path, *answers: bytes) -> Iterator[str]:
    """Listen, and answer each connection's first bytes with the next of `answers`."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        for answer in answers:
            connection, _ = listener.accept()
            connection.recv(65536)
            connection.sendall(answer)
            connection.close()

    serving_thread = threading.Thread(target=serve, daemon=True)
    serving_thread.start()
    try:
        yield str(path)
    finally:
        serving_thread.join(5)
        listener.close()


@pytest.mark.asyncio
async def test_a_lease_lives_its_life_through_the_blocking_client(api: ApiUnderTest) -> None:
    def use(client: Client) -> None:
        lease = client.claim(ALICES)
        assert lease.state is LeaseState.PENDING
        assert lease.cpu_limit == 1.234567
        assert lease.placement is not None
        assert client.lease(lease.id).id == lease.id
        assert client.resize(lease.id, Resize(cpu_limit=Cpus(2_000_000))).cpu_limit == 2
        assert [one.user for one in client.leases()] == ["alice"]
        assert client.catalogue("bob").profiles[0].name == "Tiny"
        assert client.explain("alice", groups=["ml"]).levels
        assert client.history(lease.id).samples == []
        assert client.bounds(lease.id).cpu_limit == 10
        assert client.status().machine.capacity.cpu == 40
        assert client.slices().slices
        assert client.reload()
        assert client.plan(VALID)
        client.release(lease.id)
        client.release(lease.id)
        assert client.receipts("alice")[0].lease_id == lease.id

    await blocking(api, use)
    await asyncio.sleep(0.05)
    assert api.register.total == 0


@pytest.mark.asyncio
async def test_a_lease_lives_its_life_through_the_async_client(api: ApiUnderTest) -> None:
    async with AsyncClient(str(api.path), 5) as client:
        lease = await client.claim(ALICES)
        assert (await client.lease(lease.id, 0.01, LeaseState.PENDING)).id == lease.id
        assert (await client.resize(lease.id, Resize(mem_limit=Bytes(GIB)))).mem_limit == GIB
        assert (await client.leases("alice"))[0].id == lease.id
        assert (await client.catalogue("alice", groups=["ml"])).user == "alice"
        assert (await client.explain("alice", "two", ["ml"])).lease is None
        assert (await client.history(lease.id)).lease_id == lease.id
        assert (await client.bounds(lease.id)).mem_limit == 40 * GIB
        assert (await client.status()).privileged
        assert (await client.slices()).slices
        await client.release(lease.id)
        assert (await client.receipts())[0].user == "alice"
    await asyncio.sleep(0.05)
    assert api.register.total == 0


@pytest.mark.asyncio
async def test_hostile_names_arrive_as_they_were_sent(api: ApiUnderTest) -> None:
    def explain(name: str, other: Client) -> ExplainReply:
        return other.explain(name, name)

    async with AsyncClient(str(api.path), 5) as client:
        for name in ("a&b=c?d#e", "ä ö", "a%2Fb", "a-b@c+d", "\N{SNOWMAN}" * 60):
            told = await blocking(api, partial(explain, name))
            assert (told.user, told.server) == (name, name)
            assert await client.explain(name, name) == told
            assert (await client.claim(Claim(user=name, profile="Tiny"))).user == name


@pytest.mark.asyncio
async def test_the_daemons_errors_are_raised_again(api: ApiUnderTest) -> None:
    async def error(use: Callable[[Client], object]) -> EnforcerError:
        with pytest.raises(EnforcerError) as caught:
            await blocking(api, use)
        return caught.value

    found = await error(lambda client: client.lease("f" * 32))
    assert (type(found), found.code) == (NotFoundError, "lease.not-found")
    assert "there is no lease" in found.message
    found = await error(lambda client: client.lease("../../etc"))
    assert (type(found), found.code) == (NotFoundError, "lease.not-found")
    found = await error(lambda client: client.claim(Claim(user="a\0b")))
    assert (type(found), found.code) == (InvalidError, "name.invalid")
    found = await error(lambda client: client.catalogue("\udcff"))
    assert (type(found), found.code) == (InvalidError, "request.not-utf8")
    found = await error(lambda client: client.plan("\udcff"))
    assert (type(found), found.code) == (InvalidError, "request.not-utf8")
    lease = await blocking(api, lambda client: client.claim(ALICES))
    big = Claim(user="alice", server="2", profile="Large", cpu_limit=Cpus(9_000_000))
    found = await error(lambda client: client.claim(big))
    assert (type(found), found.code) == (RefusedError, "admission.user-total")
    api.operations.bind(lease.id, "c")
    found = await error(lambda client: client.claim(Claim(user="alice", profile="Tiny")))
    assert (type(found), found.code) == (ConflictError, "lease.bound")
    api.uid = ALICE
    found = await error(lambda client: client.reload())
    assert (type(found), found.code) == (ForbiddenError, "peer.not-root")


@pytest.mark.asyncio
async def test_a_user_with_too_many_connections_is_told_so(api: ApiUnderTest) -> None:
    api.uid = ALICE
    held = [await api.connect() for _ in range(api.register.bounds.per_uid)]
    await asyncio.sleep(0.05)
    with pytest.raises(UnavailableError) as caught:
        await blocking(api, lambda client: client.status())
    assert caught.value.code == "connections.too-many"
    async with AsyncClient(str(api.path), 5) as client:
        with pytest.raises(UnavailableError) as caught:
            await client.status()
    assert caught.value.code in {"connections.too-many", "daemon.unreachable"}
    for _, writer in held:
        writer.close()
        await writer.wait_closed()


def unreachable(use: Callable[[], object]) -> str:
    with pytest.raises(UnavailableError) as caught:
        use()
    assert caught.value.code == "daemon.unreachable"
    assert "systemctl status enforcer" in caught.value.hint
    return caught.value.message


def test_no_socket_is_a_daemon_that_cannot_be_reached(tmp_path: Path) -> None:
    path = str(tmp_path / "none.sock")
    assert "there is no such socket" in unreachable(lambda: Client(path).status())
    assert "there is no such socket" in unreachable(lambda: asyncio.run(_status(path)))


def test_a_socket_nobody_listens_on_is_one_too(tmp_path: Path) -> None:
    path = str(tmp_path / "dead.sock")
    dead = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    dead.bind(path)
    dead.close()
    assert "nobody listens there" in unreachable(lambda: Client(path).status())
    assert "nobody listens there" in unreachable(lambda: asyncio.run(_status(path)))


def test_a_daemon_that_hangs_is_one_too(tmp_path: Path) -> None:
    path = str(tmp_path / "hung.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as hung:
        hung.bind(path)
        hung.listen()
        client = Client(path, 0.1)
        assert "does not answer in time" in unreachable(client.status)
        assert "does not answer in time" in unreachable(lambda: asyncio.run(_status(path, 0.1)))


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_an_answer_that_is_not_the_daemons_is_told_apart(tmp_path: Path, answer: bytes) -> None:
    with (
        answering(tmp_path / "other.sock", answer) as path,
        pytest.raises(UnavailableError) as caught,
        Client(path, 2) as client,
    ):
        client.status()
    assert caught.value.code == "daemon.unintelligible"


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2\r\n", b""])
def test_what_is_no_http_server_is_unreachable(tmp_path: Path, answer: bytes) -> None:
    with answering(tmp_path / "other.sock", answer) as path, Client(path, 2) as client:
        unreachable(client.status)


@pytest.mark.asyncio
async def test_a_kept_connection_that_was_closed_is_opened_again(tmp_path: Path) -> None:
    def twice(client: Client) -> None:
        client.status()
        asyncio.run_coroutine_threadsafe(restart(), loop).result(5)
        client.status()

    loop = asyncio.get_running_loop()
    first = serving(parse(VALID), tmp_path)
    second = serving(parse(VALID), tmp_path)

    async def restart() -> None:
        await first.__aexit__(None, None, None)
        (tmp_path / "api.sock").unlink()
        await second.__aenter__()

    api = await first.__aenter__()
    await blocking(api, twice)
    await second.__aexit__(None, None, None)


async def _status(path: str, seconds: float = 5) -> None:
    async with AsyncClient(path, seconds) as client:
        await client.status()


@contextmanager
def crowded(path: Path) -> Iterator[socket.socket]:
    """A listening socket whose queue is full until somebody accepts."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        listener.listen(0)
        first.connect(str(path))
        yield listener


def accept_and_answer(listener: socket.socket) -> None:
    """Let the one that is there in, and hang up on them; answer the next."""
    listener.accept()[0].close()
    taken, _ = listener.accept()
    with taken:
        taken.recv(65536)
        taken.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"leases":[]}')


def test_a_blocking_client_waits_where_the_queue_is_full(tmp_path: Path) -> None:
    with crowded(tmp_path / "sock") as listener, Client(str(tmp_path / "sock"), 0.2) as hasty:
        with pytest.raises(UnavailableError, match="does not answer in time"):
            hasty.leases()
        later = threading.Timer(0.2, accept_and_answer, [listener])
        later.start()
        with Client(str(tmp_path / "sock"), 5) as patient:
            assert patient.leases() == ()
        later.join()


@pytest.mark.asyncio
async def test_an_async_client_waits_where_the_queue_is_full(tmp_path: Path) -> None:
    with crowded(tmp_path / "sock") as listener:
        async with AsyncClient(str(tmp_path / "sock"), 0.2) as hasty:
            with pytest.raises(UnavailableError, match="does not answer in time"):
                await hasty.leases()
        later = threading.Timer(0.2, accept_and_answer, [listener])
        later.start()
        async with AsyncClient(str(tmp_path / "sock"), 5) as patient:
            assert await patient.leases() == ()
        await asyncio.to_thread(later.join)
