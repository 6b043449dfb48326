"""Starts and stops the hub with its proxy, the service and the daemon's API, all on loopback."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from enforcer.bootstrap.venv import cache_folder
from spawner.pages.build import build

CHECKOUT: Final = Path(__file__).resolve().parents[2]
PASSWORD: Final = "for tests"
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 10.0
_NPM_SECONDS: Final = 300.0


@dataclass(slots=True, kw_only=True)
class World:
    """What runs, and where."""

    folder: Path
    ports: Sequence[int]
    token: str
    daemon: subprocess.Popen[str] | None = None
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The hub as a browser sees it."""
        return f"http://127.0.0.1:{self.ports[0]}"

    @property
    def socket(self) -> Path:
        """The daemon's."""
        return self.folder / "api.sock"

    def tell(self, what: str, **words: object) -> None:
        """Have something happen to the machine's users."""
        assert self.daemon is not None
        assert self.daemon.stdin is not None
        self.daemon.stdin.write(json.dumps({"do": what, **words}) + "\n")
        self.daemon.stdin.flush()
        self._await_word("done")

    def start_daemon(self) -> None:
        """Start the daemon's API."""
        with (self.folder / "daemon.log").open("a") as log:
            self.daemon = subprocess.Popen(
                [sys.executable, "-m", "tests.browser.daemon", str(self.socket)],
                cwd=CHECKOUT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._await_word("ready")

    def stop_daemon(self) -> None:
        """Stop it; its socket goes, as systemd would have it."""
        if self.daemon is None:
            return
        assert self.daemon.stdin is not None
        assert self.daemon.stdout is not None
        self.daemon.stdin.close()
        self.daemon.terminate()
        self.daemon.wait(_STOP_SECONDS)
        self.daemon.stdout.close()
        self.daemon = None
        self.socket.unlink(missing_ok=True)

    def _await_word(self, word: str) -> None:
        assert self.daemon is not None
        assert self.daemon.stdout is not None
        said = self.daemon.stdout.readline().strip()
        assert said == word, f"{said!r}: {(self.folder / 'daemon.log').read_text()}"

    def start(self, name: str, words: Sequence[str], environ: dict[str, str]) -> None:
        """Start a process that lives as long as this."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running.append(
                subprocess.Popen(
                    words, cwd=self.folder, env=environ, stdout=log, stderr=subprocess.STDOUT
                )
            )

    def stop(self) -> None:
        """Stop everything."""
        for process in reversed(self.running):
            process.terminate()
        for process in self.running:
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(_STOP_SECONDS)
        self.stop_daemon()


@contextmanager
def running(folder: Path) -> Iterator[World]:
    """Have it all run, in `folder`."""
    proxy = proxy_command()
    build()
    world = World(folder=folder, ports=free_ports(4), token=secrets.token_hex(32))
    with ExitStack() as stack:
        stack.callback(world.stop)
        world.start_daemon()
        (folder / "token").write_text(world.token)
        environ = {
            **os.environ,
            "PYTHONPATH": str(CHECKOUT),
            "ENFORCER_TEST_SOCKET": str(world.socket),
            "ENFORCER_TEST_PORTS": " ".join(map(str, world.ports)),
            "ENFORCER_TEST_PROXY": "\n".join(proxy),
            "ENFORCER_TEST_TOKEN": world.token,
        }
        config = str(Path(__file__).with_name("hub_config.py"))
        world.start("hub", [sys.executable, "-m", "jupyterhub", "-f", config], environ)
        world.start("pages", _service(world), environ)
        _await(world, f"{world.url}/hub/health")
        _await(world, f"{world.url}/services/enforcer/static/theme.js")
        yield world


def _service(world: World) -> list[str]:
    return [
        *(sys.executable, "-m", "spawner.pages"),
        *("--listen", f"127.0.0.1:{world.ports[3]}"),
        *("--api-url", f"http://127.0.0.1:{world.ports[1]}/hub/api"),
        *("--token-file", str(world.folder / "token")),
        *("--socket", str(world.socket)),
        *("--poll-seconds", "1"),
    ]


def proxy_command() -> list[str]:
    """The hub's proxy, installed once from its lock file with npm."""
    source = CHECKOUT / "spawner" / "proxy"
    folder = cache_folder() / "test-proxy"
    program = (
        folder / "node_modules" / "configurable-http-proxy" / "bin" / "configurable-http-proxy"
    )
    lock = (source / "package-lock.json").read_bytes()
    installed = folder / "installed.json"
    if not program.is_file() or not installed.is_file() or installed.read_bytes() != lock:
        npm = shutil.which("npm")
        assert npm is not None, "the browser tests need npm: apt-get install npm"
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(source / name, folder)
        words = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(words, cwd=folder, check=True, capture_output=True, timeout=_NPM_SECONDS)
        installed.write_bytes(lock)
    return ["node", str(program)]


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody has now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _await(world: World, url: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - loopback
                return
        except (urllib.error.URLError, ConnectionError) as error:
            dead = [one.args for one in world.running if one.poll() is not None]
            if dead or time.monotonic() > deadline:
                logs = "\n".join(
                    f"--- {log.name}\n{log.read_text()[-3000:]}"
                    for log in world.folder.glob("*.log")
                )
                raise AssertionError(f"{url}: {error}; ended: {dead}\n{logs}") from error
        time.sleep(0.2)
