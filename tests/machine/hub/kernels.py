"""A kernel in somebody's JupyterLab: started by REST, spoken to over its websocket."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, websocket_connect

from tests.machine.hub.web import Answer, Rest, call_server

_REPLY_SECONDS: Final = 300.0
_CLOSED_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One kernel of a user's server. id: the server's word for it."""

    rest: Rest
    user: str
    id: str

    def shown(self) -> Any:  # noqa: ANN401 - the server's own model of a kernel
        """The server's model of it."""
        return call_server(self.rest, self.user, "GET", f"/api/kernels/{self.id}").json()

    def run(self, code: str) -> str:
        """Run a piece of code; what it wrote, or the name of its error.

        Returns "dead" if the kernel ends over it.
        """
        return asyncio.run(asyncio.wait_for(self._run(code), _REPLY_SECONDS))

    async def _run(self, code: str) -> str:
        address = self.rest.address.replace("http", "ws", 1)
        request = HTTPRequest(
            f"{address}/user/{self.user}/api/kernels/{self.id}/channels",
            headers={"Authorization": f"token {self.rest.token}"},
            connect_timeout=60,
            request_timeout=60,
        )
        channel = await websocket_connect(request)
        try:
            message = _execute_request(code)
            await channel.write_message(json.dumps(message))
            return await _output(channel, message["header"]["msg_id"])
        finally:
            channel.close()
            with suppress(TimeoutError):  # a channel that was closed already says no more
                await asyncio.wait_for(_closed(channel), _CLOSED_SECONDS)


def start_kernel(rest: Rest, user: str, name: str) -> Kernel:
    """Start a kernel of a kind that the server knows."""
    answer: Answer = call_server(rest, user, "POST", "/api/kernels", {"name": name})
    assert answer.status == 201, answer
    return Kernel(rest=rest, user=user, id=answer.json()["id"])


async def _closed(channel: WebSocketClientConnection) -> None:
    while await channel.read_message() is not None:
        pass


def _execute_request(code: str) -> dict[str, Any]:
    header = {
        "msg_id": uuid.uuid4().hex,
        "session": uuid.uuid4().hex,
        "msg_type": "execute_request",
        "username": "tests",
        "version": "5.3",
        "date": "",
    }
    content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
    return {
        "channel": "shell",
        "header": header,
        "parent_header": {},
        "metadata": {},
        "content": content,
        "buffers": [],
    }


async def _output(channel: WebSocketClientConnection, msg_id: str) -> str:
    """Collect what comes until the kernel is idle again, or dead."""
    written = ""
    while True:
        raw = await channel.read_message()
        if raw is None:
            return "dead"
        message: Mapping[str, Any] = json.loads(raw)
        content = message["content"]
        state = content.get("execution_state")
        if state in {"dead", "restarting", "autorestarting"}:
            return "dead"
        if message["parent_header"].get("msg_id") != msg_id:
            continue
        match message["msg_type"]:
            case "stream":
                written += content["text"]
            case "error":
                written += content["ename"]
            case "status" if state == "idle":
                return written
