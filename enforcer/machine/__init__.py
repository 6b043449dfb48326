"""A throw-away virtual machine: Debian with systemd, dockerd and, if wished, the enforcer in it.

    layer = machine.prepare("trixie", progress=Console().step)
    with machine.start(layer) as guest:
        print(guest.run("systemctl --version").stdout)

The first `prepare` builds for minutes; after that it finds what it built in the cache. Each `start`
gives a clean machine, and nothing of it is left when its context ends.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from enforcer.machine import layers, recipe
from enforcer.machine.cache import Cache, Layer
from enforcer.machine.contents import DEMO_IMAGE, SOURCE
from enforcer.machine.guest import CommandError, Completed, Guest, Running
from enforcer.machine.layers import Source
from enforcer.machine.progress import Progress, quiet
from enforcer.machine.recipe import DEFAULT_SUITE, SUITES

__all__ = [
    "DEFAULT_SUITE",
    "DEMO_IMAGE",
    "HOST_PACKAGES",
    "SOURCE",
    "SUITES",
    "CommandError",
    "Completed",
    "Guest",
    "Layer",
    "Progress",
    "Running",
    "Source",
    "missing_programs",
    "prepare",
    "quiet",
    "start",
]

HOST_PACKAGES = (
    "debian-archive-keyring",
    "e2fsprogs",
    "libsystemd-dev",
    "mmdebstrap",
    "openssh-client",
    "pkg-config",
    "qemu-system-x86",
    "qemu-utils",
    "uidmap",
    "util-linux",
)
"""What the host needs. pkg-config and libsystemd-dev, because pip cannot even fetch pystemd's
source without asking its build script for its name."""

_PROGRAMS = (
    *("mmdebstrap", "mke2fs", "qemu-system-x86_64", "qemu-img"),
    *("ssh", "ssh-keygen", "setpriv", "pkg-config"),
)

_HERE = Path(__file__).parent
_HUB_SIDE = _HERE.parent.parent / "spawner"


def missing_programs() -> list[str]:
    """The programs of HOST_PACKAGES that are not here."""
    return [program for program in _PROGRAMS if shutil.which(program) is None]


def prepare(
    suite: str = DEFAULT_SUITE,
    *,
    source: Source | None = None,
    hub: bool = False,
    progress: Progress = quiet,
    cache: Cache | None = None,
) -> Layer:
    """A saved machine of that Debian release: with dockerd up or, given a source, that installed.

    hub: it has what the hub needs too (`enforcer.machine.hub`).

    Raises:
        InvalidError: no such suite.
        UnavailableError: no network, no room, or something in the guest failed.
    """
    cache = Cache() if cache is None else cache
    requirements = (_HERE.parent / "requirements.lock").read_text()
    wanted = recipe.recipe_for(suite, requirements, _hub_files() if hub else None)
    disk = layers.ensure_disk(cache, wanted, progress)
    booted = layers.ensure_booted(cache, disk, wanted, progress)
    if source is None:
        return booted
    return layers.ensure_installed(cache, booted, source, progress)


def _hub_files() -> recipe.HubFiles:
    return recipe.HubFiles(
        hub=(_HUB_SIDE / "requirements.lock").read_text(),
        lab=(_HERE / "lab.lock").read_text(),
        lab_config=(_HERE / "jupyter_server_config.py").read_text(),
        proxy_package=(_HUB_SIDE / "proxy" / "package.json").read_text(),
        proxy_lock=(_HUB_SIDE / "proxy" / "package-lock.json").read_text(),
    )


@contextmanager
def start(
    layer: Layer, *, forwards: Mapping[str, int] | None = None, cache: Cache | None = None
) -> Iterator[Guest]:
    """A clean machine from that layer, for as long as the context lasts.

    forwards: TCP ports of the guest by name; `guest.ports` has the host's, on 127.0.0.1.

    Raises:
        UnavailableError: QEMU or the guest did not do its part in time.
    """
    with layers.start(Cache() if cache is None else cache, layer, forwards or {}) as guest:
        yield guest
