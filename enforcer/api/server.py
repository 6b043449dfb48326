"""The server: routes in, answers and problems out, on sockets that somebody else has opened."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final, TypeVar

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.typedefs import Handler

from enforcer.api import bodies, problems
from enforcer.api.connections import NOBODY, Door, Guard, Register
from enforcer.api.peers import Peer, Peers
from enforcer.api.routes import Api, MetricsPage
from enforcer.api.table import Answer, Call, Route
from enforcer.api.types import Reply, Request

_STOP_SECONDS: Final = 1.0
"""A peer that waits for a change to come must not hold up the daemon's end."""
_LINGER_SECONDS: Final = 2.0
_MOST_HEADER_BYTES: Final = 8190
_SERVER: Final = "enforcer"
_ROOT_PAGE: Final = b"The Enforcer's metrics are at /metrics; its API is on its Unix socket.\n"

_log = logging.getLogger(__name__)
Result = TypeVar("Result")


class Finishing:
    """Work that is finished even if whoever asked for it has hung up or lost patience."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run it in a task of its own, and wait for that."""
        task = asyncio.create_task(work, name="api-change")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    async def wait(self, seconds: float) -> None:
        """Wait for all of them, but not longer; what is left then is cancelled."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in tuple(self._tasks):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waits gets it; if nobody does any more, it is no leak


def api_app(api: Api, peers: Peers, finishing: Finishing) -> web.Application:
    """Make the whole API out of its table of routes."""
    app = web.Application(middlewares=[_guarded])
    for route in api.routes:
        app.router.add_route(
            route.method,
            route.path,
            _serving(route, peers, finishing),
            name=route.name,
            expect_handler=_expect,
        )
    app.on_response_prepare.append(_sign)
    return app


def metrics_app(metrics: MetricsPage) -> web.Application:
    """Make what answers on TCP: the metrics, and one line that says where they are."""

    async def page(_: web.Request) -> web.StreamResponse:
        return _response(
            Answer(status=200, reply=await metrics.page(), content_type=metrics.content_type)
        )

    async def root(_: web.Request) -> web.StreamResponse:
        return _response(Answer(status=200, reply=_ROOT_PAGE, content_type="text/plain"))

    app = web.Application(middlewares=[_guarded])
    app.router.add_route("GET", "/metrics", page)
    app.router.add_route("GET", "/", root)
    app.on_response_prepare.append(_sign)
    return app


class Server:
    """Serves one application on one listening socket, which it owns from `start` on."""

    def __init__(
        self,
        app: web.Application,
        register: Register,
        uid_of: Callable[[socket.socket], int] = lambda _: NOBODY,
    ) -> None:
        self._register = register
        self._uid_of = uid_of
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_STOP_SECONDS)
        self._door: Door | None = None

    async def start(self, listener: socket.socket) -> None:
        """Begin to accept."""
        await self._runner.setup()
        self._door = Door(listener, self._protocol, self._register, self._uid_of)
        self._door.open()

    async def stop(self) -> None:
        """Accept no more, let what is being answered finish, and close everything."""
        if self._door is not None:
            await self._door.close()
        await self._runner.cleanup()

    def _protocol(self) -> asyncio.Protocol:
        manager = self._runner.server
        assert manager is not None  # noqa: S101 - setup() has made it before the door opened
        return _Protocol(
            manager,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type] # None is aiohttp's word for none
            keepalive_timeout=self._register.bounds.idle_seconds,
            max_line_size=_MOST_HEADER_BYTES,
            max_field_size=_MOST_HEADER_BYTES,
            lingering_time=_LINGER_SECONDS,
            auto_decompress=False,
        )


class _Protocol(web.RequestHandler):
    """aiohttp's, except that what it cannot parse is answered with a problem as well."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's signature
    ) -> web.StreamResponse:
        if isinstance(exc, BadHttpMessage) or status < HTTPStatus.INTERNAL_SERVER_ERROR:
            answer = problems.response(problems.unparsable(status))
        else:
            error = exc if isinstance(exc, Exception) else RuntimeError(repr(exc))
            answer = problems.response(problems.of_error(error, f"answering {request.method}"))
        answer.headers["Server"] = _SERVER
        answer.force_close()
        return answer


