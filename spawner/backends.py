"""What all spawners of one hub share: dockerd, the daemon, pulls, and what is left over."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Self

from enforcer.asyncclient import AsyncClient
from spawner.engine import Dockerd, Engine, Lane
from spawner.leftovers import Leftovers
from spawner.pulls import Pulls


@dataclass(frozen=True, slots=True, kw_only=True)
class Seconds:
    """How long each may take. form: what a page waits for; stall: a pull that says nothing."""

    docker: float
    poll: float
    daemon: float
    form: float
    stall: float


@dataclass(frozen=True, slots=True)
class Backends:
    """One of each. `quick` asks the daemon for what a page waits for, and for polls."""

    engine: Engine
    pulls: Pulls
    client: AsyncClient
    quick: AsyncClient
    leftovers: Leftovers

    @classmethod
    def make(
        cls,
        socket_path: str,
        dockerd: Dockerd,
        seconds: Seconds,
        log: logging.Logger | logging.LoggerAdapter[logging.Logger],
    ) -> Self:
        """Make them; nothing is connected until it is needed."""
        engine = Engine(dockerd, {Lane.CALLS: seconds.docker, Lane.POLLS: seconds.poll})
        return cls(
            engine,
            Pulls(engine, seconds.stall),
            AsyncClient(socket_path, seconds.daemon),
            AsyncClient(socket_path, seconds.form),
            Leftovers(log),
        )

    async def close(self) -> None:
        """Give up what is under way and close every connection."""
        await self.leftovers.close()
        await self.client.close()
        await self.quick.close()
        self.engine.close()
