"""The layers of a machine: a disk; that disk booted; that with our source installed. Starting one.

A saved machine is a folder with the disk (a qcow2 over its parent's), the memory as a plain file,
and the devices' state. Starting one maps the memory privately and puts a fresh qcow2 over the disk,
so that nothing is copied, any number may run at once, and each of them is clean.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from enforcer.errors import EnforcerError, UnavailableError
from enforcer.machine import contents, image, qemu
from enforcer.machine.cache import Cache, Layer, Wish
from enforcer.machine.guest import CommandError, Guest
from enforcer.machine.progress import Progress, calling, run_command
from enforcer.machine.recipe import (
    Hardware,
    Recipe,
    booted_key,
    disk_key,
    installed_key,
    source_digest,
)
from enforcer.machine.ssh import CONNECTION_LOST, Connection

DISK = "disk.qcow2"
MEMORY = "memory"
STATE = "state"
HARDWARE = "hardware.json"
CONSOLE = "console.log"

BOOT_SECONDS = 900.0
LOGIN_SECONDS = 180.0
SETUP_SECONDS = 1200.0
_DISK_SECONDS = 300.0
_REST_SECONDS = 2.0
_CONSOLE_LINES = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What of a checkout goes into the guest, and what is to be done with it there.

    parts: files and folders of the checkout; they land in contents.SOURCE under the same names.
    setup: lines for the guest's shell, run in contents.SOURCE.
    kind: what its layers are called by; the newest few of a kind are kept.
    over: another source, installed before.
    """

    checkout: Path = Path(__file__).resolve().parent.parent.parent
    parts: tuple[str, ...] = ("README.org", "enforcer", "pyproject.toml", "spawner", "systemd")
    setup: tuple[str, ...] = ("python3 -m enforcer install",)
    kind: str = "installed"
    over: Source | None = None

    def files(self) -> dict[str, bytes]:
        """Every file, by its path in the checkout; not what Python compiled."""
        found = {}
        for part in self.parts:
            path = self.checkout / part
            below = sorted(path.rglob("*")) if path.is_dir() else [path]
            for file in below:
                if file.is_file() and "__pycache__" not in file.parts:
                    found[str(file.relative_to(self.checkout))] = file.read_bytes()
        return found


def ensure_disk(cache: Cache, recipe: Recipe, progress: Progress) -> Layer:
    """The disk of that recipe: found, or built in a minute or two."""
    wish = Wish(
        suite=recipe.suite.name,
        kind=f"{recipe.kind}-disk",
        key=disk_key(recipe),
        parent=None,
        build=lambda folder: image.build(recipe, folder, progress),
    )
    return cache.ensure(wish, progress)


def hardware_for(cache: Cache, disk: Layer, recipe: Recipe) -> Hardware:
    """The virtual machine that this host can give."""
    return Hardware(
        accelerator=qemu.accelerator(disk.folder / image.KERNEL, cache.folder),
        version=qemu.version(),
        processor=qemu.processor(),
        memory_mib=recipe.memory_mib,
    )


def ensure_booted(cache: Cache, disk: Layer, recipe: Recipe, progress: Progress) -> Layer:
    """That disk, booted, with dockerd up and the images in it, idle."""
    hardware = hardware_for(cache, disk, recipe)

    def build(folder: Path) -> None:
        with cache.use(disk):
            (folder / HARDWARE).write_text(json.dumps(asdict(hardware)))
            _lay_disk(disk.folder / image.DISK, "raw", folder / DISK)
            with (folder / MEMORY).open("wb") as memory:
                memory.truncate(hardware.memory_mib * 2**20)
            with progress("Booting the virtual machine") as waiting, calling(waiting):
                _boot_and_save(folder, disk, hardware, recipe.booted)

    wish = Wish(
        suite=_suite(disk),
        kind=f"{recipe.kind}-booted",
        key=booted_key(disk.name, hardware, recipe.booted),
        parent=disk,
        build=build,
    )
    return cache.ensure(wish, progress)


def ensure_installed(cache: Cache, booted: Layer, source: Source, progress: Progress) -> Layer:
    """That booted machine with our source in it and its setup done, idle."""
    if source.over is not None:
        booted = ensure_installed(cache, booted, source.over, progress)
    files = source.files()

    def build(folder: Path) -> None:
        with cache.use(booted):
            (folder / HARDWARE).write_bytes((booted.folder / HARDWARE).read_bytes())
            label = "Installing the enforcer in the virtual machine"
            with progress(label) as waiting, calling(waiting), _console_told(folder / CONSOLE):
                try:
                    _install_and_save(folder, booted, source, files)
                except CommandError as error:
                    # An emulated kernel may have ended by itself: see contents.KERNEL_ARGUMENTS.
                    if error.completed.code != CONNECTION_LOST:
                        raise
                    _install_and_save(folder, booted, source, files)

    wish = Wish(
        suite=_suite(booted),
        kind=source.kind,
        key=installed_key(booted.name, source_digest(files), source.setup),
        parent=booted,
        build=build,
    )
    return cache.ensure(wish, progress)


