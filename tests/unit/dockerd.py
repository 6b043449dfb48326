"""A dockerd of sorts on a Unix socket: says what it is told to say, and counts what it is asked."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

VERSION = "1.45"


class Dockerd:
    """containers: id → what inspect says. `hung`: ids (or "list", "events") that never answer.

    broken: ids (or "list") that are answered with an error. state: Docker's word in the list.
    """

    def __init__(self) -> None:
        self.containers: dict[str, dict[str, object]] = {}
        self.hung: set[str] = set()
        self.broken: set[str] = set()
        self.state = "running"
        self.asked: Counter[str] = Counter()
        self.bodies: list[dict[str, int]] = []
        self.refuse_updates = ""
        self.nonsense: bytes | None = None
        self.streams: list[web.StreamResponse] = []
        self._released = asyncio.Event()

    def add(self, container_id: str, **host_config: object) -> None:
        self.containers[container_id] = {
            "Id": container_id,
            "Name": f"/{container_id[:6]}",
            "State": {"Running": True, "Restarting": False, "Pid": 42},
            "Config": {"Image": "image", "Labels": {}},
            "HostConfig": {"CgroupParent": "a.slice", **host_config},
        }

    async def tell(self, raw: bytes) -> None:
        """Write to everyone who follows the events."""
        for stream in self.streams:
            await stream.write(raw)

    async def tell_of(self, container_id: str) -> None:
        event = {"Type": "container", "Action": "update", "Actor": {"ID": container_id}}
        await self.tell(json.dumps(event).encode() + b"\n")

    async def end_streams(self) -> None:
        self._released.set()
        await asyncio.sleep(0)
        self._released = asyncio.Event()

    @asynccontextmanager
    async def serving(self, path: Path) -> AsyncIterator[None]:
        """Serve for as long as the context lasts."""
        app = web.Application()
        app.router.add_get("/version", self._version)
        app.router.add_get("/events", self._events)
        app.router.add_get(f"/v{VERSION}/containers/json", self._list)
        app.router.add_get(f"/v{VERSION}/containers/{{id}}/json", self._inspect)
        app.router.add_post(f"/v{VERSION}/containers/{{id}}/update", self._update)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.UnixSite(runner, str(path)).start()
        try:
            yield
        finally:
            self._released.set()
            await runner.cleanup()

    async def _version(self, _request: web.Request) -> web.Response:
        self.asked["version"] += 1
        return web.json_response({"ApiVersion": VERSION})

    async def _list(self, _request: web.Request) -> web.Response:
        self.asked["list"] += 1
        await self._hang("list")
        if "list" in self.broken:
            return _broken()
        if self.nonsense is not None:
            return web.Response(body=self.nonsense, content_type="application/json")
        return web.json_response(
            [{"Id": one, "Names": ["/n"], "State": self.state} for one in self.containers]
        )

    async def _inspect(self, request: web.Request) -> web.Response:
        container_id = request.match_info["id"]
        self.asked["inspect"] += 1
        self.asked[container_id] += 1
        await self._hang(container_id)
        if container_id in self.broken:
            return _broken()
        if container_id not in self.containers:
            return web.json_response({"message": "No such container"}, status=404)
        return web.json_response(self.containers[container_id])

    async def _update(self, request: web.Request) -> web.Response:
        container_id = request.match_info["id"]
        self.bodies.append(await request.json())
        if container_id not in self.containers:
            return web.json_response({"message": "No such container"}, status=404)
        if self.refuse_updates:
            return web.json_response({"message": self.refuse_updates}, status=409)
        return web.json_response({"Warnings": []})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        self.asked["events"] += 1
        await self._hang("events")
        stream = web.StreamResponse()
        await stream.prepare(request)
        self.streams.append(stream)
        try:
            await self._released.wait()
        finally:
            self.streams.remove(stream)
        return stream

    async def _hang(self, what: str) -> None:
        if what in self.hung:
            await self._released.wait()


def _broken() -> web.Response:
    return web.json_response({"message": "layer does not exist"}, status=500)
