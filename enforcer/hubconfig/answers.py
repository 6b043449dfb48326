"""What the hub's configuration is written from: checked once, here."""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import SplitResult, urlsplit

from enforcer.errors import InvalidError

CONFIG: Final = PurePosixPath("/etc/jupyterhub/jupyterhub_config.py")
STATE: Final = PurePosixPath("/var/lib/jupyterhub")
PROXY_COMMAND: Final = "/opt/enforcer/proxy/node_modules/.bin/configurable-http-proxy"
MOST_NAMED_SERVERS: Final = 100
MOST_IDLE_HOURS: Final = 24.0 * 365

_HOST: Final = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]", re.ASCII)
_PATH: Final = re.compile(r"(?:/[A-Za-z0-9._~-]+)*/?", re.ASCII)
# useradd(8) takes fewer characters; LDAP and its like more.
_NAME: Final = re.compile(r"[^\s:,/@\x00-\x1f\x7f][^\s:,/\x00-\x1f\x7f]{0,254}")


class ServerType(enum.StrEnum):
    """Who reaches the hub, and how."""

    LOCAL = "local"  # this machine only, over http
    HTTPS = "https"  # everybody, over https, with a certificate that is here
    PROXY = "proxy"  # through another machine, which has the certificate


BIND_URLS: Final = {
    ServerType.LOCAL: "http://127.0.0.1:8000",
    ServerType.HTTPS: "https://0.0.0.0:443",
    ServerType.PROXY: "http://0.0.0.0:8000",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """Who may log in, of those whom the machine knows: everybody, or these users and groups."""

    everybody: bool = False
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    def words(self) -> str:
        """The same, as `parse_allowed` reads it."""
        return "all" if self.everybody else ",".join([*self.users, *(f"@{g}" for g in self.groups)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """All of it. certificate, key: for https. public_url: what users type, for a proxy.

    named_servers: how many a user may have besides the default one. idle_hours: how long a server
    may be idle before it is stopped; 0 for ever.
    """

    server_type: ServerType
    bind_url: str
    hub_ip: str
    admins: tuple[str, ...] = ()
    allowed: Allowed = field(default_factory=lambda: Allowed(everybody=True))
    certificate: str = ""
    key: str = ""
    public_url: str = ""
    named_servers: int = 0
    idle_hours: float = 0.0
    config: PurePosixPath = CONFIG
    state: PurePosixPath = STATE

    @property
    def folder(self) -> PurePosixPath:
        """Where the configuration lies, and what belongs to it."""
        return self.config.parent


def parse_server_type(text: str) -> ServerType:
    """Parse ``local``, ``https`` or ``proxy``.

    Raises:
        InvalidError: ``hub-config.type``.
    """
    try:
        return ServerType(text.strip().lower())
    except ValueError:
        raise InvalidError(
            "hub-config.type", f"{text[:60]!r} is no type of server", "local, https or proxy"
        ) from None


def parse_names(text: str) -> tuple[str, ...]:
    """Parse names of users with commas between them; none is fine.

    Raises:
        InvalidError: ``hub-config.name``.
    """
    return _unique(_name(part.strip(), "user") for part in text.split(",") if part.strip())


def parse_allowed(text: str) -> Allowed:
    """Parse ``all``, or users and @groups with commas between them.

    Raises:
        InvalidError: ``hub-config.allow``, ``hub-config.name``.
    """
    words = [part.strip() for part in text.split(",") if part.strip()]
    if [word.lower() for word in words] == ["all"]:
        return Allowed(everybody=True)
    if not words:
        raise InvalidError(
            "hub-config.allow",
            "nobody could log in",
            'write "all", or names such as "alice,bob,@scientists"',
        )
    return Allowed(
        users=_unique(_name(word, "user") for word in words if not word.startswith("@")),
        groups=_unique(_name(word[1:], "group") for word in words if word.startswith("@")),
    )


def parse_url(text: str, what: str) -> str:
    """Parse an address such as ``http://127.0.0.1:8000/jupyter``.

    Raises:
        InvalidError: ``hub-config.url``.
    """
    text = text.strip()
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        parts, port = SplitResult("", "", "", "", ""), 0
    host = parts.netloc if port is None else parts.netloc.rpartition(":")[0]
    if (
        parts.scheme not in {"http", "https"}
        or port == 0
        or not _HOST.fullmatch(host)
        or not _PATH.fullmatch(parts.path)
        or parts.query
        or parts.fragment
    ):
        raise InvalidError(
            "hub-config.url",
            f"{text[:80]!r} is no address for {what}",
            'write it such as "http://127.0.0.1:8000" or "https://lab.example.org/jupyter"',
        )
    return text


def parse_address(text: str) -> str:
    """Parse an IP address that containers can reach.

    Raises:
        InvalidError: ``hub-config.address``.
    """
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        address = None
    if address is None or address.is_loopback:
        raise InvalidError(
            "hub-config.address",
            f"{text[:60]!r} is no address that a container reaches this host by",
            "`ip addr show docker0` says it: the word after inet, without the slash",
        )
    return str(address)


def parse_file(text: str, what: str) -> str:
    """Parse the path of a file, which need not be there yet.

    Raises:
        InvalidError: ``hub-config.file``.
    """
    text = text.strip()
    if not text.startswith("/") or not text.isprintable():
        raise InvalidError(
            "hub-config.file",
            f"{text[:80]!r} is no path of {what}",
            'write a whole path, such as "/etc/letsencrypt/live/lab.example.org/fullchain.pem"',
        )
    return text


def parse_count(text: str) -> int:
    """Parse how many named servers a user may have.

    Raises:
        InvalidError: ``hub-config.count``.
    """
    if re.fullmatch(r"[0-9]{1,3}", text.strip(), re.ASCII):
        count = int(text)
        if count <= MOST_NAMED_SERVERS:
            return count
    raise InvalidError(
        "hub-config.count", f"{text[:60]!r} is no number of servers", f"0 to {MOST_NAMED_SERVERS}"
    )


def parse_hours(text: str) -> float:
    """Parse how many hours a server may be idle; 0 is for ever.

    Raises:
        InvalidError: ``hub-config.hours``.
    """
    if re.fullmatch(r"[0-9]{1,4}(?:\.[0-9]{1,3})?", text.strip(), re.ASCII):
        hours = float(text)
        if hours <= MOST_IDLE_HOURS:
            return hours
    raise InvalidError(
        "hub-config.hours",
        f"{text[:60]!r} is no number of hours",
        f"0 (never stop one) to {MOST_IDLE_HOURS:.0f}, such as 12 or 0.5",
    )


def _name(text: str, what: str) -> str:
    if not _NAME.fullmatch(text) or not text.isprintable():
        raise InvalidError(
            "hub-config.name", f"{text[:60]!r} is no name of a {what}", f"write the {what}'s name"
        )
    return text


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
