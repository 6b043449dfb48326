"""Looking up the host's account of a user."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from enforcer.errors import ForbiddenError, NotFoundError
from spawner.homes import Account, Accounts, find_account

pytestmark = pytest.mark.asyncio


async def test_an_account_is_found_with_its_ids() -> None:
    assert await find_account("daemon") == Account(1, 1)


@pytest.mark.parametrize("name", ["no-such-user", "nul\0", "\udc80"])
async def test_who_has_no_account_reads_so(name: str) -> None:
    with pytest.raises(NotFoundError, match="this machine has no account named"):
        await find_account(name)


async def test_root_runs_no_server() -> None:
    with pytest.raises(ForbiddenError):
        await find_account("root")


async def test_a_directory_that_hangs_keeps_waiting_only_those_it_is_asked_about() -> None:
    go_on = threading.Event()
    asked: list[str] = []

    def look_up(user: str) -> Account:
        asked.append(user)
        if user != "local":
            go_on.wait()
        return Account(7, 7)

    accounts = Accounts(look_up)
    waiting = [asyncio.create_task(accounts.find(f"far{number}")) for number in range(20)]
    again = asyncio.create_task(accounts.find("far0"))
    try:
        assert await asyncio.wait_for(accounts.find("local"), 5) == Account(7, 7)
        again.cancel()
        await asyncio.gather(again, return_exceptions=True)
    finally:
        go_on.set()
    assert await asyncio.gather(*waiting) == [Account(7, 7)] * 20
    assert asked.count("far0") == 1
    await accounts.find("far0")
    assert asked.count("far0") == 2


async def test_what_goes_wrong_in_a_look_up_is_told_to_who_waits() -> None:
    def look_up(user: str) -> Account:
        raise OSError(user)

    with pytest.raises(OSError, match="alice"):
        await Accounts(look_up).find("alice")


_HANGS = """
import asyncio, threading
from spawner.homes import Accounts

async def main():
    async with asyncio.timeout(0.1):
        await Accounts(lambda _: threading.Event().wait()).find("alice")

try:
    asyncio.run(main())
except TimeoutError:
    print("gave up")
"""


async def test_a_look_up_that_hangs_does_not_keep_the_hub_from_ending() -> None:
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", _HANGS], capture_output=True, timeout=20, text=True
    )
    assert (done.stdout, done.stderr) == ("gave up\n", "")


async def test_accounts_are_not_looked_up_in_the_threads_of_the_hub() -> None:
    go_on = threading.Event()
    with ThreadPoolExecutor(1) as hubs:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(hubs)
        stuck = loop.run_in_executor(None, go_on.wait)
        try:
            found = await asyncio.wait_for(find_account("daemon"), 5)
        finally:
            go_on.set()
            await stuck
    assert found.uid == 1
