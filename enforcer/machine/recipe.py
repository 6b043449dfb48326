"""What a guest is made of, as values, and the keys its cached layers are found by.

A layer's key covers everything that influences it and nothing else, so that the same wishes find
the same files again, and any change builds new ones beside them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from enforcer.errors import InvalidError
from enforcer.machine import contents

KEY_LENGTH = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A Debian release: its name, its Python, and what it packs differently from the others."""

    name: str
    python: str
    packages: tuple[str, ...] = ()


SUITES: Mapping[str, Suite] = {
    "trixie": Suite(name="trixie", python="3.13", packages=("docker-cli",)),
    "bookworm": Suite(name="bookworm", python="3.11"),
}
DEFAULT_SUITE = "trixie"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that the disk of a guest depends on.

    files: what is laid into the guest's root before `setup` runs in it.
    early: the same, but before the packages are configured.
    requirements: the text of the lock file of the daemon's Python packages.
    compiled: those of them that exist as source only, and are built in the guest.
    builders: what building those needs, in no lock.
    """

    suite: Suite
    packages: tuple[str, ...]
    excluded: tuple[str, ...]
    early: tuple[contents.File, ...]
    files: tuple[contents.File, ...]
    setup: str
    requirements: str
    compiled: tuple[str, ...]
    builders: tuple[str, ...]
    disk: tuple[str, ...]
    disk_gib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """The virtual machine's own side, of which its saved state is a picture.

    accelerator: "kvm" or "tcg".
    version: QEMU's; states are not carried from one to another.
    processor: the host's, whose features and clock rate the guest has learned.
    """

    accelerator: str
    version: str
    processor: str
    cpus: int = 2
    memory_mib: int = 3072
    kernel_arguments: str = contents.KERNEL_ARGUMENTS


def recipe_for(suite: str, requirements: str) -> Recipe:
    """The recipe of a suite's guest.

    Raises:
        InvalidError: nobody has written down what that suite needs.
    """
    if suite not in SUITES:
        raise InvalidError(
            "machine.suite", f"there is no guest of suite {suite!r}", f"one of {', '.join(SUITES)}"
        )
    return Recipe(
        suite=SUITES[suite],
        packages=(*contents.PACKAGES, *SUITES[suite].packages),
        excluded=contents.EXCLUDED,
        early=contents.EARLY,
        files=contents.FILES,
        setup=contents.SETUP,
        requirements=requirements,
        compiled=("pystemd",),
        builders=("setuptools", "wheel", "cython"),
        disk=contents.DISK_OPTIONS,
        disk_gib=contents.DISK_GIB,
    )


def disk_key(recipe: Recipe) -> str:
    """Key of the disk made from a recipe."""
    return _digest("disk", repr(recipe))


def booted_key(disk: str, hardware: Hardware, commands: Iterable[str]) -> str:
    """Key of a disk that was booted, had the commands run, and was saved."""
    return _digest("booted", disk, repr(hardware), *commands)


def installed_key(booted: str, source: str, commands: Iterable[str]) -> str:
    """Key of a booted guest that got the source, had the commands run, and was saved again.

    source: as from `source_digest`.
    """
    return _digest("installed", booted, source, *commands)


def source_digest(files: Mapping[str, bytes]) -> str:
    """Key of a tree of files, whatever the order; their modes do not count."""
    parts: list[str | bytes] = []
    for path in sorted(files):
        parts += [path, files[path]]
    return _digest("source", *parts)


def _digest(*parts: str | bytes) -> str:
    """A digest in which no part can run into its neighbour."""
    total = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        total.update(b"%d:" % len(raw))
        total.update(raw)
    return total.hexdigest()[:KEY_LENGTH]
