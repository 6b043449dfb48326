"""Looking up the host's account of a user."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from enforcer.errors import ForbiddenError, NotFoundError
from spawner.homes import Account, find_account

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
