"""How the daemon starts, and when it ends so that systemd starts it anew."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from enforcer.adapters.fakes import FakeDocker, FakeHost, FakeWorld
from enforcer.adapters.supervisor import Supervisor
from enforcer.daemon import Options, load_config, watch
from enforcer.errors import InvalidError, UnavailableError
from tests.unit.configs import CAPACITY, VALID
from tests.unit.controllerlab import Lab

WRONG = VALID.replace("cpu_limit = 1\n", "cpu_limits = 1\n").replace('"40 GiB"', '"a lot"')
HOST = FakeHost(CAPACITY)


@pytest.fixture
def options(tmp_path: Path) -> Options:
    (tmp_path / "state").mkdir()
    return Options(config=tmp_path / "enforcer.toml", state=tmp_path / "state")


def test_a_first_start_with_a_wrong_file_ends_with_every_mistake(options: Options) -> None:
    options.config.write_text(WRONG)
    with pytest.raises(InvalidError) as caught:
        load_config(options, HOST)
    assert caught.value.code == "config.invalid"
    for part in (str(options.config), "cpu_limits", "a lot"):
        assert part in caught.value.message
    assert not list(options.state.iterdir()), "what is wrong was kept"


def test_a_first_start_without_a_file_says_where_it_belongs(options: Options) -> None:
    with pytest.raises(UnavailableError) as caught:
        load_config(options, HOST)
    assert caught.value.code == "config.unreadable"
    assert str(options.config) in caught.value.message


def test_a_later_start_goes_on_with_what_was_right_and_says_what_is_wrong(
    options: Options,
) -> None:
    options.config.write_text(VALID)
    right, error = load_config(options, HOST)
    assert error == ""
    options.config.write_text(WRONG)
    for _ in range(2):
        kept, error = load_config(options, HOST)
        assert kept == right
        assert "cpu_limits" in error


class Deaf(FakeDocker):
    """Its events end when they are told to, which is a mistake: they never do."""

    def __init__(self, world: FakeWorld) -> None:
        super().__init__(world.cgroups, world.clock.now)
        self.deaf = asyncio.Event()

    async def events(self) -> AsyncIterator[str]:
        yield ""
        await self.deaf.wait()


@pytest.mark.asyncio
async def test_a_daemon_that_lost_a_part_of_itself_ends_for_systemd_to_start_it_anew(
    tmp_path: Path,
) -> None:
    world = FakeWorld(capacity=CAPACITY)
    docker = world.docker = Deaf(world)
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.setblocking(False)
        supervisor = Supervisor({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "40000"})
        async with Lab(world).running() as controller, asyncio.timeout(10):
            watching = asyncio.create_task(
                watch(controller, supervisor, world.clock, asyncio.Event())
            )
            loop = asyncio.get_running_loop()
            while b"WATCHDOG=1" not in await loop.sock_recv(systemd, 4096):
                pass
            docker.deaf.set()
            with pytest.raises(UnavailableError) as caught:
                await watching
            assert caught.value.code == "daemon.broken"
