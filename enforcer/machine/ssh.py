"""One ssh connection to a guest, which every command shares."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from enforcer.errors import UnavailableError

LOGIN_SECONDS = 30.0
CONTROL_SECONDS = 45.0
CONNECTION_LOST = 255
"""The code of ssh itself, instead of the command's."""
_ALIAS = "enforcer-guest"
_TRIES_APART_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """How to reach a guest's root: port of 127.0.0.1, private key, and the files that go with them.

    control: the shared connection's socket; its path must be short (108 bytes, and ssh appends 17).
    known_hosts: written by `trust`.
    """

    port: int
    key: Path
    control: Path
    known_hosts: Path

    def trust(self, host_key: str) -> None:
        """Know the guest by this public key."""
        self.known_hosts.write_text(f"{_ALIAS} {host_key.strip()}\n")

    def words(self, *options: str) -> list[str]:
        """The words before a remote command."""
        settings = {
            "ControlPath": str(self.control),
            "HostKeyAlias": _ALIAS,
            "UserKnownHostsFile": str(self.known_hosts),
            "GlobalKnownHostsFile": "none",
            "StrictHostKeyChecking": "yes",
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
            "ConnectTimeout": str(int(LOGIN_SECONDS)),
            "LogLevel": "ERROR",
            # What an emulated processor does quickest.
            "Ciphers": "chacha20-poly1305@openssh.com",
            "KexAlgorithms": "curve25519-sha256",
        }
        quoted = [f"-o{name}={value}" for name, value in settings.items()]
        where = ["-p", str(self.port), "-i", str(self.key), "root@127.0.0.1"]
        return ["ssh", "-F", "none", *quoted, *options, *where]

    def open(self, alive: Callable[[], bool], timeout_seconds: float) -> None:
        """Log in, as soon as the guest lets us, and stay.

        Raises:
            UnavailableError: it does not in that time, or is not alive any more.
        """
        deadline = time.monotonic() + timeout_seconds
        options = ("-oControlMaster=yes", "-oControlPersist=yes", "-fN")
        while True:
            said = self._finish(self.words(*options), LOGIN_SECONDS + 5)
            if said is None:
                return
            if not alive():
                raise UnavailableError("machine.gone", "the virtual machine ended before the login")
            if time.monotonic() >= deadline:
                raise UnavailableError("machine.login", f"no login into the guest: {said}")
            time.sleep(_TRIES_APART_SECONDS)

    def log_in_afresh(self) -> float:
        """Log in once more, on a connection of its own, and out again; the seconds that took.

        Raises:
            UnavailableError: it could not.
        """
        begin = time.monotonic()
        said = self._finish([*self.words("-S", "none"), "true"], LOGIN_SECONDS)
        if said is not None:
            raise UnavailableError("machine.login", f"no second login into the guest: {said}")
        return time.monotonic() - begin

    def close(self) -> None:
        """Hang up, if it is open."""
        if self.control.exists():
            self._finish(self.words("-O", "exit"), CONTROL_SECONDS)

    def forward_socket(self, local: Path, remote: str) -> None:
        """Make a Unix socket of the guest reachable here, for as long as the connection lasts.

        Raises:
            UnavailableError: ssh could not.
        """
        options = ("-oStreamLocalBindUnlink=yes", "-O", "forward", "-L", f"{local}:{remote}")
        said = self._finish(self.words(*options), CONTROL_SECONDS)
        if said is not None:
            raise UnavailableError("machine.forward", f"ssh does not forward {remote}: {said}")

    def forward_port(self, local: int, remote: int) -> None:
        """Make a port of the guest's own loopback reachable on ours, for as long as it lasts.

        Raises:
            UnavailableError: ssh could not; the port here may be taken.
        """
        where = f"127.0.0.1:{local}:127.0.0.1:{remote}"
        said = self._finish(self.words("-O", "forward", "-L", where), CONTROL_SECONDS)
        if said is not None:
            raise UnavailableError("machine.forward", f"ssh does not forward port {remote}: {said}")

    def _finish(self, words: Sequence[str], timeout_seconds: float) -> str | None:
        return _finish(words, self.control.with_suffix(".log"), timeout_seconds)


def finalize_command(command: str | Sequence[str]) -> str:
    """What ssh is to hand to the guest's shell: a string as it is, words quoted."""
    return command if isinstance(command, str) else shlex.join(command)


def _finish(words: Sequence[str], log: Path, timeout_seconds: float) -> str | None:
    """Run ssh; None if it succeeded, else what it said."""
    # Into a file, because the connection that stays would hold a pipe open.
    with log.open("w+") as said:
        try:
            finished = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                timeout=timeout_seconds,
                check=False,
                start_new_session=True,  # a terminal's Ctrl-C is for us, who then hang up
            )
        except subprocess.TimeoutExpired:
            return f"nothing within {timeout_seconds:.0f} s"
        if finished.returncode == 0:
            return None
        said.seek(0)
        return said.read().strip() or f"ssh ended with {finished.returncode}"