def _serving(route: Route, peers: Peers, finishing: Finishing) -> Handler:
    """Return aiohttp's side of a route: who it is, read, run within its time, write, log."""

    async def answer(request: web.Request, peer: Peer) -> web.Response:
        async with asyncio.timeout(route.seconds):
            call = await _read(request, route, peer)
            # finished even if this request is given up: a claim half made would be worse
            run = finishing.run(_run(route, call)) if route.changes else route.run(call)
            return _response(await run)

    async def serve(request: web.Request) -> web.StreamResponse:
        uid, name, code = _guard(request).uid, "", "ok"
        try:
            peer = await peers.peer(uid)
            name = peer.name
            said = await answer(request, peer)
        except Exception as error:  # noqa: BLE001 - the last resort, logged where unforeseen
            said, code = _refuse(request, error)
        if route.changes:
            lease = ascii(request.match_info.get("lease_id", ""))[1:-1][:40]
            fields: dict[str, str | int] = {
                "uid": uid,
                "peer": name,
                "lease": lease,
                "code": code,
                "status": said.status,
            }
            _log_change(route.name, fields)
        return said

    return serve


async def _run(route: Route, call: Call) -> Answer:
    return await route.run(call)


async def _read(request: web.Request, route: Route, peer: Peer) -> Call:
    once, many = bodies.read_query(
        request,
        tuple(one.name for one in route.query if not one.many),
        tuple(one.name for one in route.query if one.many),
    )
    body: Request | str | None = None
    if route.body is not None and issubclass(route.body, Request):
        body = await bodies.read_model(request, route.body)
    elif route.body is not None:
        body = await bodies.read_text(request)
    return Call(peer=peer, path=dict(request.match_info), once=once, many=many, body=body)


def _response(answer: Answer) -> web.Response:
    reply = answer.reply
    if reply is None:
        return web.Response(status=answer.status)
    body = reply.model_dump_json().encode() if isinstance(reply, Reply) else reply
    headers = {"Content-Type": answer.content_type}
    return web.Response(status=answer.status, body=body, headers=headers)


@web.middleware
async def _guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tell the connection's guard when a request begins and ends; answer errors of no route."""
    guard = _guard(request)
    guard.begin()
    try:
        return await handler(request)
    except Exception as error:  # noqa: BLE001 - as above
        return _refuse(request, error)[0]
    finally:
        guard.end()


def _refuse(request: web.Request, error: Exception) -> tuple[web.Response, str]:
    """Return the answer and its code."""
    said = problems.of_error(error, f"{request.method} {ascii(request.path)[1:-1][:80]}")
    answer = problems.response(said)
    if isinstance(error, web.HTTPMethodNotAllowed):
        answer.headers["Allow"] = error.headers["Allow"]
    return answer, said.code


def _log_change(name: str, fields: dict[str, str | int]) -> None:
    """Write one line for every request that changes something, with fields for programs."""
    shown = " ".join(f"{key}={value}" for key, value in fields.items() if value != "")
    _log.info("%s: %s", name, shown, extra=fields)


def _guard(request: web.Request) -> Guard:
    transport = request.transport
    protocol = transport.get_protocol() if transport is not None else None
    if not isinstance(protocol, Guard):
        raise ConnectionResetError("the peer has hung up")  # aiohttp takes no notice of it
    return protocol


async def _expect(request: web.Request) -> web.StreamResponse | None:
    """Tell a client that waits for it to go on; other expectations cannot be met."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        if request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return None
    return _refuse(request, web.HTTPExpectationFailed())[0]


async def _sign(_: web.BaseRequest, answer: web.StreamResponse) -> None:
    """Give the name and no versions."""
    answer.headers["Server"] = _SERVER
