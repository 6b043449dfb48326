"""What a guest is made of, as values, and the keys its cached layers are found by.

A layer's key covers everything that influences it and nothing else, so that the same wishes find
the same files again, and any change builds new ones beside them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from enforcer.errors import InvalidError
from enforcer.machine import contents, hub

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
class Venv:
    """A virtual environment of the guest: its path there, and the text of its lock file.

    compiled: what of it exists as source only, and is built in the guest.
    builders: what building that needs, in no lock.
    """

    path: str
    lock: str
    compiled: tuple[str, ...] = ()
    builders: tuple[str, ...] = ()

    @property
    def lock_path(self) -> str:
        """Where its lock file is in the guest."""
        return f"{contents.LOCKS}/{PurePosixPath(self.path).name}.lock"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeModules:
    """What npm installs: the folder in the guest, and the texts of package.json and its lock."""

    path: str
    package: str
    lock: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFiles:
    """The texts of the files that a guest with the hub is made from.

    hub, lab: the two sets of Python packages.
    lab_config: how JupyterLab's server is configured.
    proxy_package, proxy_lock: npm's two files for the hub's proxy.
    """

    hub: str
    lab: str
    lab_config: str
    proxy_package: str
    proxy_lock: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that the disk of a guest depends on.

    kind: what its layers are called by.
    files: what is laid into the guest's root before `setup` runs in it.
    early: the same, but before the packages are configured.
    booted: lines for the guest's shell, run once when it has booted, before it is saved.
    """

    suite: Suite
    kind: str
    packages: tuple[str, ...]
    excluded: tuple[str, ...]
    early: tuple[contents.File, ...]
    files: tuple[contents.File, ...]
    setup: str
    venvs: tuple[Venv, ...]
    node: tuple[NodeModules, ...]
    booted: tuple[str, ...]
    memory_mib: int
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
    memory_mib: int = contents.MEMORY_MIB
    kernel_arguments: str = contents.KERNEL_ARGUMENTS


def recipe_for(suite: str, requirements: str, files: HubFiles | None = None) -> Recipe:
    """The recipe of a suite's guest.

    requirements: the text of the daemon's lock file.
    files: given for a guest in which the hub can be installed.

    Raises:
        InvalidError: nobody has written down what that suite needs.
    """
    if suite not in SUITES:
        raise InvalidError(
            "machine.suite", f"there is no guest of suite {suite!r}", f"one of {', '.join(SUITES)}"
        )
    daemon = Venv(
        path=contents.VENV,
        lock=requirements,
        compiled=("pystemd",),
        builders=("setuptools", "wheel", "cython"),
    )
    plain = Recipe(
        suite=SUITES[suite],
        kind="plain",
        packages=(*contents.PACKAGES, *SUITES[suite].packages),
        excluded=contents.EXCLUDED,
        early=contents.EARLY,
        files=contents.FILES,
        setup=_setup((daemon,), contents.SETUP),
        venvs=(daemon,),
        node=(),
        booted=contents.BOOTED,
        memory_mib=contents.MEMORY_MIB,
        disk=contents.DISK_OPTIONS,
        disk_gib=contents.DISK_GIB,
    )
    return plain if files is None else _with_hub(plain, files)


def _with_hub(plain: Recipe, files: HubFiles) -> Recipe:
    proxy = NodeModules(path=hub.PROXY, package=files.proxy_package, lock=files.proxy_lock)
    venvs = (
        *plain.venvs,
        Venv(path=hub.HUB_VENV, lock=files.hub),
        Venv(path=hub.LAB_VENV, lock=files.lab),
    )
    return replace(
        plain,
        kind="hub",
        packages=(*plain.packages, *hub.PACKAGES),
        files=(*plain.files, *hub.FILES, contents.File(hub.LAB_CONFIG, files.lab_config)),
        setup=_setup(venvs, contents.SETUP, hub.SETUP),
        venvs=venvs,
        node=(proxy,),
        booted=(*plain.booted, *hub.BOOTED),
    )


def _setup(venvs: Iterable[Venv], *rest: str) -> str:
    """What the guest's shell runs in its root when packages and files are there."""
    lines = ["set -eu"]
    for venv in venvs:
        make = contents.VENV_SETUP.format(path=venv.path, lock=venv.lock_path)
        # All at once: pip works on one processor only, and unpacks and compiles for a minute.
        lines.append(f'(\n{make}) & making="${{making:-}} $!"')
    lines.append("for one in $making; do wait $one; done")
    return "\n".join([*lines, *rest])


def disk_key(recipe: Recipe) -> str:
    """Key of the disk made from a recipe."""
    # The last two come into play when it is booted.
    return _digest("disk", repr(replace(recipe, booted=(), memory_mib=0)))


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
