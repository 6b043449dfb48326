"""What a route is: one entry drives the server, the OpenAPI document and the tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from enforcer.api.peers import Peer
from enforcer.api.types import Reply, Request
from enforcer.errors import InvalidError
from enforcer.names import check_name

ANSWER_SECONDS: Final = 30.0
MOST_WAIT_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a query; `many`: it may come several times."""

    name: str
    schema: Mapping[str, Any]
    description: str
    many: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, read and checked for its form: what a route is given."""

    peer: Peer
    path: Mapping[str, str]
    once: Mapping[str, str]
    many: Mapping[str, list[str]]
    body: Request | str | None

    def user(self) -> str:
        """Return the user it is about, the peer itself unless another is named.

        Raises:
            InvalidError: ``name.invalid``.
            ForbiddenError: ``peer.not-allowed``.
        """
        user = check_name(self.once.get("user", self.peer.name), "user")
        self.peer.check_acts_for(user)
        return user

    def server(self) -> str:
        """Return the server it is about, the default one unless another is named."""
        return check_name(self.once.get("server", ""), "server")

    def groups(self) -> Sequence[str]:
        """Return the groups the hub has the user in.

        Raises:
            InvalidError: ``name.invalid``.
            ForbiddenError: ``peer.not-privileged``.
        """
        groups = self.many["group"]
        if groups:
            self.peer.check_privileged("name groups")
        return [check_name(group, "group") for group in groups]

    def number(self, name: str, default: float, most: float) -> float:
        """Return a number of the query, from 0 to `most`.

        Raises:
            InvalidError: ``query.invalid``.
        """
        text = self.once.get(name)
        if text is None:
            return default
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not 0 <= number <= most:  # NaN is refused here as well
            raise InvalidError(
                "query.invalid",
                f"{name} is {ascii(text)[:60]}",
                f"write a number from 0 to {most:g}",
            )
        return number


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a route answers: a status, and a reply, a text or nothing."""

    status: int
    reply: Reply | bytes | None = None
    content_type: str = "application/json"


Run = Callable[[Call], Awaitable[Answer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method of one path.

    answers: status → the model, or the content type where it is no JSON of ours, or None where
    nothing is said. problems: the statuses an error may have. body: a model, ``str`` for text.
    changes: it changes something: it is logged, and finished even if the peer hangs up.
    """

    method: str
    path: str
    name: str
    summary: str
    run: Run
    answers: Mapping[int, type[Reply] | str | None]
    problems: tuple[int, ...] = ()
    body: type[Request | str] | None = None
    query: tuple[Parameter, ...] = ()
    path_parameters: Mapping[str, Mapping[str, Any]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    changes: bool = False
    seconds: float = ANSWER_SECONDS
