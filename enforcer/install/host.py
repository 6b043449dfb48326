"""The host that is installed on: every file and command of it in one place."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from enforcer.bootstrap import Console, Finished, Runner, SystemRunner, ensure_packages
from enforcer.bootstrap.commands import Command
from enforcer.errors import UnavailableError
from enforcer.install.files import LIBRARY, VENV, ManagedFile, digest

PACKAGES = ("python3-venv", "python3-dev", "gcc", "pkg-config", "libsystemd-dev")
"""pystemd is published as source only."""

STAMP = ".requirements.sha256"
"""In the venv: the digest of the lock file it was made from."""

ENGINE_SERVICES = ("docker", "containerd")

_MANIFEST = PurePosixPath("var/lib/enforcer/installed.json")
_DOCKER_CONFIG = PurePosixPath("etc/docker/daemon.json")
_SECONDS = 120.0
_PIP_SECONDS = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What we wrote on the host: path → digest, and the keys we put into daemon.json."""

    files: Mapping[str, str] = field(default_factory=dict)
    docker: Mapping[str, object] = field(default_factory=dict)

    def with_files(self, files: Mapping[str, str]) -> Manifest:
        """The same with other files."""
        return replace(self, files=files)

    def with_docker(self, added: Mapping[str, object]) -> Manifest:
        """The same with more keys of daemon.json."""
        return replace(self, docker={**self.docker, **added})


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host below `root`; with `dry`, says what it would do and does nothing."""

    console: Console
    dry: bool = False
    root: Path = Path("/")
    runner: Runner = field(default_factory=SystemRunner)

    def has_systemd(self) -> bool:
        """Is systemd the init process? (sd_booted(3))."""
        return (self.root / "run/systemd/system").is_dir()

    def has_cgroup2(self) -> bool:
        """Is the unified hierarchy mounted where systemd has it?"""
        return (self.root / "sys/fs/cgroup/cgroup.controllers").is_file()

    # --- files ---

    def digests(self, names: Iterable[str]) -> dict[str, str]:
        """Path → digest of those that are there."""
        found: dict[str, str] = {}
        for name in names:
            try:
                found[name] = digest((self.root / name).read_bytes())
            except FileNotFoundError:
                continue
        return found

    def write(self, file: ManagedFile) -> None:
        """Write a file of ours, whole or not at all."""
        self._write(file.path, file.content, file.mode)

    def remove(self, path: PurePosixPath) -> None:
        """Remove a file, and its folder where that is a drop-in folder left empty."""
        if self.dry:
            return
        target = self.root / path
        target.unlink(missing_ok=True)
        if target.parent.name.endswith(".d") and not any(target.parent.iterdir()):
            target.parent.rmdir()

    def load_manifest(self) -> Manifest:
        """What an earlier install wrote; empty where there was none.

        Raises:
            UnavailableError: it is there and cannot be read.
        """
        try:
            record = json.loads((self.root / _MANIFEST).read_text())
            return Manifest(files=dict(record["files"]), docker=dict(record["docker"]))
        except FileNotFoundError:
            return Manifest()
        except (ValueError, KeyError, TypeError) as error:
            raise UnavailableError(
                "install.manifest",
                f"/{_MANIFEST} cannot be read: {error}",
                "move it away; every file that is there then counts as changed, and is kept",
            ) from error

    def store_manifest(self, manifest: Manifest) -> None:
        """Remember what we wrote."""
        record = {"files": dict(manifest.files), "docker": dict(manifest.docker)}
        self._write(_MANIFEST, (json.dumps(record, indent=1) + "\n").encode(), 0o600)

    def read_docker_config(self) -> str | None:
        """daemon.json's text, None where there is none."""
        try:
            return (self.root / _DOCKER_CONFIG).read_text()
        except FileNotFoundError:
            return None

    def write_docker_config(self, text: str) -> None:
        """Replace daemon.json; the old one stays beside it, once."""
        target = self.root / _DOCKER_CONFIG
        backup = target.with_name(target.name + ".before-enforcer")
        if target.exists() and not backup.exists() and not self.dry:
            shutil.copy2(target, backup)
        self.console.say(f"  /{_DOCKER_CONFIG}: written")
        self._write(_DOCKER_CONFIG, text.encode(), 0o644)

    def _write(self, path: PurePosixPath, content: bytes, mode: int) -> None:
        if self.dry:
            return
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        new = target.with_name(f".{target.name}.new")
        new.write_bytes(content)
        new.chmod(mode)
        new.replace(target)

    # --- the package ---

    def install_venv(self, lock: Path, wheels: Path | None) -> None:
        """Make the venv with exactly what the lock file lists, unless it is there already."""
        venv = self.root / VENV
        wanted = hashlib.sha256(lock.read_bytes()).hexdigest()
        stamp = venv / STAMP
        if stamp.is_file() and stamp.read_text().strip() == wanted:
            return
        if self.dry:
            self.console.say(f"  /{VENV}: would be made from {lock.name}")
            return
        ensure_packages(PACKAGES, "to build pystemd", runner=self.runner, console=self.console)
        # The old one serves the running daemon until the new one is complete. A venv does not
        # bear moving (its scripts name its path), so it is made in its place beside the old.
        before = venv.with_name("venv.before")
        shutil.rmtree(before, ignore_errors=True)
        if venv.exists():
            venv.rename(before)
        try:
            self._make_venv(venv, lock, wheels)
            stamp.write_text(wanted + "\n")
        except BaseException:
            shutil.rmtree(venv, ignore_errors=True)
            if before.exists():
                before.rename(venv)
            raise
        shutil.rmtree(before, ignore_errors=True)

    def _make_venv(self, venv: Path, lock: Path, wheels: Path | None) -> None:
        make = (sys.executable, "-m", "venv", str(venv))
        self._must("Making the virtual environment", make, _SECONDS)
        pip = [str(venv / "bin/python"), "-m", "pip", "install", "--disable-pip-version-check"]
        pip += ["--no-deps", "--require-hashes", "-r", str(lock)]
        if wheels is not None:
            pip += ["--no-index", "--find-links", str(wheels)]
        self._must("Installing Python packages", pip, _PIP_SECONDS)

    def install_library(self, package: Path) -> None:
        """Put the package beside the venv, and tell the venv where; swapped as a whole."""
        if self.dry:
            return
        library = self.root / LIBRARY
        new = library.with_name("lib.new")
        shutil.rmtree(new, ignore_errors=True)
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
        for source in (package, package.parent / "spawner"):
            if source.is_dir():
                shutil.copytree(source, new / source.name, ignore=ignored)
        python = self.root / VENV / "bin/python"
        compile_all = [str(python), "-m", "compileall", "-q"]
        compile_all += ["-s", str(new), "-p", f"/{LIBRARY}", str(new)]
        self._must("Compiling", compile_all, _SECONDS)
        old = library.with_name("lib.before")
        shutil.rmtree(old, ignore_errors=True)
        if library.exists():
            library.rename(old)
        new.rename(library)
        shutil.rmtree(old, ignore_errors=True)
        for site_packages in (self.root / VENV).glob("lib/python3*/site-packages"):
            (site_packages / "enforcer.pth").write_text(f"/{LIBRARY}\n")

    # --- systemd and docker ---

    def activate(self, *, start: bool, units: Sequence[str]) -> None:
        """Let systemd read the units, make what they need, and start the daemon."""
        self._systemd_files()
        enable = ("systemctl", "enable", *units)
        self._must("Enabling", enable, _SECONDS)
        if start:
            self._must("Starting the socket", ("systemctl", "start", "enforcer.socket"), _SECONDS)
            restart = ("systemctl", "restart", "enforcer.service")
            self._must("Starting the daemon", restart, _SECONDS)

    def _systemd_files(self) -> None:
        sysusers = ("systemd-sysusers", "enforcer.conf")
        tmpfiles = ("systemd-tmpfiles", "--create", "enforcer.conf")
        for words in (sysusers, tmpfiles, ("systemctl", "daemon-reload")):
            self._must(words[0], words, _SECONDS)

    def deactivate(self, units: Sequence[str]) -> None:
        """Stop the daemon; containers and their limits stay."""
        self._run("Stopping the daemon", ("systemctl", "disable", "--now", *units), _SECONDS)

    def clean(self, *, purge: bool) -> None:
        """Remove what the daemon made: limits on disk, the package, and the state with purge."""
        if self.dry:
            return
        for folder in (self.root / "etc/systemd/system.control").glob("jupyter*.slice.d"):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(self.root / VENV.parent, ignore_errors=True)
        (self.root / _MANIFEST).unlink(missing_ok=True)
        if purge:
            shutil.rmtree(self.root / "etc/enforcer", ignore_errors=True)
            shutil.rmtree(self.root / "var/lib/enforcer", ignore_errors=True)
        self._must("systemctl", ("systemctl", "daemon-reload"), _SECONDS)

    def engine_outside(self) -> list[str]:
        """The services of the engine that run, and not in their slice."""
        outside: list[str] = []
        for service in ENGINE_SERVICES:
            words = ("systemctl", "show", "--property=ControlGroup", "--value", service)
            shown = self._ask(words)
            if shown and not shown.startswith("/jupyter.slice/jupyter-engine.slice/"):
                outside.append(service)
        return outside

    def no_containers_run(self) -> bool:
        """Can dockerd be restarted without a thought? False as well where it does not answer."""
        if shutil.which("docker") is None:
            return False
        finished = self.runner.run(
            Command(words=("docker", "ps", "--quiet"), timeout_seconds=_SECONDS), lambda: None
        )
        return finished.returncode == 0 and not finished.output.strip()

    def restart_engine(self) -> None:
        """Restart dockerd and containerd; live-restore is switched on before, by a reload."""
        self._run("Reloading docker", ("systemctl", "reload", "docker"), _SECONDS)
        restart = ("systemctl", "restart", "containerd", "docker")
        self._must("Restarting docker and containerd", restart, _SECONDS)

    def _ask(self, words: Sequence[str]) -> str:
        finished = self.runner.run(Command(words=words, timeout_seconds=_SECONDS), lambda: None)
        return finished.output.strip() if finished.returncode == 0 else ""

    def _run(self, label: str, words: Collection[str], seconds: float) -> Finished:
        if self.dry:
            self.console.say(f"  would run: {' '.join(words)}")
            return Finished(0, "")
        with self.console.step(label) as waiting:
            command = Command(words=list(words), timeout_seconds=seconds)
            return self.runner.run(command, waiting)

    def _must(self, label: str, words: Collection[str], seconds: float) -> None:
        finished = self._run(label, words, seconds)
        if finished.returncode != 0:
            raise UnavailableError(
                "install.step-failed",
                f"{' '.join(words)} failed (exit {finished.returncode}):\n{finished.tail()}",
                "mend what it says, then start the installation again: it goes on from there",
            )
