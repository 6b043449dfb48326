"""Starting and ending QEMU; and whether KVM really works here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from enforcer.errors import UnavailableError
from enforcer.machine import warden
from enforcer.machine.progress import run_command
from enforcer.machine.qmp import Monitor
from enforcer.machine.recipe import Hardware

PROGRAM = "qemu-system-x86_64"
PROBE_SECONDS = 20.0
_LISTEN_SECONDS = 90.0
_QUIT_SECONDS = 15.0
_CPU_INFO = Path("/proc/cpuinfo")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_ACCELERATORS = {
    "kvm": ("-accel", "kvm", "-cpu", "max"),
    # No five-level page tables: each level is walked by software.
    "tcg": ("-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,la57=off"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """How to start a QEMU.

    disk: a qcow2 of this machine alone.
    memory: the file its memory is; written to only if `keeps_memory`.
    incoming: wait for a saved state instead of booting.
    """

    hardware: Hardware
    kernel: Path
    initrd: Path
    disk: Path
    memory: Path
    keeps_memory: bool
    incoming: bool
    console: Path
    socket: Path


def command(start: Start) -> list[str]:
    """QEMU's command line."""
    hardware = start.hardware
    memory = (
        f"memory-backend-file,id=ram,size={hardware.memory_mib}M,"
        f"mem-path={_quoted(start.memory)},share={'on' if start.keeps_memory else 'off'}"
    )
    return [
        PROGRAM,
        *("-nodefaults", "-no-user-config", "-display", "none", "-name", "enforcer-guest"),
        *_ACCELERATORS[hardware.accelerator],
        *("-machine", "q35,memory-backend=ram", "-smp", str(hardware.cpus)),
        *("-m", f"{hardware.memory_mib}M", "-object", memory),
        *("-kernel", str(start.kernel), "-initrd", str(start.initrd)),
        *("-append", hardware.kernel_arguments),
        # What a killed host would lose is thrown away anyhow.
        *("-drive", f"if=none,id=root,format=qcow2,cache=unsafe,file={_quoted(start.disk)}"),
        *("-device", "virtio-blk-pci,drive=root", "-device", "virtio-rng-pci"),
        # Nothing in the guest reaches the network, and nothing it needs is there.
        *("-netdev", "user,id=net0,restrict=on"),
        *("-device", "virtio-net-pci,netdev=net0,romfile="),
        *("-chardev", f"file,id=console,append=on,path={_quoted(start.console)}"),
        *("-serial", "chardev:console"),
        *("-qmp", f"unix:{_quoted(start.socket)},server=on,wait=off"),
        *(("-incoming", "defer") if start.incoming else ()),
    ]


class Process:
    """A running QEMU under its warden; ends when we end, however that is."""

    def __init__(self, start: Start, folders: Sequence[Path]) -> None:
        """Start it.

        folders: removed once it has ended, even if we are killed.
        """
        self._monitor: Monitor | None = None
        self._output = start.console.with_suffix(".qemu")
        guard = (sys.executable, "-I", warden.__file__, *map(str, folders), "--")
        with self._output.open("w") as output:
            self._warden = subprocess.Popen(
                [*guard, *command(start)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            self._monitor = Monitor(start.socket, self.alive, _LISTEN_SECONDS)
        except UnavailableError as error:
            said = self._said()
            self.kill()
            raise UnavailableError(
                "machine.start", f"QEMU did not start: {error.message}\n{said}"
            ) from error
        except BaseException:
            self.kill()
            raise

    @property
    def monitor(self) -> Monitor:
        """Its control socket."""
        assert self._monitor is not None, "there is one since it was started"  # noqa: S101 - see there
        return self._monitor

    def alive(self) -> bool:
        """Whether it runs."""
        return self._warden.poll() is None

    def quit(self) -> None:
        """End it in good order, so that its disk is complete."""
        try:
            self.monitor.call("quit")
            self._warden.wait(_QUIT_SECONDS)
        except (UnavailableError, subprocess.TimeoutExpired):
            pass  # it hangs, or has gone already
        finally:
            self.kill()

    def kill(self) -> None:
        """End it now, if it still runs."""
        if self._monitor is not None:
            self._monitor.close()
        if self._warden.stdin is not None:
            self._warden.stdin.close()  # the warden does the rest
        try:
            self._warden.wait(_QUIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._warden.kill()
            self._warden.wait(_QUIT_SECONDS)

    def _said(self) -> str:
        try:
            return self._output.read_text(errors="replace").strip()
        except FileNotFoundError:
            return ""


def version() -> str:
    """QEMU's version, as it tells it.

    Raises:
        UnavailableError: there is none.
    """
    said = run_command((PROGRAM, "--version"), lambda: None, 30).output
    found = re.search(r"version (\S+)", said)
    return found.group(1) if found else said.strip()


def processor() -> str:
    """What the kernel calls the host's processor.

    Under emulation too: there the guest counts this processor's ticks.
    """
    found = re.search(r"^model name\s*:\s*(.*)$", _CPU_INFO.read_text(), re.MULTILINE)
    return found.group(1).strip() if found else os.uname().machine


def accelerator(kernel: Path, cache: Path) -> str:
    """Return "kvm" if that boots our kernel, else "tcg".

    cache: a folder for the answer, which holds until the host boots anew.

    That /dev/kvm opens is no proof: under some hypervisors the guest then stands still.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    answer = cache / f"kvm-{_BOOT_ID.read_text().strip()}-{os.getuid()}"
    try:
        return answer.read_text()
    except FileNotFoundError:
        found = "kvm" if _kvm_boots(kernel) else "tcg"
    cache.mkdir(parents=True, exist_ok=True)
    with _replacing(answer) as new:
        new.write_text(found)
    return found


def _kvm_boots(kernel: Path) -> bool:
    """A kernel without a root panics at the end of its own start, and the machine ends."""
    words = [
        PROGRAM,
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-m", "256M"),
        *_ACCELERATORS["kvm"],
        *("-kernel", str(kernel), "-append", "console=ttyS0 panic=-1 quiet", "-serial", "stdio"),
    ]
    try:
        finished = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return finished.returncode == 0 and b"Kernel panic" in finished.stdout


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A new file that takes the place of the old one in one moment."""
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    os.close(descriptor)
    try:
        yield Path(name)
        Path(name).rename(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _quoted(path: Path) -> str:
    """In QEMU's option lists a comma is written twice."""
    return str(path).replace(",", ",,")
