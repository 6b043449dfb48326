"""The hub as its users meet it: its REST API, and a browser that opens pages and sends forms."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from http.cookiejar import CookieJar
from typing import Any, Final

ANSWER_SECONDS: Final = 180.0
_HUB: Final = "/hub/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back: status, text, and the address in the end, after redirects."""

    status: int
    text: str
    address: str

    def json(self) -> Any:  # noqa: ANN401 - it is what the hub says
        """Read it as JSON."""
        return json.loads(self.text)


def ask(
    request: urllib.request.Request,
    opener: urllib.request.OpenerDirector | None = None,
    timeout_seconds: float = ANSWER_SECONDS,
) -> Answer:
    """Send it; an error status is an answer as well."""
    opener = urllib.request.build_opener() if opener is None else opener
    try:
        with opener.open(request, timeout=timeout_seconds) as reply:
            return Answer(
                status=reply.status, text=reply.read().decode(errors="replace"), address=reply.url
            )
    except urllib.error.HTTPError as error:
        with error:
            text = error.read().decode(errors="replace")
        return Answer(status=error.code, text=text, address=error.url)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """The hub's REST API with one token. address: the hub's, with no slash at its end."""

    address: str
    token: str

    def call(
        self, method: str, path: str, body: object = None, *, raw: bytes | None = None
    ) -> Answer:
        """One call of `/hub/api` + path; body: a JSON value, raw: bytes that may be none."""
        sent = raw if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - our own address
            f"{self.address}/hub/api{path}",
            data=sent,
            method=method,
            headers={"Authorization": f"token {self.token}", "Content-Type": "application/json"},
        )
        return ask(request)

    def user(self, name: str) -> Any:  # noqa: ANN401 - the hub's own model of a user
        """The hub's model of a user."""
        answer = self.call("GET", f"/users/{_quoted(name)}")
        assert answer.status == 200, answer
        return answer.json()

    def server(self, user: str, server: str = "") -> Any:  # noqa: ANN401 - the same
        """The hub's model of one server; None where there is none."""
        return self.user(user)["servers"].get(server)

    def start(self, user: str, options: object = None, server: str = "") -> Answer:
        """Ask for a server; it starts in the background when this answers 202."""
        return self.call("POST", self._server_path(user, server), options)

    def stop(self, user: str, server: str = "") -> Answer:
        """Ask for its end."""
        return self.call("DELETE", self._server_path(user, server))

    def wait(self, user: str, server: str = "", *, seconds: float = 400.0) -> bool:
        """Wait until a start has come to its end: true if it is up, false if there is none."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.server(user, server)
            if found is None or (not found["pending"] and not found["ready"]):
                return False
            if found["ready"]:
                return True
            assert time.monotonic() < deadline, f"{user}'s server is still {found['pending']}ing"
            time.sleep(0.5)

    def wait_gone(self, user: str, server: str = "", *, seconds: float = 180.0) -> None:
        """Wait until the hub has no such server any more."""
        deadline = time.monotonic() + seconds
        while self.server(user, server) is not None:
            assert time.monotonic() < deadline, f"{user}'s server does not end"
            time.sleep(0.5)

    def told(self, user: str, server: str = "", *, seconds: float = 400.0) -> list[dict[str, Any]]:
        """Read the progress of a start to its end: the events that its page shows."""
        request = urllib.request.Request(  # noqa: S310 - our own address
            f"{self.address}/hub/api{self._server_path(user, server)}/progress",
            headers={"Authorization": f"token {self.token}"},
        )
        answer = ask(request, timeout_seconds=seconds)
        lines = [line for line in answer.text.splitlines() if line.startswith("data:")]
        return [json.loads(line.removeprefix("data:")) for line in lines]

    def _server_path(self, user: str, server: str) -> str:
        path = f"/users/{_quoted(user)}/server"
        return f"{path}s/{_quoted(server)}" if server else path


@dataclass(frozen=True, slots=True)
class Browser:
    """One person's browser, without JavaScript."""

    address: str
    cookies: CookieJar = field(default_factory=CookieJar)

    def get(self, path: str) -> Answer:
        """Open a page."""
        return self._ask(path, None)

    def post(self, path: str, fields: Mapping[str, str] | Sequence[tuple[str, str]]) -> Answer:
        """Send a form, with the mark that shows that it came from a page of the hub's."""
        marked = [*dict(fields).items(), ("_xsrf", self._mark())]
        return self._ask(path, urllib.parse.urlencode(marked).encode())

    def log_in(self, user: str, password: str) -> Answer:
        """Log in by the hub's form."""
        self.get("/hub/login")
        return self.post("/hub/login", {"username": user, "password": password})

    def _ask(self, path: str, sent: bytes | None) -> Answer:
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))
        request = urllib.request.Request(  # noqa: S310 - our own address
            f"{self.address}{path}",
            data=sent,
            # As a browser says it when a person follows a link or sends a form.
            headers={"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "same-origin"},
        )
        return ask(request, opener)

    def _mark(self) -> str:
        marks = [
            one.value or "" for one in self.cookies if one.name == "_xsrf" and one.path == _HUB
        ]
        assert marks, "no page of the hub has been opened yet"
        return marks[-1]


def call_server(rest: Rest, user: str, method: str, path: str, body: object = None) -> Answer:
    """One call of a user's own server, through the proxy."""
    request = urllib.request.Request(  # noqa: S310 - our own address
        f"{rest.address}/user/{_quoted(user)}{path}",
        data=None if body is None else json.dumps(body).encode(),
        method=method,
        headers={"Authorization": f"token {rest.token}", "Content-Type": "application/json"},
    )
    return ask(request)


def ask_health(address: str) -> bool:
    """Tell whether the hub answers at all."""
    try:
        return ask(urllib.request.Request(f"{address}/hub/health"), timeout_seconds=5).status == 200  # noqa: S310 - ours
    except (OSError, HTTPException):
        return False


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")
