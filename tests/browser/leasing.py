"""A spawner of processes in the place of containers: a lease for each, by the form under test."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

from jupyterhub.spawner import SimpleLocalProcessSpawner

from enforcer.asyncclient import AsyncClient
from enforcer.errors import EnforcerError
from enforcer.model import Claim, LeaseState
from enforcer.quantities import parse_bytes, parse_cpus
from spawner.pages.form import render_form

_SECONDS = 5.0
_WAIT_SECONDS = 2.0


class LeasingSpawner(SimpleLocalProcessSpawner):  # type: ignore[misc] # the hub has no types
    """Claims before it starts, releases when it has stopped."""

    cmd: ClassVar[list[str]] = [sys.executable, str(Path(__file__).with_name("server.py"))]
    lease_id = ""
    waits_for = ""

    def _client(self) -> AsyncClient:
        return AsyncClient(os.environ["ENFORCER_TEST_SOCKET"], _SECONDS)

    async def _render(self, _: object) -> str:
        try:
            async with self._client() as client:
                catalogue = await client.catalogue(self.user.name, self.name)
                status = await client.status()
        except EnforcerError:
            return render_form(None)
        return render_form(catalogue, status, chosen=self.user_options)

    def _options_form_default(self) -> Callable[[object], Awaitable[str]]:
        return self._render

    def options_from_form(self, formdata: dict[str, list[str]]) -> dict[str, Any]:
        given = {key: values[0] for key, values in formdata.items() if values[0] != ""}
        return {
            key: value if key in {"profile", "image"} else float(value)
            for key, value in given.items()
            if key
            in {"profile", "image", "cpu_limit", "mem_limit", "cpu_guarantee", "mem_guarantee"}
        }

    async def start(self) -> object:
        said = self.user_options
        numbers: dict[str, Any] = {
            key: (parse_cpus if key.startswith("cpu") else parse_bytes)(said[key])
            for key in ("cpu_limit", "mem_limit", "cpu_guarantee", "mem_guarantee")
            if key in said
        }
        claim = Claim(
            user=self.user.name,
            server=self.name,
            profile=said.get("profile"),
            image=said.get("image"),
            **numbers,
        )
        try:
            await self._have(claim)
        except asyncio.CancelledError:
            await self._release()  # the hub stops only what runs
            raise
        started: object = await super().start()
        return started

    async def _have(self, claim: Claim) -> None:
        async with self._client() as client:
            lease = await client.claim(claim)
            self.lease_id = lease.id
            while lease.state is LeaseState.QUEUED:
                self.waits_for = "" if lease.queue is None else lease.queue.sentence
                lease = await client.lease(lease.id, _WAIT_SECONDS, LeaseState.QUEUED)

    async def _release(self) -> None:
        try:
            async with self._client() as client:
                await client.release(self.lease_id)
        except EnforcerError as error:
            self.log.warning("no release: %s", error)

    async def progress(self) -> AsyncIterator[dict[str, object]]:
        """Say what is waited for."""
        said = ""
        while True:
            if self.waits_for != said:
                said = self.waits_for
                yield {"progress": 20, "message": f"In the queue: {said}"}
            await asyncio.sleep(0.2)

    async def stop(self, now: bool = False) -> None:  # noqa: FBT001, FBT002 - the hub's signature
        await super().stop(now=now)
        self.waits_for = ""
        await self._release()
