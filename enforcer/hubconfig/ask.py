"""The questions, asked on a terminal; an answer that makes no sense is asked for again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from enforcer.errors import InvalidError
from enforcer.hubconfig.answers import (
    BIND_URLS,
    Allowed,
    Answers,
    ServerType,
    parse_address,
    parse_allowed,
    parse_count,
    parse_file,
    parse_hours,
    parse_names,
    parse_server_type,
    parse_url,
)

ParsedT = TypeVar("ParsedT")


class Asker(Protocol):
    """Says something to somebody, and reads a line of theirs."""

    def say(self, line: str) -> None:
        """Say a line."""
        ...

    def read(self, prompt: str) -> str:
        """Read a line.

        Raises:
            EOFError: there will be none.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What is right where nobody says otherwise; found on the machine."""

    bridge: str | None
    admins: tuple[str, ...] = ()


Given = Mapping[str, str]
"""Flag, without its dashes → its value; what was not given is missing."""

_NO_BRIDGE: Final = InvalidError(
    "hub-config.no-docker0",
    "this machine has no docker0, so the address that containers reach the hub by is not known",
    "type: systemctl start docker; then again, or name the address with --hub-ip",
)

_NO_CERTIFICATE: Final = InvalidError(
    "hub-config.certificate",
    "https needs a certificate and its key",
    "name both: --certificate FULLCHAIN.pem --key PRIVKEY.pem (certbot makes them)",
)

_TYPES: Final = """\
How do people reach the hub?
  local   on this machine only, over http
  https   from everywhere, over https, with a certificate that lies on this machine
  proxy   through another machine, whose web server has the certificate"""


def collect(given: Given, defaults: Defaults, asker: Asker | None) -> Answers:
    """Make the answers of flags, questions (without an asker there are none) and defaults.

    Raises:
        InvalidError: a flag is wrong, or something is missing that nobody was there to answer.
    """
    questions = _Questions(given, asker)
    kind = questions.take("type", _TYPES, "Type of server", "local", parse_server_type)
    url = questions.take(
        "bind-url",
        "",
        "Address to listen on",
        BIND_URLS[kind],
        lambda text: parse_url(text, "the hub"),
    )
    certificate, key = _certificate(questions, kind)
    public = questions.take(
        "public-url",
        "",
        "What people type into their browsers (empty: the address above)",
        "",
        lambda text: parse_url(text, "browsers") if text else "",
        asked=kind is ServerType.PROXY,
    )
    bridge = defaults.bridge or ""
    hub_ip = questions.take(
        "hub-ip",
        "" if bridge else f"{_NO_BRIDGE.message.capitalize()}.\n{_NO_BRIDGE.hint.capitalize()}.",
        "Address of this machine for containers (docker0's)",
        bridge,
        _bridge,
    )
    return Answers(
        server_type=kind,
        bind_url=url,
        hub_ip=hub_ip,
        admins=_admins(questions, defaults),
        allowed=_allowed(questions),
        certificate=certificate,
        key=key,
        public_url=public,
        named_servers=questions.take(
            "named-servers", "", "Servers of a user besides the default one", "0", parse_count
        ),
        idle_hours=questions.take(
            "idle-hours",
            "",
            "Hours after which an idle server is stopped (0: never)",
            "12",
            parse_hours,
        ),
    )


def _certificate(questions: _Questions, kind: ServerType) -> tuple[str, str]:
    asked = kind is ServerType.HTTPS

    def parse(text: str) -> str:
        if asked and not text:
            raise _NO_CERTIFICATE
        return parse_file(text, "a file") if text else ""

    certificate = questions.take(
        "certificate", "", "File of the certificate, with its chain", "", parse, asked=asked
    )
    return certificate, questions.take("key", "", "File of its key", "", parse, asked=asked)


def _admins(questions: _Questions, defaults: Defaults) -> tuple[str, ...]:
    found = ",".join(defaults.admins)
    return questions.take("admins", "", "Admins of the hub", found, parse_names)


def _allowed(questions: _Questions) -> Allowed:
    return questions.take(
        "allow",
        "",
        "Who may log in: all (with an account here), or names and @groups",
        "all",
        parse_allowed,
    )


def _bridge(text: str) -> str:
    if not text:
        raise _NO_BRIDGE
    return parse_address(text)


class _Questions:
    """Takes each answer from a flag, from the person, or from the default, in this order."""

    def __init__(self, given: Given, asker: Asker | None) -> None:
        self._given = given
        self._asker = asker

    def take(
        self,
        flag: str,
        preface: str,
        question: str,
        default: str,
        parse: Callable[[str], ParsedT],
        *,
        asked: bool = True,
    ) -> ParsedT:
        """Return the answer to one question; one that is not to be asked has its default."""
        if flag in self._given:
            return parse(self._given[flag])
        if self._asker is None or not asked:
            return parse(default)
        if preface:
            self._asker.say(preface)
        while True:
            shown = f" [{default}]" if default else ""
            answer = self._asker.read(f"{question}{shown}: ").strip() or default
            try:
                return parse(answer)
            except InvalidError as error:
                self._asker.say(f"  {error.message}: {error.hint}")
