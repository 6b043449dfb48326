"""The disk of a guest: packages, files and virtual environments, made at the host's own speed.

mmdebstrap makes the root, and takes its mounts away again itself, however it ends; mke2fs makes a
disk of it without mounting anything.
"""

from __future__ import annotations

import io
import os
import shlex
import shutil
import sys
import tarfile
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path, PurePosixPath

from enforcer.bootstrap.venv import without_packages
from enforcer.errors import UnavailableError
from enforcer.machine import contents, npm
from enforcer.machine.progress import Progress, run_command
from enforcer.machine.recipe import NodeModules, Recipe

DISK = "disk.raw"
KERNEL = "kernel"
INITRD = "initrd"
KEY = "ssh-key"
HOST_KEY = "host-key.pub"

_WHEELS = "wheels"
_LOCKS = "locks"
_NODE = "node"

_KEYGEN_SECONDS = 30.0
_DOWNLOAD_SECONDS = 600.0
_EVERY_SECONDS = 0.2
_AT_ONCE = 4
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
    with progress("Fetching packages for the virtual machine") as waiting:
        keygen = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "guest")
        run_command((*keygen, "-f", str(folder / KEY)), waiting, _KEYGEN_SECONDS)
        run_together(fetch_commands(recipe, folder), waiting)
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
    for rest in ("early.tar", "files.tar"):
        (folder / rest).unlink()
    for rest in (_WHEELS, _LOCKS, _NODE):
        shutil.rmtree(folder / rest, ignore_errors=True)


def fetch_commands(recipe: Recipe, folder: Path) -> list[Sequence[str]]:
    """The calls of pip and npm for all that comes from their registries; any order will do."""
    path = npm.search_path() if recipe.node else ""
    return download_commands(recipe, folder) + [
        npm_command(modules, _modules_folder(folder, modules), path) for modules in recipe.node
    ]


def run_together(commands: Iterable[Sequence[str]], waiting: Callable[[], None]) -> None:
    """Run some at a time: each of them mostly waits for the network.

    Raises:
        UnavailableError: the first of them that failed; those that run then are ended.
    """
    over = threading.Event()

    def alive() -> None:
        if over.is_set():
            raise UnavailableError("machine.given-up", "given up, as another one failed")

    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        running = {pool.submit(run_command, words, alive, _DOWNLOAD_SECONDS) for words in commands}
        try:
            while running:
                done, running = wait(running, timeout=_EVERY_SECONDS, return_when=FIRST_EXCEPTION)
                for one in done:
                    one.result()
                waiting()
        finally:
            over.set()
            for one in running:
                one.cancel()


def download_commands(recipe: Recipe, folder: Path) -> list[Sequence[str]]:
    """The calls of pip that fill folder/wheels, for the guest's Python and not for this one.

    What exists as source only is taken as that: the guest compiles it.
    """
    quiet = ("--quiet", "--no-input", "--disable-pip-version-check")
    pip = (sys.executable, "-m", "pip", "download", *quiet, "-d", str(folder / _WHEELS))
    wheels = (*pip, "--only-binary=:all:", f"--python-version={recipe.suite.python}")
    (folder / _LOCKS).mkdir()
    commands: list[Sequence[str]] = []
    for venv in recipe.venvs:
        ready = folder / _LOCKS / PurePosixPath(venv.lock_path).name
        ready.write_text(without_packages(venv.lock, venv.compiled))
        commands.append((*wheels, "--no-deps", "--require-hashes", "-r", str(ready)))
        if venv.builders:
            commands.append((*wheels, *venv.builders))
        commands += [
            (*pip, "--no-deps", f"--no-binary={name}", pin)
            for name in venv.compiled
            for pin in _pins(venv.lock, name)
        ]
    return commands


def npm_command(modules: NodeModules, folder: Path, path: str) -> Sequence[str]:
    """The call of npm that puts just what the lock lists into a folder; nothing of it is run here.

    path: a PATH with npm on it.
    """
    folder.mkdir(parents=True)
    (folder / "package.json").write_text(modules.package)
    (folder / "package-lock.json").write_text(modules.lock)
    quiet = ("--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error")
    npm_ci = ("npm", "ci", "--omit=dev", "--ignore-scripts", *quiet, "--prefix", str(folder))
    # its cache of compiled code would stay in /tmp
    return ("env", f"PATH={path}", "NODE_DISABLE_COMPILE_CACHE=1", *npm_ci)


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


def _modules_folder(folder: Path, modules: NodeModules) -> Path:
    return folder / _NODE / PurePosixPath(modules.path).name


def _write_tars(recipe: Recipe, folder: Path) -> None:
    """What is laid into the root: before the packages are configured, and after."""
    with tarfile.open(folder / "early.tar", "w") as tar:
        _add(tar, recipe.early)
    key = contents.File("/root/.ssh/authorized_keys", (folder / f"{KEY}.pub").read_text(), 0o600)
    setup = contents.File(contents.SETUP_PATH, recipe.setup)
    locks = [contents.File(venv.lock_path, venv.lock) for venv in recipe.venvs]
    with tarfile.open(folder / "files.tar", "w") as tar:
        _add(tar, (*recipe.files, key, setup, *locks))
        tar.add(folder / _WHEELS, f".{contents.WHEELS}", filter=_owned_by_root)
        for modules in recipe.node:
            tar.add(_modules_folder(folder, modules), f".{modules.path}", filter=_owned_by_root)


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
