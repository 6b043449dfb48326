"""What all requests have in common: who asks, the headers, and errors as page or as JSON."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Final, TypeVar

import jinja2
from jupyterhub.services.auth import HubOAuth, HubOAuthCallbackHandler, HubOAuthenticated
from pydantic import ValidationError
from tornado.web import HTTPError, RequestHandler

from enforcer.api.types import Reply, Request
from enforcer.asyncclient import AsyncClient
from enforcer.errors import (
    ConflictError,
    EnforcerError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from spawner.pages import SERVICE_NAME, told
from spawner.pages.documents import Trouble
from spawner.pages.people import Acquaintances, Person, parse_person
from spawner.pages.settings import Settings
from spawner.pages.waits import Waits
from spawner.pages.watch import Watch

ACCESS: Final = frozenset({"access:services", f"access:services!service={SERVICE_NAME}"})
MOST_BODY: Final = 16 * 1024
_HUB_SECONDS: Final = 15.0

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_STATUS: Final[dict[type[EnforcerError], int]] = {
    InvalidError: 400,
    ForbiddenError: 403,
    NotFoundError: 404,
    ConflictError: 409,
    RefusedError: 409,
    UnavailableError: 503,
}

RequestT = TypeVar("RequestT", bound=Request)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What the handlers work with."""

    settings: Settings
    auth: HubOAuth
    client: AsyncClient
    watch: Watch
    views: jinja2.Environment
    known: Acquaintances = field(default_factory=Acquaintances)
    waits: Waits = field(default_factory=Waits)


class Handler(HubOAuthenticated, RequestHandler):  # type: ignore[misc] # the hub has no types
    """A request whose sender the hub knows; `person` is set before a method runs."""

    service: Service
    person: Person

    def initialize(self, service: Service) -> None:
        """Take what the application is made of."""
        self.service = service
        self.hub_auth = service.auth

    def set_default_headers(self) -> None:
        """Set what every answer carries."""
        set_headers(self)
        self.set_header("Cache-Control", "no-store")

    async def prepare(self) -> None:
        """Find out who asks; without a name there is no answer."""
        person = await self._identify()
        if person is None:
            self.deny()
            return
        self.person = person

    def get_current_user(self) -> Person | None:
        """Return who asks; the hub's own would ask the hub again, and wait for it."""
        return getattr(self, "person", None)

    async def _identify(self) -> Person | None:
        # A cookie counts only with the page's XSRF token, a bearer token by itself: see the hub's
        # services.auth. Asked without waiting, as others are being served by the same loop.
        known, token = self.service.known, self.hub_auth.get_token(self) or ""
        try:
            async with asyncio.timeout(_HUB_SECONDS):
                model = await self.hub_auth.get_user(self, sync=False)
        except (HTTPError, TimeoutError) as error:
            # the hub does not answer: who was known a while ago may go on looking
            person = known.recall(token, time.monotonic())
            if person is None or self.request.method != "GET":
                raise HTTPError(HTTPStatus.BAD_GATEWAY) from error
            return person
        person = None if model is None else parse_person(model, ACCESS)
        if person is not None:
            known.meet(token, person, time.monotonic())
        else:
            known.forget(token)
        return person

    def deny(self) -> None:
        """Answer one who is not known."""
        raise HTTPError(HTTPStatus.FORBIDDEN)


class Page(Handler):
    """A page for people: those who are not logged in are sent to the hub."""

    def deny(self) -> None:
        """Send to the hub, unless the hub has said already who it is."""
        if getattr(self, "_cached_hub_user", None) is not None:
            raise HTTPError(HTTPStatus.FORBIDDEN)
        self.redirect(self.get_login_url())

    def render_view(self, name: str, **values: object) -> None:
        """Answer with a template."""
        person = getattr(self, "person", None)
        page = self.service.views.get_template(name).render(
            prefix=self.service.settings.prefix,
            hub=self.service.settings.hub_prefix,
            person=person,
            xsrf=self.xsrf_token.decode("ascii"),
            **values,
        )
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(page)

    def write_error(self, status_code: int, **_: object) -> None:
        """Answer an error as a page."""
        self.render_view("error.html", status=status_code, message=_MESSAGES.get(status_code, ""))


class Endpoint(Handler):
    """JSON for scripts: never a redirect."""

    def reply(self, document: Reply, status: int = 200) -> None:
        """Answer with a document."""
        self.set_status(status)
        self.set_header("Content-Type", "application/json")
        self.finish(document.model_dump_json())

    def read(self, shape: type[RequestT]) -> RequestT:
        """Return the body.

        Raises:
            InvalidError: ``request.invalid``.
        """
        if self.request.headers.get("Content-Type", "").partition(";")[0] != "application/json":
            raise InvalidError("request.invalid", "the body is not JSON", "send application/json")
        try:
            return shape.model_validate_json(self.request.body)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(one) for one in first["loc"]) or "the body"
            raise InvalidError("request.invalid", f"{where}: {first['msg']}") from error

    def since(self) -> float:
        """Return the time from which on samples are wanted; 0: all."""
        text = self.get_query_argument("since", "0")
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value < 1e12:
            raise InvalidError("query.invalid", "since is no time", "send Unix seconds")
        return value

    def log_exception(
        self,
        typ: type[BaseException] | None,
        value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        """Leave what is everyday life out of the log."""
        if not isinstance(value, EnforcerError):
            super().log_exception(typ, value, tb)

    def write_error(self, status_code: int, **_: object) -> None:
        """Answer an error as JSON."""
        error = sys.exception()
        if isinstance(error, EnforcerError):
            status = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 500)
            self.reply(told.trouble(error), status)
            return
        said = _MESSAGES.get(status_code, "something went wrong")
        self.reply(Trouble(code=_CODES.get(status_code, "pages.failed"), message=said), status_code)


class Callback(HubOAuthCallbackHandler):  # type: ignore[misc] # the hub has no types
    """Where the hub sends a browser back to after the login."""

    def initialize(self, service: Service) -> None:
        """Take the login's settings."""
        self.hub_auth = service.auth

    def set_default_headers(self) -> None:
        """Set what every answer carries."""
        set_headers(self)


def set_headers(handler: RequestHandler) -> None:
    """Set the headers that keep a browser from doing more than it should."""
    handler.clear_header("Server")
    handler.set_header("Content-Security-Policy", _POLICY)
    handler.set_header("X-Content-Type-Options", "nosniff")
    handler.set_header("Referrer-Policy", "same-origin")
    handler.set_header("Cross-Origin-Resource-Policy", "same-origin")


_MESSAGES: Final = {
    400: "this request makes no sense here",
    403: "you are not logged in, or may not see this",
    404: "there is no such page",
    405: "this cannot be done here",
    500: "something went wrong; the log of the service says more",
    502: "the hub does not answer",
    503: "the machine's resource service does not answer",
}
_CODES: Final = {400: "request.invalid", 403: "pages.forbidden", 404: "pages.not-found"}
