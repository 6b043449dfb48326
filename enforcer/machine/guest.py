"""A running guest: commands in it, files to it and from it."""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from enforcer.errors import EnforcerError, UnavailableError
from enforcer.machine.qemu import Process
from enforcer.machine.ssh import Connection, finalize_command

COMMAND_SECONDS = 180.0
COPY_SECONDS = 120.0
STOP_SECONDS = 15.0
_BOOT_ID = "/proc/sys/kernel/random/boot_id"

Command = str | Sequence[str]
"""A line for the guest's shell, or words that no shell is to interpret."""


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that has ended in the guest. code: 255 means that ssh failed."""

    stdout: str
    stderr: str
    code: int


class CommandError(EnforcerError):
    """A command in the guest ended with another code than 0."""

    def __init__(self, command: str, completed: Completed) -> None:
        said = "\n".join(filter(None, (completed.stdout.strip(), completed.stderr.strip())))
        super().__init__(
            "machine.failed", f"in the guest, {command!r} ended with {completed.code}:\n{said}"
        )
        self.completed = completed


class Guest:
    """A guest that is up. Safe for several threads at once.

    ports: the host's ports of the forwards that were asked for, by name.
    console: the file with what the guest's kernel said.
    """

    def __init__(self, process: Process, connection: Connection, console: Path) -> None:
        self._process = process
        self._connection = connection
        self.console = console
        self.ports: dict[str, int] = {}

    def run(
        self,
        command: Command,
        *,
        timeout_seconds: float = COMMAND_SECONDS,
        check: bool = True,
        input: str = "",  # noqa: A002 - subprocess calls it so too
    ) -> Completed:
        """Run a command as root, to its end.

        Raises:
            CommandError: it failed, and `check` says that this matters.
            UnavailableError: it took too long; it may still be running.
        """
        line = finalize_command(command)
        try:
            finished = subprocess.run(
                [*self._connection.words(), line],
                input=input,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise UnavailableError(
                "machine.timeout", f"in the guest, {line!r} took over {timeout_seconds:.0f} s"
            ) from error
        completed = Completed(finished.stdout, finished.stderr, finished.returncode)
        if check and completed.code != 0:
            raise CommandError(line, completed)
        return completed

    def start(self, command: Command) -> Running:
        """Start a command as root, in a session (and process group) of its own, and go on.

        Raises:
            UnavailableError: it did not start.
        """
        line = finalize_command(command)
        # Its first line tells the group, so that all of it can be stopped. No exec for a shell's
        # line: it may be several commands.
        script = f"echo $$; {line}" if isinstance(command, str) else f"echo $$; exec {line}"
        remote = finalize_command(("setsid", "--wait", "sh", "-c", script))
        process = subprocess.Popen(
            [*self._connection.words(), remote],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        first = process.stdout.readline().strip() if process.stdout else ""
        if not first.isdigit():
            process.kill()
            process.communicate()
            raise UnavailableError("machine.start", f"{line!r} did not start: {first}")
        return Running(self, process, int(first))

    def shell(self) -> int:
        """A root shell on our own terminal; its code."""
        return subprocess.run(self._connection.words("-t"), check=False).returncode

    def copy_in(self, source: Path, target: str) -> None:
        """Copy a file or a folder of the host to that path of the guest; root owns it there."""
        into, _, name = target.rpartition("/")
        pack = ["tar", "-c", "--owner=0", "--group=0", "-C", str(source.parent)]
        pack += [f"--transform=flags=r;s,^{re.escape(source.name)},{name},", source.name]
        unpack = f"mkdir -p {shlex.quote(into or '/')} && tar -x -C {shlex.quote(into or '/')}"
        self._pipe(pack, [*self._connection.words(), unpack])

    def copy_out(self, source: str, target: Path) -> None:
        """Copy a file or a folder of the guest into that folder of the host."""
        folder, _, name = source.rpartition("/")
        pack = finalize_command(["tar", "-c", "-C", folder or "/", name])
        target.mkdir(parents=True, exist_ok=True)
        unpack = ["tar", "-x", "--no-same-owner", "-C", str(target)]
        self._pipe([*self._connection.words(), pack], unpack)

    def _pipe(self, giver: Sequence[str], taker: Sequence[str]) -> None:
        with tempfile.TemporaryFile() as packed, tempfile.TemporaryFile() as said:
            for words, source, target in ((giver, None, packed), (taker, packed, said)):
                packed.seek(0)
                self._step(words, source, target)

    def _step(self, words: Sequence[str], source: IO[bytes] | None, target: IO[bytes]) -> None:
        try:
            finished = subprocess.run(
                words,
                stdin=subprocess.DEVNULL if source is None else source,
                stdout=target,
                stderr=subprocess.PIPE,
                timeout=COPY_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise UnavailableError(
                "machine.timeout", f"a copy took over {COPY_SECONDS:.0f} s"
            ) from error
        if finished.returncode != 0:
            said = finished.stderr.decode(errors="replace")
            raise CommandError(words[-1], Completed("", said, finished.returncode))

    def unpack(self, files: Mapping[str, bytes], folder: str) -> None:
        """Write files, given by their paths in that folder of the guest, in one go."""
        with tempfile.TemporaryFile() as packed, tempfile.TemporaryFile() as said:
            with tarfile.open(fileobj=packed, mode="w") as tar:
                for path, raw in files.items():
                    member = tarfile.TarInfo(path)
                    member.size, member.mtime = len(raw), int(time.time())
                    tar.addfile(member, io.BytesIO(raw))
            packed.seek(0)
            unpack = f"mkdir -p {shlex.quote(folder)} && tar -x -C {shlex.quote(folder)}"
            self._step([*self._connection.words(), unpack], packed, said)

    def read(self, path: str) -> str:
        """The text of a file of the guest."""
        return self.run(("cat", "--", path)).stdout

    def write(self, path: str, text: str) -> None:
        """Make that the text of a file of the guest; its folder must exist."""
        self.run(f"cat > {shlex.quote(path)}", input=text)

    def forward(self, port: int, host_port: int = 0) -> int:
        """Make a TCP port of the guest reachable on 127.0.0.1; its port there (0: any)."""
        return self._process.monitor.forward(port, host_port)

    def forward_socket(self, path: str, local: Path) -> None:
        """Make a Unix socket of the guest reachable as `local`, whose path must be short."""
        self._connection.forward_socket(local, path)

    def log_in_afresh(self) -> float:
        """Log in as anybody would, not on the connection that stays; the seconds that took."""
        return self._connection.log_in_afresh()

    def hang_up(self) -> None:
        """End the connection; nothing can be run afterwards."""
        self._connection.close()

    def forward_loopback(self, port: int, host_port: int) -> None:
        """Make a port that listens on the guest's 127.0.0.1 alone reachable on ours.

        Raises:
            UnavailableError: ``machine.forward``: that port of ours is taken, for instance.
        """
        self._connection.forward_port(host_port, port)

    def set_clock(self) -> None:
        """Give the guest our time, to a few hundredths: a restored one has its saver's.

        Raises:
            UnavailableError: it did not take it.
        """
        # It tells when it is ready to read the time: until then, the time may take long to arrive.
        script = 'echo; read -r now; exec date -u -s "@$now"'
        with subprocess.Popen(
            [*self._connection.words(), script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                if process.stdout is not None:
                    process.stdout.readline()
                said, _ = process.communicate(f"{time.time():.3f}\n", timeout=COMMAND_SECONDS)
            except subprocess.TimeoutExpired as error:
                raise UnavailableError("machine.clock", "the guest takes no time") from error
            finally:
                process.kill()
        if process.returncode != 0:
            raise UnavailableError("machine.clock", f"the guest's clock cannot be set: {said}")

    def reboot(self, timeout_seconds: float) -> None:
        """Let the guest reboot itself, and wait until it is up again.

        Raises:
            UnavailableError: it did not come back in that time.
        """
        before = self.read(_BOOT_ID)
        self.run("systemctl reboot", check=False)
        self.await_boot(before, timeout_seconds)

    def await_boot(self, before: str, timeout_seconds: float) -> None:
        """Wait until the guest is up after another boot than the one with this id.

        Raises:
            UnavailableError: ``machine.login``, ``machine.reboot``: not in that time.
        """
        self._connection.close()
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            self._connection.open(self._process.alive, deadline - time.monotonic())
            if self.read(_BOOT_ID) != before:
                self.run(
                    "systemctl is-system-running --wait",
                    check=False,
                    timeout_seconds=timeout_seconds,
                )
                self.set_clock()
                return
            self._connection.close()
            time.sleep(0.5)
        raise UnavailableError("machine.reboot", f"no reboot in {timeout_seconds:.0f} s")


class Running:
    """A command in a guest. process: the ssh here; group: its process group there."""

    def __init__(self, guest: Guest, process: subprocess.Popen[str], group: int) -> None:
        self._guest = guest
        self.process = process
        self.group = group

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def lines(self) -> Iterator[str]:
        """What it writes, line by line, output and errors as they come, until it ends."""
        if self.process.stdout is not None:
            for line in self.process.stdout:
                yield line.rstrip("\n")

    def wait(self, timeout_seconds: float = COMMAND_SECONDS) -> Completed:
        """Wait for its end; what has not been read of its output, and its code.

        Raises:
            UnavailableError: it still runs after that time.
        """
        try:
            output, _ = self.process.communicate(timeout=timeout_seconds)
        except subprocess.TimeoutExpired as error:
            raise UnavailableError(
                "machine.timeout", f"it still runs after {timeout_seconds:.0f} s"
            ) from error
        return Completed(output, "", self.process.returncode)

    def stop(self, signal: str = "KILL") -> Completed:
        """Send a signal to the whole group, if it is still there, and wait for its end."""
        if self.process.poll() is None:
            self._guest.run(("kill", "-s", signal, "--", f"-{self.group}"), check=False)
        try:
            return self.wait(STOP_SECONDS)
        finally:
            self.process.kill()
            self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()