@contextmanager
def start(cache: Cache, layer: Layer, forwards: Mapping[str, int]) -> Iterator[Guest]:
    """A clean machine from that saved one, for as long as the context lasts.

    forwards: ports of the guest by name; the host's ports are in the guest's `ports` then.

    Raises:
        UnavailableError: QEMU or the guest did not do its part in time.
    """
    with cache.use(layer), cache.run_folder() as folder:
        _lay_disk(layer.folder / DISK, "qcow2", folder / DISK)
        spec = _Spec(
            folder=folder,
            base=layer.chain()[-1].folder,
            hardware=_hardware(layer),
            memory=layer.folder / MEMORY,
            saved=layer.folder / STATE,
        )
        with _running(spec, removed=(folder,)) as (_, guest):
            for name, port in forwards.items():
                guest.ports[name] = guest.forward(port)
            yield guest


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spec:
    """One run of a machine.

    folder: where its own disk is, and its console goes.
    base: the layer with the kernel and the keys.
    saved: the state it starts from; without one it boots.
    keeps_memory: write to the memory's file, because it will be saved.
    """

    folder: Path
    base: Path
    hardware: Hardware
    memory: Path
    saved: Path | None
    keeps_memory: bool = False


@contextmanager
def _running(spec: _Spec, removed: Sequence[Path] = ()) -> Iterator[tuple[qemu.Process, Guest]]:
    """A guest that can be logged into.

    removed: folders that go when it ends, in whatever way.
    """
    # A socket's path is short, which a cache's need not be.
    sockets = Path(tempfile.mkdtemp(prefix="enforcer-", dir="/tmp"))
    begin = qemu.Start(
        hardware=spec.hardware,
        kernel=spec.base / image.KERNEL,
        initrd=spec.base / image.INITRD,
        disk=spec.folder / DISK,
        memory=spec.memory,
        keeps_memory=spec.keeps_memory,
        incoming=spec.saved is not None,
        console=spec.folder / CONSOLE,
        socket=sockets / "qmp",
    )
    with ExitStack() as stack:
        process = qemu.Process(begin, (sockets, *removed))
        stack.callback(process.kill)
        if spec.saved is not None:
            process.monitor.restore(spec.saved)
        connection = Connection(
            port=process.monitor.forward(22),
            key=spec.base / image.KEY,
            control=sockets / "ssh",
            known_hosts=sockets / "known_hosts",
        )
        connection.trust((spec.base / image.HOST_KEY).read_text())
        stack.callback(connection.close)
        with _console_told(begin.console):
            connection.open(process.alive, BOOT_SECONDS if spec.saved is None else LOGIN_SECONDS)
        guest = Guest(process, connection, begin.console)
        if spec.saved is not None:
            guest.set_clock()
        yield process, guest


def _boot_and_save(folder: Path, disk: Layer, hardware: Hardware, commands: Sequence[str]) -> None:
    spec = _Spec(
        folder=folder,
        base=disk.folder,
        hardware=hardware,
        memory=folder / MEMORY,
        saved=None,
        keeps_memory=True,
    )
    with _running(spec) as (process, guest), _console_told(folder / CONSOLE):
        _wait_until_up(guest)
        for line in commands:
            guest.run(line, timeout_seconds=SETUP_SECONDS)
        _save(process, guest, folder)


def _install_and_save(
    folder: Path, booted: Layer, source: Source, files: Mapping[str, bytes]
) -> None:
    _lay_disk(booted.folder / DISK, "qcow2", folder / DISK)
    copy = ("cp", "--sparse=always", "--reflink=auto", str(booted.folder / MEMORY))
    run_command((*copy, str(folder / MEMORY)), lambda: None, _DISK_SECONDS)
    spec = _Spec(
        folder=folder,
        base=booted.chain()[-1].folder,
        hardware=_hardware(booted),
        memory=folder / MEMORY,
        saved=booted.folder / STATE,
        keeps_memory=True,
    )
    with _running(spec) as (process, guest):
        guest.unpack(files, contents.SOURCE)
        for line in source.setup:
            guest.run(f"cd {contents.SOURCE} && {line}", timeout_seconds=SETUP_SECONDS)
        _save(process, guest, folder)


def _wait_until_up(guest: Guest) -> None:
    """Wait for the end of the boot, and refuse one in which something failed."""
    wait = "systemctl is-system-running --wait"
    state = guest.run(wait, check=False, timeout_seconds=BOOT_SECONDS).stdout.strip()
    if state != "running":
        failed = guest.run("systemctl --failed --no-legend --plain", check=False).stdout.strip()
        raise UnavailableError("machine.boot", f"the guest is {state}, not running:\n{failed}")


def _save(process: qemu.Process, guest: Guest, folder: Path) -> None:
    """Let it come to rest, write its state, and end it."""
    guest.run("sync")
    guest.hang_up()
    time.sleep(_REST_SECONDS)
    process.monitor.save(folder / STATE)
    process.quit()


def _lay_disk(below: Path, kind: str, disk: Path) -> None:
    """Make a disk that reads what it does not have from the one below, which is never written."""
    # By its relative path, so that the cache may be moved.
    backing = os.path.relpath(below, disk.parent)
    words = ("qemu-img", "create", "-q", "-f", "qcow2", "-F", kind, "-b", backing, str(disk))
    run_command(words, lambda: None, _DISK_SECONDS)


def _hardware(layer: Layer) -> Hardware:
    """The hardware that the layer was saved on."""
    return Hardware(**json.loads((layer.folder / HARDWARE).read_text()))


def _suite(layer: Layer) -> str:
    return layer.name.partition("-")[0]


@contextmanager
def _console_told(console: Path) -> Iterator[None]:
    """Put the end of the guest's console into errors: it is gone when they are read."""
    try:
        yield
    except EnforcerError as error:
        lines = console.read_text(errors="replace").splitlines()[-_CONSOLE_LINES:]
        raise UnavailableError(
            error.code, "\n    ".join([error.message, "the guest's console ends with:", *lines])
        ) from error
