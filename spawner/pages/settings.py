"""The service's flags, and the token it is known to the hub by."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from enforcer.client import DEFAULT_SOCKET
from enforcer.errors import InvalidError
from spawner.pages import DEFAULT_PORT, SERVICE_NAME

_UNIX: Final = "unix:"
_LOOPBACK: Final = "127.0.0.1"
MOST_POLL_SECONDS: Final = 60.0
LEAST_POLL_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the service runs with.

    listen: a Unix socket's path, or host and port. prefix: where the hub's proxy shows it.
    """

    listen: str | tuple[str, int]
    prefix: str
    hub_prefix: str
    api_url: str
    token: str
    socket_path: str
    poll_seconds: float


def parse(argv: Sequence[str], environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the flags and the environment.

    Raises:
        InvalidError: ``pages.token`` and ``pages.listen``; other mistakes end the program, as
            argparse does it.
    """
    given = _parser(environ).parse_args(argv)
    base = _slashed(given.base_url)
    return Settings(
        listen=_listen(given.listen),
        prefix=_slashed(given.prefix or f"{base}services/{SERVICE_NAME}/"),
        hub_prefix=f"{base}hub/",
        api_url=given.api_url,
        token=_token(given.token_file, environ),
        socket_path=given.socket,
        poll_seconds=given.poll_seconds,
    )


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m spawner.pages",
        description="The hub's machine view, and the live numbers on its pages.",
    )
    parser.add_argument(
        "--listen",
        default=f"{_LOOPBACK}:{DEFAULT_PORT}",
        metavar="HOST:PORT|unix:PATH",
        help="where the hub's proxy finds it (%(default)s)",
    )
    parser.add_argument(
        "--api-url",
        default=environ.get("JUPYTERHUB_API_URL", "http://127.0.0.1:8081/hub/api"),
        metavar="URL",
        help="the hub's API ($JUPYTERHUB_API_URL, or %(default)s)",
    )
    parser.add_argument(
        "--base-url",
        default=environ.get("JUPYTERHUB_BASE_URL", "/"),
        metavar="PATH",
        help="the hub's base URL ($JUPYTERHUB_BASE_URL, or %(default)s)",
    )
    parser.add_argument(
        "--prefix",
        default=environ.get("JUPYTERHUB_SERVICE_PREFIX", ""),
        metavar="PATH",
        help="the service's own ($JUPYTERHUB_SERVICE_PREFIX, or services/enforcer/ below that)",
    )
    parser.add_argument(
        "--token-file",
        metavar="PATH",
        help="the token that the hub knows it by"
        " ($CREDENTIALS_DIRECTORY/token, then $JUPYTERHUB_API_TOKEN)",
    )
    parser.add_argument(
        "--socket", default=DEFAULT_SOCKET, metavar="PATH", help="the daemon's (%(default)s)"
    )
    parser.add_argument(
        "--poll-seconds",
        type=_poll_seconds,
        default=2.0,
        metavar="SECONDS",
        help="how often to look at the daemon (%(default)s)",
    )
    return parser


def _poll_seconds(text: str) -> float:
    seconds = float(text)
    if not LEAST_POLL_SECONDS <= seconds <= MOST_POLL_SECONDS:
        raise argparse.ArgumentTypeError(
            f"{text} is not between {LEAST_POLL_SECONDS} and {MOST_POLL_SECONDS:.0f}"
        )
    return seconds


def _slashed(path: str) -> str:
    inner = path.strip("/")
    return f"/{inner}/" if inner else "/"


def _listen(text: str) -> str | tuple[str, int]:
    if text.startswith(_UNIX):
        return text.removeprefix(_UNIX)
    host, _, port = text.rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise InvalidError(
            "pages.listen",
            f"--listen {text!r} is no address to listen on",
            f"write {_LOOPBACK}:{DEFAULT_PORT} or unix:/run/enforcer-pages.sock",
        )
    return host.strip("[]") or _LOOPBACK, int(port)


def _token(given: str | None, environ: Mapping[str, str]) -> str:
    path = Path(given) if given else None
    credentials = environ.get("CREDENTIALS_DIRECTORY")
    if path is None and credentials:
        path = Path(credentials) / "token"
    if path is None:
        token = environ.get("JUPYTERHUB_API_TOKEN", "")
    else:
        try:
            token = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidError(
                "pages.token",
                f"the service's token cannot be read from {path}: {error}",
                "write the token of the hub's service there, readable by root",
            ) from error
    if not token:
        raise InvalidError(
            "pages.token",
            "the service has no token, so the hub would not know it",
            "name its file with --token-file, or LoadCredential=token:… in the unit",
        )
    return token
