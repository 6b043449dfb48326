"""The disk of a guest: packages, files and the daemon's venv, made at the host's own speed.

mmdebstrap makes the root, and takes its mounts away again itself, however it ends; mke2fs makes a
disk of it without mounting anything.
"""

from __future__ import annotations

import io
import os
import shlex
import sys
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from enforcer.bootstrap.venv import without_packages
from enforcer.machine import contents
from enforcer.machine.progress import Progress, run_command
from enforcer.machine.recipe import Recipe

DISK = "disk.raw"
KERNEL = "kernel"
INITRD = "initrd"
KEY = "ssh-key"
HOST_KEY = "host-key.pub"

_KEYGEN_SECONDS = 30.0
_DOWNLOAD_SECONDS = 600.0
_ROOT_SECONDS = 1800.0
_DISK_SECONDS = 300.0

# Whoever kills us must not have the package installer working on for a minute.
_DIES_WITH_US = ("setpriv", "--pdeathsig", "TERM")
# Gives ordinary users' tar and mke2fs the owners that the files have in the guest.
_AS_ROOT_OF_NOTHING = ("unshare", "--user", "--map-root-user", "--map-auto", "--")
# The host's settings for pip and the like are not the guest's.
_CLEAN = "HOME=/root LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin"

_MAKE_DISK = """\
set -eu
cd "$1"
shift
mkdir root
tar -x --numeric-owner --exclude './dev/*' -f root.tar -C root
rm root.tar
mke2fs -q -F "$@" -d root disk.raw
rm -r root
"""


def build(recipe: Recipe, folder: Path, progress: Progress) -> None:
    """Fill the folder with DISK, KERNEL, INITRD, KEY (private, and .pub) and HOST_KEY.

    Raises:
        UnavailableError: no network, no room, or a program failed.
    """
    with progress("Fetching the daemon's Python packages") as waiting:
        keygen = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "guest")
        run_command((*keygen, "-f", str(folder / KEY)), waiting, _KEYGEN_SECONDS)
        for words in download_commands(recipe, folder):
            run_command(words, waiting, _DOWNLOAD_SECONDS)
    _write_tars(recipe, folder)
    with progress(f"Installing Debian {recipe.suite.name} for the virtual machine") as waiting:
        words = (*_DIES_WITH_US, "env", f"TMPDIR={_room(folder)}", *root_command(recipe, folder))
        run_command(words, waiting, _ROOT_SECONDS)
    with progress("Making the virtual machine's disk") as waiting:
        prefix = () if os.geteuid() == 0 else _AS_ROOT_OF_NOTHING
        script = ("sh", "-c", _MAKE_DISK, "sh", str(folder), *recipe.disk)
        with (folder / DISK).open("wb") as disk:
            disk.truncate(recipe.disk_gib * 2**30)
        run_command((*prefix, *script), waiting, _DISK_SECONDS)
    for rest in ("early.tar", "files.tar", "requirements.lock"):
        (folder / rest).unlink()
    for wheel in (folder / "wheels").iterdir():
        wheel.unlink()
    (folder / "wheels").rmdir()


def download_commands(recipe: Recipe, folder: Path) -> list[Sequence[str]]:
    """The calls of pip that fill folder/wheels, for the guest's Python and not for this one.

    What exists as source only is taken as that: the guest compiles it.
    """
    ready = folder / "requirements.lock"
    ready.write_text(without_packages(recipe.requirements, recipe.compiled))
    quiet = ("--quiet", "--no-input", "--disable-pip-version-check")
    pip = (sys.executable, "-m", "pip", "download", *quiet, "-d", str(folder / "wheels"))
    wheels = (*pip, "--only-binary=:all:", f"--python-version={recipe.suite.python}")
    sources = [
        (*pip, "--no-deps", f"--no-binary={name}", pin)
        for name in recipe.compiled
        for pin in _pins(recipe.requirements, name)
    ]
    return [
        (*wheels, "--no-deps", "--require-hashes", "-r", str(ready)),
        (*wheels, *recipe.builders),
        *sources,
    ]


def root_command(recipe: Recipe, folder: Path) -> Sequence[str]:
    """The call of mmdebstrap that makes folder/root.tar, KERNEL, INITRD and HOST_KEY."""
    hooks = [
        ("essential", f"tar-in {_quoted(folder / 'early.tar')} /"),
        ("customize", f"tar-in {_quoted(folder / 'files.tar')} /"),
        ("customize", f'chroot "$1" env -i {_CLEAN} sh {contents.SETUP_PATH}'),
        ("customize", f"download {contents.KERNEL} {_quoted(folder / KERNEL)}"),
        ("customize", f"download {contents.INITRD} {_quoted(folder / INITRD)}"),
        ("customize", f"download {contents.HOST_KEY} {_quoted(folder / HOST_KEY)}"),
        ("customize", f'rm -r "$1"{contents.KERNEL} "$1"{contents.INITRD}'),
    ]
    return (
        "mmdebstrap",
        "--variant=minbase",
        f"--include={','.join(recipe.packages)}",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in recipe.excluded),
        '--aptopt=Acquire::Languages "none"',
        *(f"--{when}-hook={what}" for when, what in hooks),
        recipe.suite.name,
        str(folder / "root.tar"),
    )


def _write_tars(recipe: Recipe, folder: Path) -> None:
    """What is laid into the root: before the packages are configured, and after."""
    with tarfile.open(folder / "early.tar", "w") as tar:
        _add(tar, recipe.early)
    key = contents.File("/root/.ssh/authorized_keys", (folder / f"{KEY}.pub").read_text(), 0o600)
    setup = contents.File(contents.SETUP_PATH, recipe.setup)
    lock = contents.File(contents.REQUIREMENTS, recipe.requirements)
    with tarfile.open(folder / "files.tar", "w") as tar:
        _add(tar, (*recipe.files, key, setup, lock))
        for wheel in sorted((folder / "wheels").iterdir()):
            tar.add(wheel, f".{contents.WHEELS}/{wheel.name}", filter=_owned_by_root)


def _add(tar: tarfile.TarFile, files: Iterable[contents.File]) -> None:
    for file in files:
        raw = file.text.encode()
        member = tarfile.TarInfo(f".{file.path}")
        member.size, member.mode = len(raw), file.mode
        tar.addfile(member, io.BytesIO(raw))


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _pins(requirements: str, name: str) -> list[str]:
    """The line "name==version" of a lock file."""
    words = [line.split(" ", 1)[0].rstrip("\\") for line in requirements.splitlines()]
    return [word for word in words if word.startswith(f"{name}==")]


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _room(folder: Path) -> str:
    """Where mmdebstrap may unpack: next to the result, or where all of a user's ids may go."""
    return str(folder) if os.geteuid() == 0 else "/tmp"  # noqa: S108 - mmdebstrap makes its own folder
