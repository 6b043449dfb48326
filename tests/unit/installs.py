"""A host to install on: files below a folder, and commands that are only written down."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from enforcer.bootstrap import Console, Finished
from enforcer.bootstrap.commands import Command
from enforcer.install import main
from enforcer.install.host import Host

CHECKOUT = Path(__file__).parents[2]
EXAMPLE = (CHECKOUT / "systemd/enforcer.toml").read_text()


class RecordingRunner:
    """Answers every command as `answers` has it, with success otherwise, and keeps the words."""

    def __init__(self, answers: dict[str, Finished] | None = None) -> None:
        self.answers = {} if answers is None else answers
        self.commands: list[str] = []

    def run(self, command: Command, _waiting: object) -> Finished:
        words = " ".join(command.words)
        _killer("command")
        self.commands.append(words)
        if " -m venv " in words:
            (Path(command.words[-1]) / "lib/python3.11/site-packages").mkdir(parents=True)
        return next(
            (a for start, a in self.answers.items() if words.startswith(start)), Finished(0, "")
        )


NODE = {"node --version": Finished(0, "v20.1.0\n")}
DEBIAN = {"dpkg-query": Finished(0, "installed"), "docker ps": Finished(1, "no dockerd")}


def host_at(root: Path, runner: RecordingRunner | None = None, *, dry: bool = False) -> Host:
    """A host that systemd runs, as root sees it, its containers' network up."""
    (root / "run/systemd/system").mkdir(parents=True, exist_ok=True)
    controllers = root / "sys/fs/cgroup/cgroup.controllers"
    controllers.parent.mkdir(parents=True, exist_ok=True)
    controllers.touch()
    return Host(
        console=Console(),
        root=root,
        runner=RecordingRunner({**NODE, **DEBIAN}) if runner is None else runner,
        dry=dry,
        privileged=True,
        cores=2,
        find_bridge=lambda: "172.17.0.1",
    )


def modules(folder: Path, integrity: str = "sha512-a") -> Path:
    """A folder as npm leaves it."""
    packages = {"node_modules/a": {"version": "1", "integrity": integrity}}
    folder.mkdir(parents=True)
    (folder / "package.json").write_text("{}")
    (folder / "package-lock.json").write_text(json.dumps({"packages": {"": {}, **packages}}))
    (folder / "node_modules").mkdir()
    record = folder / "node_modules/.package-lock.json"
    record.write_text(json.dumps({"packages": packages}))
    return folder


def small_checkout(folder: Path, version: int = 1) -> Path:
    """A checkout with one file of each kind; `version` is in those that change with every one."""
    texts = {
        "systemd/jupyter.slice": f"# {version}\n",
        "systemd/enforcer.toml": f"# {version}\n{EXAMPLE}",
        "systemd/docker.service.d/50-enforcer.conf": "[Service]\nSlice=jupyter-engine.slice\n",
        f"systemd/only-in-{version}.slice": "[Slice]\n",
        "systemd/hub/jupyterhub.service": f"# {version}\n",
        "enforcer/requirements.lock": "",
        "enforcer/module.py": "",
        "spawner/requirements.lock": "",
        "pyproject.toml": '[project]\nname = "jupyter-enforcer"\nversion = "1"\n',
    }
    modules(folder / "spawner/proxy")
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def install(host: Host, checkout: Path, *words: str) -> int:
    """Install from a small checkout, the hub too where it is asked for."""
    offline = ("--node-modules", str(checkout / "spawner/proxy"))
    return main(["install", *offline, *words], host, checkout)


def files_of(host: Host) -> dict[str, tuple[int, bytes]]:
    """Path → mode and content of all that lies on a host."""
    return {
        str(path.relative_to(host.root)): (path.stat().st_mode, path.read_bytes())
        for path in sorted(host.root.rglob("*"))
        if path.is_file()
    }


class Killed(BaseException):
    """What runs has been killed."""


class _Killer:
    """Counts what is changed, and kills at one of these changes: nothing is changed any more.

    What happens below /opt/enforcer does not count, it goes as a whole; the commands there do.
    """

    def __init__(self) -> None:
        self.thread = 0
        self.seen = 0
        self.last = 0

    def __call__(self, event: str, *words: object) -> None:
        if self.thread == threading.get_ident() and _changes(event, words):
            self.seen += 1
            if self.seen > self.last:
                raise Killed

    def hook(self, event: str, words: tuple[object, ...]) -> None:
        """Take what Python tells of itself (sys.addaudithook)."""
        if self.thread:
            self(event, *words)


def _changes(event: str, words: tuple[object, ...]) -> bool:
    if event == "command":
        return True
    if not words or not isinstance(words[0], str | os.PathLike) or "/opt/enforcer" in str(words[0]):
        return False
    match event:
        case "open":
            _, mode, flags = words
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR) > 0
            return writes or bool(set("wax+") & set(str(mode or "")))
        case "os.mkdir":
            return not Path(words[0]).exists()
        case "os.remove" | "os.rmdir":
            return words[1] != -1 or os.path.lexists(words[0])  # in a folder that is removed
        case _:
            return event == "os.rename"


_killer = _Killer()
sys.addaudithook(_killer.hook)  # for good, there is no way back; it does nothing unless it is armed


def killed_anywhere(
    make: Callable[[Path], Host], folder: Path, act: Callable[[Host], object]
) -> Iterator[Host]:
    """Yield hosts on which an act was killed before its first change, its second, and so on."""
    number = 0
    while True:
        host = make(folder / str(number))
        _killer.seen, _killer.last, _killer.thread = 0, number, threading.get_ident()
        try:
            act(host)
        except Killed:
            _killer.thread = 0
            yield host
            shutil.rmtree(host.root)  # hundreds of them are slow to leave behind
        else:
            break
        finally:
            _killer.thread = 0
        number += 1
    assert number > 10, "it did change something"
