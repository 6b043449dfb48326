"""Starts that go another way, and watching one: what several modules of tests do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from jupyterhub.user import User

from spawner.refusals import StartRefused
from tests.unit.spawner.dockerd import Json
from tests.unit.spawner.lab import Lab


async def refused(user: User, options: object = None, server: str = "") -> StartRefused:
    """Start a server, and return why it was refused."""
    with pytest.raises(StartRefused) as caught:
        await user.spawn(server, options=options)
    assert caught.value.jupyterhub_message
    assert 400 <= caught.value.status_code < 600
    return caught.value


async def cancelled(lab: Lab, user: User, reached: str, server: str = "") -> None:
    """Start a server; when Docker is asked for `reached`, cancel it as the hub's DELETE does."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def pause() -> None:
        begun.set()
        await go_on.wait()

    lab.docker.before[reached] = pause
    start = asyncio.create_task(user.spawn(server, options={}))
    await asyncio.wait_for(begun.wait(), 5)
    start.cancel()
    done, _ = await asyncio.wait([start], timeout=1)
    assert done, "the hub gives a cancelled start one second"
    del lab.docker.before[reached]
    go_on.set()
    await user.stop(server)


async def watch(user: User, say: Callable[[str], None]) -> None:
    """Watch a start's progress to its end."""
    async for event in user.spawner.progress():
        say(str(event["message"]))


def environment(container: Json) -> dict[str, str]:
    """Read what a container's processes find in their environment."""
    return dict(line.split("=", 1) for line in container["Config"]["Env"])
