"""The host that is installed on: every file and command of it in one place."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from enforcer.bootstrap import Console, Finished, Runner, SystemRunner
from enforcer.bootstrap.commands import Command
from enforcer.errors import InvalidError, UnavailableError
from enforcer.hubconfig import bridge_address
from enforcer.install.files import VENV, ManagedFile, digest
from enforcer.names import FIXED
from enforcer.wholefile import put, sweep

ENGINE_SERVICES = ("docker", "containerd")

_MANIFEST = PurePosixPath("var/lib/enforcer/installed.json")
_DOCKER_CONFIG = PurePosixPath("etc/docker/daemon.json")
_DOCKER_BACKUP = _DOCKER_CONFIG.with_name("daemon.json.before-enforcer")
SECONDS = 120.0
"""For a command that fetches nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What we wrote on the host: path → digest, and the keys we put into daemon.json.

    begun: path → digests of what an installation that has not ended may have written there: what is
    to be changed is put down here first, and so is known for ours wherever that stops.
    hub: the hub is installed too. made: folders that were made for it, which --purge removes;
    making: the digest of its configuration, put down before that is written.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    begun: Mapping[str, Sequence[str]] = field(default_factory=dict)
    docker: Mapping[str, object] = field(default_factory=dict)
    hub: bool = False
    made: tuple[str, ...] = ()
    making: str = ""

    @property
    def ours(self) -> Mapping[str, frozenset[str]]:
        """Path → digests of what is ours there."""
        return {
            name: frozenset((*self.begun.get(name, ()), *self._written(name)))
            for name in {**self.files, **self.begun}
        }

    def beginning(self, files: Iterable[ManagedFile]) -> Manifest:
        """The same before these are written."""
        begun = {name: list(digests) for name, digests in self.begun.items()}
        for file in files:
            digests = begun.setdefault(str(file.path), [])
            if file.digest not in digests:
                digests.append(file.digest)
        return replace(self, begun=begun)

    def with_files(self, files: Mapping[str, str]) -> Manifest:
        """The same with other files, and with all that had begun at its end."""
        return replace(self, files=files, begun={})

    def with_docker(self, added: Mapping[str, object]) -> Manifest:
        """The same with more keys of daemon.json."""
        return replace(self, docker={**self.docker, **added})

    def _written(self, name: str) -> tuple[str, ...]:
        return (self.files[name],) if name in self.files else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A host below `root`; with `dry`, says what it would do and does nothing.

    find_bridge: tells the address that containers reach it by.
    """

    console: Console
    dry: bool = False
    root: Path = Path("/")
    runner: Runner = field(default_factory=SystemRunner)
    privileged: bool = field(default_factory=lambda: os.geteuid() == 0)
    cores: int = field(default_factory=lambda: os.cpu_count() or 1)
    find_bridge: Callable[[], str | None] = bridge_address

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
        self._put(file.path, file.content, file.mode)

    def remove(self, path: PurePosixPath) -> None:
        """Remove a file, and its folder where that is a drop-in folder left empty."""
        if self.dry:
            return
        target = self.root / path
        target.unlink(missing_ok=True)
        if target.parent.name.endswith(".d") and not any(target.parent.iterdir()):
            target.parent.rmdir()

    def sweep(self, names: Iterable[str]) -> None:
        """Remove what is beside these files, and our own, because we were killed in the middle."""
        if not self.dry:
            for path in (*map(PurePosixPath, names), _DOCKER_CONFIG, _DOCKER_BACKUP, _MANIFEST):
                sweep(self.root / path)

    def load_manifest(self) -> Manifest:
        """What an earlier install wrote; empty where there was none.

        Raises:
            UnavailableError: it is there and cannot be read.
        """
        try:
            record = json.loads((self.root / _MANIFEST).read_text())
            return Manifest(
                files=dict(record["files"]),
                begun=dict(record.get("begun", {})),
                docker=dict(record["docker"]),
                hub=bool(record.get("hub")),
                made=tuple(map(str, record.get("made", ()))),
                making=str(record.get("making", "")),
            )
        except FileNotFoundError:
            return Manifest()
        except (ValueError, KeyError, TypeError) as error:
            raise UnavailableError(
                "install.manifest",
                f"/{_MANIFEST} cannot be read: {error}",
                "move it away; every file that is there then counts as changed, and is kept",
            ) from error

    def store_manifest(self, manifest: Manifest) -> None:
        """Remember what we wrote, or are about to write."""
        record = {
            "files": dict(manifest.files),
            "begun": dict(manifest.begun),
            "docker": dict(manifest.docker),
            "hub": manifest.hub,
            "made": list(manifest.made),
            "making": manifest.making,
        }
        self._put(_MANIFEST, (json.dumps(record, indent=1) + "\n").encode(), 0o600)

    def read_docker_config(self) -> str | None:
        """daemon.json's text, None where there is none.

        Raises:
            InvalidError: ``docker.config-invalid``: it is not UTF-8.
        """
        return self._read(_DOCKER_CONFIG)

    def read_docker_backup(self) -> str | None:
        """The text of the daemon.json that was there before ours, None where there is none.

        Raises:
            InvalidError: as `read_docker_config`.
        """
        return self._read(_DOCKER_BACKUP)

    def write_docker_config(self, text: str) -> None:
        """Replace daemon.json; the old one stays beside it, once.

        Whoever could not read it cannot read it now: a proxy's password may stand in it.
        """
        before = self._read(_DOCKER_CONFIG)
        if before is not None and self._read(_DOCKER_BACKUP) is None:
            self._put(_DOCKER_BACKUP, before.encode(), self._docker_mode())
        self.console.say(f"  /{_DOCKER_CONFIG}: written")
        self._put(_DOCKER_CONFIG, text.encode(), self._docker_mode())

    def restore_docker_config(self, text: str) -> None:
        """Replace daemon.json by what is left of it without us; by nothing if that is nothing."""
        if text:
            self.console.say(f"  /{_DOCKER_CONFIG}: written")
            self._put(_DOCKER_CONFIG, text.encode(), self._docker_mode())
        else:
            self.console.say(f"  /{_DOCKER_CONFIG}: removed")
            self.remove(_DOCKER_CONFIG)

    def drop_docker_backup(self) -> None:
        """Remove the daemon.json of before, if that is what there is again."""
        before = self._read(_DOCKER_BACKUP)
        if before is None or self.dry:
            return
        if before == self._read(_DOCKER_CONFIG):
            self.remove(_DOCKER_BACKUP)
        else:
            self.console.say(f"  /{_DOCKER_BACKUP}: kept: it is another than daemon.json now")

    def _docker_mode(self) -> int:
        target = self.root / _DOCKER_CONFIG
        return stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o644

    def _read(self, path: PurePosixPath) -> str | None:
        try:
            return (self.root / path).read_bytes().decode()  # word for word, ends of lines too
        except FileNotFoundError:
            return None
        except UnicodeDecodeError as error:
            raise InvalidError(
                "docker.config-invalid",
                f"/{path} is not UTF-8: {error.reason} at byte {error.start}",
                "write it in UTF-8, or move it away",
            ) from error

    def _put(self, path: PurePosixPath, content: bytes, mode: int) -> None:
        if not self.dry:
            put(self.root / path, content, mode=mode)

    def swap(self, new: Path, target: Path) -> None:
        """Put a folder in the place of another, which is removed.

        Only root writes in it from then on, whatever the modes were where it was copied from.
        """
        for path in (new, *new.rglob("*")):
            if not path.is_symlink():
                path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o022)
        old = target.with_name(f"{target.name}.before")
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            target.rename(old)
        new.rename(target)
        shutil.rmtree(old, ignore_errors=True)

    # --- systemd and docker ---

    def read_units(self, *names: str) -> None:
        """Let systemd read the units, and make the users and folders that these files name."""
        sysusers = ("systemd-sysusers", *names)
        tmpfiles = ("systemd-tmpfiles", "--create", *names)
        for words in (sysusers, tmpfiles, ("systemctl", "daemon-reload")):
            self.must(words[0], words, SECONDS)

    def activate(self, *, start: bool, units: Sequence[str]) -> None:
        """Have the daemon started at boot, and now."""
        self.must("Enabling", ("systemctl", "enable", *units), SECONDS)
        if start:
            self.must("Starting the socket", ("systemctl", "start", "enforcer.socket"), SECONDS)
            restart = ("systemctl", "restart", "enforcer.service")
            self.must("Starting the daemon", restart, SECONDS)

    def deactivate(self, units: Sequence[str]) -> None:
        """Stop units for good; containers and their limits stay."""
        self.run("Stopping", ("systemctl", "disable", "--now", *units), SECONDS)

    def clean(self, *, purge: Sequence[str]) -> None:
        """Remove what was made: limits on disk, the packages, and the folders named by `purge`.

        The manifest is the last to go: until then, all this can be started again.
        """
        if not self.dry:
            # What runs keeps its limits; but a cap that a killed daemon left would come back.
            capped = [self.root / f"run/systemd/system.control/{unit}.d" for unit in FIXED]
            kept = (self.root / "etc/systemd/system.control").glob("jupyter*.slice.d")
            for folder in (*kept, *capped):
                shutil.rmtree(folder, ignore_errors=True)
            shutil.rmtree(self.root / VENV.parent, ignore_errors=True)
        self.must("systemctl", ("systemctl", "daemon-reload"), SECONDS)
        for name in purge:
            self.console.say(f"  /{name}: removed")
            if not self.dry:
                shutil.rmtree(self.root / name, ignore_errors=True)

    def drop_manifest(self, left: Manifest) -> None:
        """Forget what we wrote, but for what is still there."""
        if left == Manifest():
            self.remove(_MANIFEST)
        else:
            self.store_manifest(left)

    def engine_outside(self) -> list[str]:
        """The services of the engine that run, and not in their slice."""
        outside: list[str] = []
        for service in ENGINE_SERVICES:
            words = ("systemctl", "show", "--property=ControlGroup", "--value", service)
            shown = self.ask(words)
            if shown and not shown.startswith("/jupyter.slice/jupyter-engine.slice/"):
                outside.append(service)
        return outside

    def no_containers_run(self) -> bool:
        """Can dockerd be restarted without a thought? False as well where it does not answer."""
        if shutil.which("docker") is None:
            return False
        finished = self.runner.run(
            Command(words=("docker", "ps", "--quiet"), timeout_seconds=SECONDS), lambda: None
        )
        return finished.returncode == 0 and not finished.output.strip()

    def restart_engine(self) -> None:
        """Restart dockerd and containerd; live-restore is switched on before, by a reload."""
        self.run("Reloading docker", ("systemctl", "reload", "docker"), SECONDS)
        restart = ("systemctl", "restart", "containerd", "docker")
        self.must("Restarting docker and containerd", restart, SECONDS)

    def ask(self, words: Sequence[str]) -> str:
        """Run a command that changes nothing; what it says, or nothing if it fails."""
        finished = self.runner.run(Command(words=words, timeout_seconds=SECONDS), lambda: None)
        return finished.output.strip() if finished.returncode == 0 else ""

    def run(
        self,
        label: str,
        words: Collection[str],
        seconds: float,
        environment: Mapping[str, str] | None = None,
    ) -> Finished:
        """Run a command that changes something; dry, say which."""
        if self.dry:
            self.console.say(f"  would run: {' '.join(words)}")
            return Finished(0, "")
        with self.console.step(label) as waiting:
            command = Command(
                words=list(words), timeout_seconds=seconds, environment=environment or {}
            )
            return self.runner.run(command, waiting)

    def must(self, label: str, words: Collection[str], seconds: float) -> None:
        """Run a command without whose success there is no going on.

        Raises:
            UnavailableError: ``install.step-failed``, with what it said.
        """
        finished = self.run(label, words, seconds)
        if finished.returncode != 0:
            raise UnavailableError(
                "install.step-failed",
                f"{' '.join(words)} failed (exit {finished.returncode}):\n{finished.tail()}",
                "mend what it says, then start the installation again: it goes on from there",
            )
