"""What is known of the world between two ticks, and what makes the next one come early."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from enforcer.controller.world import World
from enforcer.errors import UnavailableError
from enforcer.model import Container, EnginePlace
from enforcer.names import UnitName

_log = logging.getLogger(__name__)

ENGINE_SERVICES = ("docker.service", "containerd.service")

_RETRY_SECONDS = 2.0
_RELIST_SECONDS = 15.0
_ENGINE_SECONDS = 30.0
_BURST_SECONDS = 0.02
"""Events come in bursts (create, start, …): one list answers for all of them."""

_COUNTS = frozenset({"memory.events", "memory.events.local", "pids.events", "pids.events.local"})
"""A container at its limit moves these a hundred times a second: the next tick reads them."""


class ContainerWatch:
    """Docker's containers as last listed; a dockerd that hangs delays nobody but this."""

    def __init__(self, world: World, wake: Callable[[], None]) -> None:
        self._world = world
        self._wake = wake
        self._stale = asyncio.Event()
        self.containers: Mapping[str, Container] | None = None
        """None until Docker has answered, and again while it does not."""
        self.listed_at_unix = float("-inf")
        """Unix seconds at which the last list was asked for."""

    async def follow_events(self) -> None:
        """Mark the list stale whenever a container changes; never ends."""
        async for _ in self._world.docker.events():
            self._stale.set()

    async def keep_listed(self) -> None:
        """List anew when something changed, and now and then anyway; never ends."""
        while True:
            await self.refresh()
            seconds = _RETRY_SECONDS if self.containers is None else _RELIST_SECONDS
            try:
                async with asyncio.timeout(seconds):
                    await self._stale.wait()
                await asyncio.sleep(_BURST_SECONDS)
            except TimeoutError:
                pass
            self._stale.clear()

    def look_again(self) -> None:
        """Have the list made anew soon."""
        self._stale.set()

    async def refresh(self) -> None:
        """List the containers now."""
        asked_at = self._world.clock.now()
        before = self.containers
        try:
            found = await self._world.docker.containers()
        except UnavailableError as error:
            self.containers = None
            if before is not None:
                _log.warning("docker does not answer: %s", error.message)
        else:
            self.listed_at_unix = asked_at
            if found != before:  # the same again stays the same object
                self.containers = found
        if self.containers != before:
            self._wake()


class EngineWatch:
    """Where dockerd and containerd run; only a restart can change it, so it is rarely looked up.

    heard: told each time whether PID 1 has answered: where all is well, nobody else asks it.
    """

    def __init__(self, world: World, heard: Callable[[bool], None]) -> None:
        self._world = world
        self._heard = heard
        self.places: tuple[EnginePlace, ...] = ()

    async def follow(self) -> None:
        """Look every half minute; never ends."""
        while True:
            try:
                self.places = tuple([await self._place(service) for service in ENGINE_SERVICES])
            except UnavailableError as error:
                _log.debug("cannot tell where the engine runs: %s", error.message)
                self._heard(False)
            else:
                self._heard(True)
            await asyncio.sleep(_ENGINE_SECONDS)

    async def _place(self, service: str) -> EnginePlace:
        cgroup = await self._world.systemd.service_cgroup(service)
        return EnginePlace(service=service, cgroup=cgroup)


class KernelWatch:
    """The units whose control files were written since the last tick."""

    def __init__(self, world: World, wake: Callable[[], None]) -> None:
        self._world = world
        self._wake = wake
        self.written: dict[UnitName, float] = {}
        """Unit → monotonic seconds of its first write."""

    async def follow(self) -> None:
        """Collect what the kernel tells; never ends."""
        async for change in self._world.kernel.changes():
            if change.may_be_drift:
                self.written.setdefault(change.unit, change.at)
            if change.file not in _COUNTS:
                self._wake()

    def take(self) -> Mapping[UnitName, float]:
        """Return what was written, and begin anew."""
        taken, self.written = self.written, {}
        return taken
