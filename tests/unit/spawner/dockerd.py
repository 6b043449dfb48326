"""A dockerd of sorts on a Unix socket, for the real library: it keeps containers, fails to order.

Nothing runs in its containers, but a started one answers on its port, as a server that is up does.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

from aiohttp import web

Json: TypeAlias = dict[str, Any]

VERSION = "1.45"
_HANG = "hang"
_WORDS = b"no module named jupyterhub\n"


class Dockerd:
    """images: reference → what inspect says of it. faults: operation → a status, or "hang".

    refusals: operation → what it says at each of the next calls, as an internal error.
    folders: the host's directories; None: every path is there. before: called before an operation.
    pulls: image → the events its pull tells; a pull of another fails, as a registry's would.
    """

    def __init__(self) -> None:
        self.images: dict[str, Json] = {}
        self.containers: dict[str, Json] = {}
        self.faults: dict[str, int | str] = {}
        self.refusals: dict[str, list[str]] = {}
        self.folders: set[str] | None = None
        self.pulls: dict[str, list[Json]] = {}
        self.gate = asyncio.Event()
        """A pull waits for it before its last event."""
        self.gate.set()
        self.before: dict[str, Callable[[], Awaitable[object]]] = {}
        self.asked: Counter[str] = Counter()
        self.created: list[Json] = []
        self.on_started: Callable[[Json], None] = lambda _: None
        self.on_gone: Callable[[Json], None] = lambda _: None
        self._numbers = itertools.count(1)
        self._released = asyncio.Event()
        self._port = 0

    def add_image(self, reference: str, command: list[str] | None = None) -> None:
        """Put an image there."""
        self.images[reference] = {"Id": f"sha256:{reference}", "Config": {"Cmd": command}}

    def names(self) -> list[str]:
        """Return the names of the containers there are."""
        return [one["Name"].lstrip("/") for one in self.containers.values()]

    def only(self) -> Json:
        """Return the one container there is."""
        (found,) = self.containers.values()
        return found

    def die(self, container_id: str, code: int = 1, *, oom: bool = False) -> None:
        """Let a container end by itself."""
        state = self.containers[container_id]["State"]
        state.update(Running=False, ExitCode=code, OOMKilled=oom, Status="exited")
        self.containers[container_id]["NetworkSettings"]["Ports"] = {}
        self.on_gone(self.containers[container_id])

    @asynccontextmanager
    async def serving(self, path: Path) -> AsyncIterator[None]:
        """Serve for as long as the context lasts; what hangs is let go at its end."""
        app = web.Application()
        app.router.add_get("/version", self._version)
        prefix = f"/v{VERSION}"
        app.router.add_get(f"{prefix}/images/{{name:.+}}/json", self._image)
        app.router.add_post(f"{prefix}/images/create", self._pull)
        app.router.add_post(f"{prefix}/containers/create", self._create)
        app.router.add_get(f"{prefix}/containers/{{id}}/json", self._inspect)
        app.router.add_get(f"{prefix}/containers/{{id}}/logs", self._logs)
        app.router.add_post(f"{prefix}/containers/{{id}}/start", self._start)
        app.router.add_post(f"{prefix}/containers/{{id}}/stop", self._stop)
        app.router.add_delete(f"{prefix}/containers/{{id}}", self._remove)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.UnixSite(runner, str(path)).start()
        try:
            async with self._answering():
                yield
        finally:
            self._released.set()
            self.gate.set()
            await runner.cleanup()
            self._released = asyncio.Event()

    @asynccontextmanager
    async def _answering(self) -> AsyncIterator[None]:
        """Answer for every server that is up."""

        async def answer(_request: web.BaseRequest) -> web.Response:
            return web.Response(text="{}")

        runner = web.ServerRunner(web.Server(answer), shutdown_timeout=0.1)
        await runner.setup()
        listener = socket.create_server(("127.0.0.1", 0))
        self._port = listener.getsockname()[1]
        await web.SockSite(runner, listener).start()
        try:
            yield
        finally:
            await runner.cleanup()

    async def _asked(self, operation: str) -> web.Response | None:
        """Count it, wait if it hangs, and return the failure it is to have."""
        self.asked[operation] += 1
        if operation in self.before:
            await self.before[operation]()
        fault = self.faults.get(operation)
        if fault == _HANG:
            await self._released.wait()
            return _error(500, "the daemon is going away")
        if self.refusals.get(operation):
            return _error(500, self.refusals[operation].pop(0))
        if isinstance(fault, int):
            return _error(fault, f"{operation} fails")
        return None

    async def _version(self, _request: web.Request) -> web.Response:
        return await self._asked("version") or web.json_response({"ApiVersion": VERSION})

    async def _image(self, request: web.Request) -> web.Response:
        if failure := await self._asked("image"):
            return failure
        image = self.images.get(request.match_info["name"])
        return web.json_response(image) if image else _error(404, "No such image")

    async def _pull(self, request: web.Request) -> web.StreamResponse:
        if failure := await self._asked("pull"):
            return failure
        reference = f"{request.query['fromImage']}:{request.query['tag']}"
        if reference not in self.pulls:
            return _error(404, f"manifest for {reference} not found")
        stream = web.StreamResponse()
        await stream.prepare(request)
        for event in self.pulls[reference]:
            await stream.write(json.dumps(event).encode() + b"\r\n")
        while not self.gate.is_set():
            await stream.write(json.dumps({"status": "still at it"}).encode() + b"\r\n")
            await asyncio.sleep(0.02)
        if not any("error" in event for event in self.pulls[reference]):
            self.add_image(reference)
        await stream.write_eof()
        return stream

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()  # at once: who asked may be gone by the time it is made
        if failure := await self._asked("create"):
            return failure
        name = request.query["name"]
        if body["Image"] not in self.images:
            return _error(404, f"No such image: {body['Image']}")
        if name in self.names():
            return _error(409, f'Conflict. The container name "/{name}" is already in use')
        for mount in body["HostConfig"].get("Mounts") or ():
            if self.folders is not None and mount["Source"] not in self.folders:
                return _error(
                    400,
                    'invalid mount config for type "bind": bind source path does not exist:'
                    f" {mount['Source']}",
                )
        self.created.append(body)
        container_id = f"{next(self._numbers):064x}"
        self.containers[container_id] = {
            "Id": container_id,
            "Name": f"/{name}",
            "State": {"Running": False, "Status": "created", "ExitCode": 0, "OOMKilled": False},
            "Config": {key: value for key, value in body.items() if key != "HostConfig"},
            "HostConfig": body["HostConfig"],
            "NetworkSettings": {"Ports": {}},
        }
        return web.json_response({"Id": container_id, "Warnings": []}, status=201)

    async def _inspect(self, request: web.Request) -> web.Response:
        if failure := await self._asked("inspect"):
            return failure
        found = self._find(request)
        return web.json_response(found) if found else _no_container()

    async def _logs(self, _request: web.Request) -> web.Response:
        if failure := await self._asked("logs"):
            return failure
        # a stream, three bytes of nothing, a length: as attached containers without a terminal talk
        return web.Response(body=b"\x02\x00\x00\x00" + len(_WORDS).to_bytes(4) + _WORDS)

    async def _start(self, request: web.Request) -> web.Response:
        if failure := await self._asked("start"):
            return failure
        found = self._find(request)
        if found is None:
            return _no_container()
        found["State"].update(Running=True, Status="running")
        address = {"HostIp": "127.0.0.1", "HostPort": f"{self._port}"}
        found["NetworkSettings"]["Ports"] = {"8888/tcp": [address]}
        self.on_started(found)
        return web.Response(status=204)

    async def _stop(self, request: web.Request) -> web.Response:
        if failure := await self._asked("stop"):
            return failure
        found = self._find(request)
        if found is None:
            return _no_container()
        found["State"].update(Running=False, Status="exited")
        return web.Response(status=204)

    async def _remove(self, request: web.Request) -> web.Response:
        if failure := await self._asked("remove"):
            return failure
        found = self._find(request)
        if found is None:
            return _no_container()
        if found["State"]["Running"] and request.query["force"] not in {"1", "True"}:
            return _error(409, "You cannot remove a running container: stop it, or use force")
        del self.containers[found["Id"]]
        return web.Response(status=204)

    def _find(self, request: web.Request) -> Json | None:
        word = request.match_info["id"]
        by_name = (one for one in self.containers.values() if one["Name"] == f"/{word}")
        return self.containers.get(word) or next(by_name, None)


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"message": message}, status=status)


def _no_container() -> web.Response:
    return _error(404, "No such container")
