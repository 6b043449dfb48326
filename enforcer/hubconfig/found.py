"""What this machine tells by itself: docker0's address, who administers it."""

from __future__ import annotations

import fcntl
import grp
import os
import socket
import struct
from collections.abc import Mapping
from typing import Final

BRIDGE: Final = "docker0"

_SIOCGIFADDR: Final = 0x8915
"""netdevice(7)"""
_NAME_BYTES: Final = 15
_ADMIN_GROUPS: Final = ("sudo", "wheel")


def bridge_address(interface: str = BRIDGE) -> str | None:
    """Return an interface's IPv4 address; None if there is no such interface, or it has none."""
    request = struct.pack("256s", interface.encode()[:_NAME_BYTES])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            answer = fcntl.ioctl(asked.fileno(), _SIOCGIFADDR, request)
        except OSError:  # ENODEV, EADDRNOTAVAIL: as it is where Docker has not been started yet
            return None
    return socket.inet_ntoa(answer[20:24])


def admins(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return who has become root by sudo, or else who may: those who can do all this anyway."""
    asking = environ.get("SUDO_USER", "")
    if asking and asking != "root":
        return (asking,)
    names: list[str] = []
    for group in _ADMIN_GROUPS:
        try:
            names += grp.getgrnam(group).gr_mem
        except KeyError:
            continue
    return tuple(dict.fromkeys(name for name in names if name != "root"))
