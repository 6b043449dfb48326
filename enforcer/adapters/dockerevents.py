"""dockerd's stream of events.

Read with asyncio rather than with Docker's library, whose stream has no timeout for a dockerd that
accepts and then says nothing, and cannot be closed then either: its thread would stay behind.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Final

import aiohttp

from enforcer.adapters.dockerjson import EVENT_FILTERS, Event, parse_event

log = logging.getLogger(__name__)

_CONNECT_SECONDS: Final = 10.0
_SILENCE_SECONDS: Final = 600.0
"""A stream that said nothing for so long is opened anew, in case it has died unnoticed."""
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 5.0
_LONGEST_LINE: Final = 1 << 20
"""An event carries the container's labels, which may be of any size."""


async def follow(socket: Path) -> AsyncGenerator[Event | None, None]:
    """Yield what each event tells; None when the stream has broken off. Never ends by itself.

    One about any container comes when a stream begins, and where something in it was lost.
    """
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            async with aclosing(_stream(socket)) as events:
                async for event in events:
                    pause = _FIRST_PAUSE_SECONDS
                    yield event
            log.info("dockerd ended its stream of events")
        except (aiohttp.ClientError, OSError) as error:
            level = logging.WARNING if pause == _FIRST_PAUSE_SECONDS else logging.DEBUG
            log.log(level, "no events from dockerd: %s", str(error) or type(error).__name__)
        yield None
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


async def _stream(socket: Path) -> AsyncGenerator[Event, None]:
    timeout = aiohttp.ClientTimeout(
        total=None, connect=_CONNECT_SECONDS, sock_read=_SILENCE_SECONDS
    )
    async with aiohttp.ClientSession(
        connector=aiohttp.UnixConnector(path=str(socket)), timeout=timeout
    ) as session:
        async with asyncio.timeout(_CONNECT_SECONDS):
            response = await session.get(
                "http://docker/events", params={"filters": json.dumps(EVENT_FILTERS)}
            )
        async with response:
            response.raise_for_status()
            yield Event()
            async with aclosing(_events(response.content)) as events:
                async for event in events:
                    yield event


async def _events(content: aiohttp.StreamReader) -> AsyncGenerator[Event, None]:
    """Split into lines; one that is too long is skipped, and may be about any container."""
    pending = bytearray()
    skipping = False
    while chunk := await content.readany():
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            pending += line
            if skipping or pending.strip():
                yield Event() if skipping else parse_event(bytes(pending))
            pending.clear()
            skipping = False
        pending += rest
        if len(pending) > _LONGEST_LINE:
            pending.clear()
            skipping = True
