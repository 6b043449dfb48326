"""The Python packages: two venvs made from lock files, and our own beside them for both."""

from __future__ import annotations

import hashlib
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from enforcer.bootstrap import ensure_packages
from enforcer.install.files import HUB_VENV, LIBRARY, VENV, distribution
from enforcer.install.host import SECONDS, Host

CHARTS: Final = PurePosixPath("spawner/pages/static/vendor")
"""Below the library: what the pages' charts are drawn with."""

STAMP: Final = ".requirements.sha256"
"""In a venv: the digest of the lock file it was made from."""

_PIP_SECONDS: Final = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Venv:
    """A virtual environment: where, and the Debian packages that making it takes."""

    path: PurePosixPath
    packages: tuple[str, ...]
    why: str


DAEMON: Final = Venv(
    path=VENV,
    # pystemd is published as source only.
    packages=("python3-venv", "python3-dev", "gcc", "pkg-config", "libsystemd-dev"),
    why="to build pystemd",
)
HUB: Final = Venv(path=HUB_VENV, packages=("python3-venv",), why="to make the hub's environment")


def install_venv(host: Host, wanted: Venv, lock: Path, wheels: Path | None) -> bool:
    """Make a venv with exactly what the lock file lists; False if it is there already.

    Raises:
        UnavailableError: no network, no right to install packages, a full disk.
    """
    venv = host.root / wanted.path
    key = hashlib.sha256(lock.read_bytes()).hexdigest()
    stamp = venv / STAMP
    # The old one serves what runs now until the new one is complete. A venv does not bear moving
    # (its scripts name its path), so it is made in its place beside the old.
    before = venv.with_name(f"{venv.name}.before")
    if before.is_dir() and not stamp.is_file() and not host.dry:
        # killed in the middle: the old one is still what is complete
        shutil.rmtree(venv, ignore_errors=True)
        before.rename(venv)
    if stamp.is_file() and stamp.read_text().strip() == key:
        return False
    if host.dry:
        host.console.say(f"  /{wanted.path}: would be made from {lock.parent.name}/{lock.name}")
        return True
    ensure_packages(wanted.packages, wanted.why, runner=host.runner, console=host.console)
    shutil.rmtree(before, ignore_errors=True)
    if venv.exists():
        venv.rename(before)
    try:
        _make_venv(host, venv, lock, wheels)
        stamp.write_text(key + "\n")
    except BaseException:
        shutil.rmtree(venv, ignore_errors=True)
        if before.exists():
            before.rename(venv)
        raise
    shutil.rmtree(before, ignore_errors=True)
    return True


def install_library(host: Host, checkout: Path) -> None:
    """Put our packages beside the venvs, and tell these where; swapped as a whole."""
    if host.dry:
        return
    library = host.root / LIBRARY
    new = library.with_name("lib.new")
    shutil.rmtree(new, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc", "node_modules")
    for package in ("enforcer", "spawner"):
        shutil.copytree(checkout / package, new / package, ignore=ignored)
    # Fetched by npm (see hub.build_charts), once for all the versions that want the same.
    charts = library / CHARTS
    if charts.is_dir() and not (new / CHARTS).exists():
        shutil.copytree(charts, new / CHARTS)
    for name, text in distribution((checkout / "pyproject.toml").read_text()).items():
        (new / name).parent.mkdir(exist_ok=True)
        (new / name).write_text(text)
    compile_all = [str(host.root / VENV / "bin/python"), "-m", "compileall", "-q"]
    compile_all += ["-s", str(new), "-p", f"/{LIBRARY}", str(new)]
    host.must("Compiling", compile_all, SECONDS)
    host.swap(new, library)
    for venv in (VENV, HUB_VENV):
        for site_packages in (host.root / venv).glob("lib/python3*/site-packages"):
            (site_packages / "enforcer.pth").write_text(f"/{LIBRARY}\n")


def _make_venv(host: Host, venv: Path, lock: Path, wheels: Path | None) -> None:
    make = (sys.executable, "-m", "venv", str(venv))
    host.must("Making the virtual environment", make, SECONDS)
    pip = [str(venv / "bin/python"), "-m", "pip", "install", "--disable-pip-version-check"]
    pip += ["--no-deps", "--require-hashes", "-r", str(lock)]
    if wheels is not None:
        pip += ["--no-index", "--find-links", str(wheels)]
    host.must("Installing Python packages", pip, _PIP_SECONDS)
