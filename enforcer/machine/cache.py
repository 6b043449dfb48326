"""Layers in the user's cache: found by key, built under a lock, in use or pruned.

$XDG_CACHE_HOME/enforcer/machine/
    layers/trixie-disk-<key>/            complete, never written again
    layers/.trixie-disk-<key>.<random>/  being built, or left by a build that was killed
    locks/trixie-disk                    flocked by who builds a layer of that kind
    runs/<random>/                       one running machine

Layers and runs are flocked themselves by who uses them, so the kernel knows which of them are dead.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from enforcer.bootstrap.venv import cache_folder
from enforcer.errors import UnavailableError
from enforcer.machine.progress import Progress, Waiting, quiet

KEPT = 2
"""Layers of one kind and suite that are kept, newest first; what these stand on is kept besides."""

TURN_SECONDS = 1800.0
_POLL_SECONDS = 0.2
_YOUNG_SECONDS = 60.0
_PARENT = "parent"


@dataclass(frozen=True, slots=True)
class Layer:
    """A complete layer: its folder. What lies in there, its maker knows."""

    folder: Path

    @property
    def name(self) -> str:
        """Suite, kind and key, as in "trixie-disk-0123…"."""
        return self.folder.name

    @property
    def parent(self) -> Layer | None:
        """The layer that this one's disk is written over."""
        try:
            return Layer(self.folder.parent / (self.folder / _PARENT).read_text())
        except FileNotFoundError:
            return None

    def chain(self) -> list[Layer]:
        """This layer, and what it stands on."""
        return [self, *(self.parent.chain() if self.parent else ())]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A layer to be found or built: of what suite and kind, on what, and how."""

    suite: str
    kind: str
    key: str
    parent: Layer | None
    build: Callable[[Path], None]

    @property
    def name(self) -> str:
        """What its layer will be called."""
        return f"{self.suite}-{self.kind}-{self.key}"


class Cache:
    """The folder of all layers. Safe for any number of processes."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = cache_folder() / "machine" if folder is None else folder

    def find(self, name: str) -> Layer | None:
        """The complete layer of that name."""
        folder = self.folder / "layers" / name
        return Layer(folder) if folder.is_dir() else None

    def ensure(self, wish: Wish, progress: Progress) -> Layer:
        """Find the layer, or build it: by one process, under another name until it is complete.

        Raises:
            UnavailableError: the disk is full, or another process has been building for too long.
        """
        try:
            found = self.find(wish.name)
            if found is None:
                with _lock(self._turn(wish), exclusive=True, progress=progress):
                    found = self.find(wish.name) or self._build(wish)
                self.prune()
            os.utime(found.folder)  # the newest is the one that was asked for last
        except OSError as error:
            raise UnavailableError(
                "machine.cache",
                f"cannot write the cache {self.folder}: {error.strerror or error}",
                "make room there, or set XDG_CACHE_HOME to a folder with some gigabytes",
            ) from error
        return found

    def _turn(self, wish: Wish) -> Path:
        """The file that whoever builds such a layer has locked."""
        path = self.folder / "locks" / f"{wish.suite}-{wish.kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path

    def _build(self, wish: Wish) -> Layer:
        layers = self.folder / "layers"
        layers.mkdir(parents=True, exist_ok=True)
        for stale in layers.glob(f".{wish.suite}-{wish.kind}-*"):
            shutil.rmtree(stale, ignore_errors=True)  # we hold the lock: nobody is building it
        folder = Path(tempfile.mkdtemp(prefix=f".{wish.name}.", dir=layers))
        try:
            wish.build(folder)
            if wish.parent is not None:
                (folder / _PARENT).write_text(wish.parent.name)
            complete = layers / wish.name
            folder.rename(complete)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return Layer(complete)

    @contextmanager
    def use(self, layer: Layer) -> Iterator[None]:
        """Keep a layer, and what it stands on, from being pruned."""
        with ExitStack() as stack:
            for each in layer.chain():
                stack.enter_context(_lock(each.folder, exclusive=False))
            yield

    @contextmanager
    def run_folder(self) -> Iterator[Path]:
        """A folder for one running machine, removed at the end, and by the next one otherwise."""
        runs = self.folder / "runs"
        runs.mkdir(parents=True, exist_ok=True)
        for folder in runs.iterdir():
            # A young one may be between its making and its lock.
            if time.time() - _modified(folder) > _YOUNG_SECONDS:
                _remove_if_unused(folder)
        made = Path(tempfile.mkdtemp(dir=runs))
        with _lock(made, exclusive=True):
            yield made
            shutil.rmtree(made, ignore_errors=True)

    def prune(self) -> None:
        """Remove the layers that nobody is likely to want again."""
        layers = [Layer(folder) for folder in (self.folder / "layers").glob("[!.]*")]
        for layer in superfluous(layers):
            _remove_if_unused(layer.folder)


def superfluous(layers: Sequence[Layer], kept: int = KEPT) -> list[Layer]:
    """Those that are neither among the newest of their kind nor under one that is."""
    kinds: dict[str, list[Layer]] = {}
    for layer in layers:
        kinds.setdefault(layer.name.rpartition("-")[0], []).append(layer)
    wanted: set[Path] = set()
    for of_a_kind in kinds.values():
        newest = sorted(of_a_kind, key=lambda layer: _modified(layer.folder), reverse=True)
        for layer in newest[:kept]:
            wanted.update(each.folder for each in layer.chain())
    return [layer for layer in layers if layer.folder not in wanted]


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return time.time()  # removed by another process: not ours to remove


@contextmanager
def _lock(path: Path, *, exclusive: bool, progress: Progress = quiet) -> Iterator[None]:
    """Hold the lock of a file or folder; the kernel gives it back however we end."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if not _locked(descriptor, exclusive=exclusive):
            with progress("Waiting for another process that builds the same") as waiting:
                _wait_for_lock(descriptor, path, waiting, exclusive=exclusive)
        yield
    finally:
        os.close(descriptor)


def _wait_for_lock(descriptor: int, path: Path, waiting: Waiting, *, exclusive: bool) -> None:
    deadline = time.monotonic() + TURN_SECONDS
    while not _locked(descriptor, exclusive=exclusive):
        if time.monotonic() >= deadline:
            raise UnavailableError(
                "machine.busy",
                f"another process has held {path} for too long",
                f"find it with: fuser {path}",
            )
        waiting()
        time.sleep(_POLL_SECONDS)


def _locked(descriptor: int, *, exclusive: bool) -> bool:
    wanted = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    try:
        fcntl.flock(descriptor, wanted | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_if_unused(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return  # another process was quicker
    try:
        if _locked(descriptor, exclusive=True):
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)
