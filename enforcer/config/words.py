"""Checks of single words of the file: paths, images, addresses."""

from __future__ import annotations

import ipaddress
import re
import string
from typing import Final

from enforcer.errors import InvalidError

_MOST_REFERENCE: Final = 512

# The distribution project's grammar: [host[:port]/]path[/path][:tag][@digest].
_HOST: Final = r"(?:[A-Za-z0-9.-]+(?::[0-9]+)?/)?"
_PATH_PART: Final = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_IMAGE: Final = re.compile(
    rf"{_HOST}{_PATH_PART}(?:/{_PATH_PART})*(?::\w[\w.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?",
    re.ASCII,
)

# Mounted into a container, even read-only, these give the host away: its secrets, its kernel, the
# sockets of its daemons.
_NEVER: Final = (
    "/proc",
    "/sys",
    "/dev",
    "/run",
    "/var/run",
    "/boot",
    "/root",
    "/var/lib/containerd",
    "/var/lib/docker",
    "/var/lib/enforcer",
)
_NEVER_WHOLE: Final = ("/", "/etc", "/var", "/var/lib")


def check_volume(path: str) -> None:
    """Check a directory that every container gets read-only.

    Raises:
        InvalidError: ``path.invalid``, ``path.forbidden``.
    """
    _check_path(path)
    _check_harmless(path)


def check_home(template: str) -> None:
    """Check the path of the home directories, with ``{username}`` in it.

    Raises:
        InvalidError: ``path.invalid``, ``path.forbidden``, ``home.no-username``.
    """
    right = 'write a path such as "/home/{username}"'
    try:
        fields = [part[1:] for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError:
        raise InvalidError(
            "home.no-username", f"{template!r} has a brace that stands alone", right
        ) from None
    if not fields:
        raise InvalidError("home.no-username", f"{template!r} lacks {{username}}", right)
    if any(one != ("username", "", None) for one in fields):
        raise InvalidError(
            "home.no-username", f"{template!r} has braces around something else", right
        )
    _check_path(template)
    if template.count("/") < 2 or "{username}" in template.split("/")[1]:
        # a user called "etc" would get the host's
        raise InvalidError(
            "path.forbidden", f"{template!r} puts home directories among the host's own", right
        )
    _check_harmless(template)


def check_image(reference: str) -> None:
    """Check that Docker can take a text for an image.

    Raises:
        InvalidError: ``image.invalid``.
    """
    if len(reference) > _MOST_REFERENCE or _IMAGE.fullmatch(reference) is None:
        raise InvalidError(
            "image.invalid",
            f"{reference[:60]!r} is not the name of an image",
            'write it such as "quay.io/jupyter/base-notebook:latest"',
        )


def parse_address(text: str) -> tuple[str, int]:
    """Parse ``"127.0.0.1:9753"`` or ``"[::1]:9753"``.

    Raises:
        InvalidError: ``address.invalid``.
    """
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        address = None
    if address is None or (address.version == 6) != (bare != host):
        raise InvalidError(
            "address.invalid",
            f"{text[:60]!r} does not begin with an address of this host",
            'write "127.0.0.1:9753", or "[::1]:9753"',
        )
    if not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII) or not 1 <= int(port) <= 65535:
        raise InvalidError(
            "address.invalid", f"{text[:60]!r} does not end with a port", "write a port, 1 to 65535"
        )
    return bare, int(port)


def _check_path(path: str) -> None:
    right = 'write a path such as "/media/shared"'
    wrong = ""
    if not path.startswith("/"):
        wrong = "does not begin with /"
    elif not path.isprintable() or ":" in path:
        # Docker writes from:to:mode
        wrong = "holds a colon or a character that cannot be printed"
    elif path != "/" and any(part in {"", ".", ".."} for part in path[1:].split("/")):
        wrong = "is not normalised"
        right = "leave out . and .., double slashes and the one at the end"
    elif len(path) > 4000:
        wrong = "is too long"
    if wrong:
        raise InvalidError("path.invalid", f"{_cut(path)} {wrong}", right)


def _check_harmless(path: str) -> None:
    inside = any(path == one or path.startswith(f"{one}/") for one in _NEVER)
    if inside or path in _NEVER_WHOLE:
        raise InvalidError(
            "path.forbidden",
            f"{_cut(path)} holds what no container may see",
            "choose a directory that holds nothing of the host's own",
        )


def _cut(path: str) -> str:
    shown = repr(path)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
