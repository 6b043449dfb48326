"""A virtual environment per lock file, in the user's cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn

from enforcer.bootstrap.commands import Command, Finished, Runner, SystemRunner
from enforcer.bootstrap.console import Console
from enforcer.bootstrap.packages import ensure_packages
from enforcer.errors import UnavailableError

DAEMON_ONLY = frozenset({"pystemd", "lxml"})
"""What of enforcer/requirements.lock only the daemon's host needs: pystemd has to be compiled."""

CREATE_SECONDS = 180.0
INSTALL_SECONDS = 1200.0
TURN_SECONDS = 1500.0
"""How long to wait for another one that builds the same venv."""

_POLL_SECONDS = 0.2
_COMPLETE = ".complete"
_INSIDE = "ENFORCER_VENV"


def cache_folder() -> Path:
    """Where everything that can be made again lives: $XDG_CACHE_HOME/enforcer."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "enforcer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What building a venv uses of the outside: replaced in tests."""

    runner: Runner = field(default_factory=SystemRunner)
    console: Console = field(default_factory=Console)
    python: str = sys.executable
    folder: Path = field(default_factory=lambda: cache_folder() / "venvs")
    install_packages: Callable[[Sequence[str], str], None] = ensure_packages
    keep_open: Sequence[int] = ()


def ensure_venv(
    lock: Path, purpose: str, *, without: Collection[str] = (), tools: Tools | None = None
) -> Path:
    """The folder of a venv that holds exactly what `lock` lists, less `without`; made if need be.

    purpose: ends the sentence "Python packages are needed ", for instance "to run the tests".

    Raises:
        UnavailableError: no network, no venv module and no right to install it, a full disk.
    """
    tools = Tools() if tools is None else tools
    requirements = without_packages(lock.read_text(encoding="utf-8"), without)
    folder = tools.folder / _key(requirements)
    if (folder / _COMPLETE).exists():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _turn(folder.with_suffix(".lock"), tools.console) as lock_descriptor:
            if not (folder / _COMPLETE).exists():
                # A pip that outlives us, killed, keeps the lock: nobody builds under its hands.
                tools = replace(tools, keep_open=[lock_descriptor])
                _build(folder, requirements, purpose, tools)
    except OSError as error:
        raise UnavailableError(
            "venv.disk",
            f"cannot write the virtual environment {folder}: {error.strerror}",
            "make room there, or set XDG_CACHE_HOME to a folder that can be written",
        ) from error
    return folder


def reexec_in(venv: Path, module: str, arguments: Sequence[str], checkout: Path) -> NoReturn:
    """Become `python -m module arguments` of that venv, with the checkout's packages importable.

    Raises:
        UnavailableError: we were started that way already, so once more would never end.
    """
    if os.environ.get(_INSIDE) == str(venv):
        raise UnavailableError(
            "venv.incomplete",
            f"the virtual environment {venv} lacks what it should hold",
            f"type: rm -r {venv}, then start again",
        )
    python = str(venv / "bin" / "python")
    paths = [str(checkout), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        _INSIDE: str(venv),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
    }
    sys.stdout.flush()
    sys.stderr.flush()
    # A lock's own path and module, never words from outside
    os.execve(python, [python, "-m", module, *arguments], environment)  # noqa: S606 - see above


def inside(venv: Path) -> bool:
    """Whether this very process runs in that venv."""
    return Path(sys.prefix).resolve() == venv.resolve()


def without_packages(requirements: str, names: Collection[str]) -> str:
    """The text of a lock file less the entries of these packages, their hashes and comments."""
    kept: list[str] = []
    dropping = False
    for line in requirements.splitlines(keepends=True):
        if not line.startswith((" ", "\t", "#")):
            dropping = line.partition("==")[0].strip() in names
        if not dropping:
            kept.append(line)
    return "".join(kept)


def _key(requirements: str) -> str:
    """What a venv depends on: its packages, and the very Python it points to."""
    facts = (requirements, sys.version, sys.platform, os.uname().machine, sys.base_prefix)
    return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:24]


def _build(folder: Path, requirements: str, purpose: str, tools: Tools) -> None:
    """Build in place and mark it complete at the end.

    Not under another name and renamed: the scripts in a venv's bin/ carry its path. What an
    interrupted build left has no mark, and is removed first.
    """
    shutil.rmtree(folder, ignore_errors=True)
    count = requirements.count("==")
    tools.console.say(f"{count} Python packages are needed {purpose}; they go to {folder}")
    _ensure_ensurepip(tools)
    created = _run(
        tools,
        "Making a virtual environment",
        (tools.python, "-m", "venv", str(folder)),
        CREATE_SECONDS,
    )
    if created.returncode != 0:
        raise _failed("making a virtual environment", created, "see above; then start again")
    lock = folder / "requirements.lock"
    lock.write_text(requirements)
    # --no-deps: the lock is complete. Left to look for dependencies, pip takes a "name[extra]" in
    # one of them for a package that is not pinned, as soon as a newer one is published.
    words = (str(folder / "bin" / "python"), "-m", "pip", "install", "--no-deps")
    options = ("--no-input", "--disable-pip-version-check", "--progress-bar=off")
    exactly = ("--require-hashes", "-r", str(lock))
    installed = _run(
        tools, f"Installing {count} Python packages", (*words, *options, *exactly), INSTALL_SECONDS
    )
    if installed.returncode != 0:
        raise _failed(
            "pip install",
            installed,
            "look at the network (pip obeys HTTPS_PROXY and PIP_INDEX_URL), then start again",
        )
    (folder / _COMPLETE).touch()


def _ensure_ensurepip(tools: Tools) -> None:
    """Debian keeps the part of venv that installs pip in a package of its own."""
    if _has_ensurepip(tools):
        return
    tools.install_packages(["python3-venv"], "to make a Python virtual environment")
    if not _has_ensurepip(tools):
        raise UnavailableError(
            "venv.no-ensurepip",
            f"{tools.python} has no ensurepip, even with the package python3-venv",
            "start with Debian's own Python: /usr/bin/python3",
        )


def _has_ensurepip(tools: Tools) -> bool:
    words = (tools.python, "-c", "import ensurepip, venv")
    return tools.runner.run(Command(words=words, timeout_seconds=30), _nothing).returncode == 0


def _run(tools: Tools, label: str, words: Sequence[str], timeout_seconds: float) -> Finished:
    with tools.console.step(label) as waiting:
        command = Command(words=words, timeout_seconds=timeout_seconds, keep_open=tools.keep_open)
        return tools.runner.run(command, waiting)


def _failed(what: str, finished: Finished, hint: str) -> UnavailableError:
    return UnavailableError(
        "venv.failed", f"{what} failed (exit {finished.returncode}):\n{finished.tail()}", hint
    )


@contextmanager
def _turn(path: Path, console: Console) -> Iterator[int]:
    """Hold the lock file; the kernel gives it back however we end."""
    with path.open("w") as file:
        _wait_for_turn(file.fileno(), path, console)
        yield file.fileno()


def _wait_for_turn(descriptor: int, path: Path, console: Console) -> None:
    if _locked(descriptor):
        return
    deadline = time.monotonic() + TURN_SECONDS
    with console.step("Waiting for another one that installs the same") as waiting:
        while not _locked(descriptor):
            if time.monotonic() >= deadline:
                raise UnavailableError(
                    "venv.busy",
                    f"another process has been building {path.stem} for too long",
                    f"find it with: fuser {path}",
                )
            waiting()
            time.sleep(_POLL_SECONDS)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _nothing() -> None:
    """Nothing to show: it takes a moment."""
