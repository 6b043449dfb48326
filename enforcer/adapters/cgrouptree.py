"""Which slices and containers' scopes there are, kept up to date by inotify instead of by walking.

Scopes lie in slices only (systemd.scope(5)). What is inside a scope or a service belongs to
whoever it was delegated to, who may call a directory there as he likes: it is never looked at.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from enforcer.adapters.cgroupfiles import EVENT_COUNTS, NOTIFIED
from enforcer.adapters.inotify import NO_WATCH, Event, Inotify, Mask
from enforcer.names import ROOT, UnitName, cgroup_path
from enforcer.ports import LIMIT_FILES, Change

log = logging.getLogger(__name__)

_SCOPE: Final = re.compile(r"docker-([0-9a-f]{64})\.scope")
_STRUCTURE: Final = Mask.CREATE | Mask.DELETE
_TOLD: Final = LIMIT_FILES.union(NOTIFIED)


class CgroupTree:
    """The slices under jupyter.slice and every docker-<id>.scope, by path below the mount point.

    is_news: whether a file, given its cgroup's path and its name, says something else than when it
    was last read. PID 1 rewrites every limit it knows, unchanged, whenever a controller is switched
    on somewhere or it reloads: nobody need hear of that.
    """

    def __init__(
        self, root: Path, clock: Callable[[], float], is_news: Callable[[str, str], bool]
    ) -> None:
        self._root = str(root)
        self._clock = clock
        self._is_news = is_news
        self._inotify = _open_inotify()
        self._complete = False
        self._complained = False
        """Said that something cannot be watched, since all could be."""
        self._watches: dict[int, str] = {}
        self._directories: dict[str, int | None] = {}
        self.slices: dict[UnitName, str] = {}
        self.scopes: dict[str, str] = {}
        self.stale: set[str] = set()
        """Paths of cgroups to be read whole; whoever reads them takes them out."""
        self.told: dict[str, set[str]] = {}
        """Path of a cgroup → the names of those of its files that say something else; likewise."""
        self.gone: set[str] = set()
        """Paths of cgroups that were removed, perhaps made anew since; likewise."""
        self._pending: dict[tuple[UnitName, str], float] = {}
        self._rescan()

    def refresh(self) -> None:
        """Take in what has happened. Costs one system call when nothing has."""
        events = self._inotify.read() if self._inotify else []
        if not self._complete:
            self._rescan()
        elif any(event.watch == NO_WATCH for event in events):
            log.warning("the kernel dropped inotify events: everything is read again")
            self._rescan()
            self._tell(ROOT, "")
        else:
            for event in events:
                self._apply(event)

    @property
    def has_changes(self) -> bool:
        """Whether `take_changes` would return any."""
        return bool(self._pending)

    def take_changes(self) -> list[Change]:
        """Return what was told since the last call, each file once, with its first time."""
        changes = [
            Change(unit=unit, file=file, at=at) for (unit, file), at in self._pending.items()
        ]
        self._pending.clear()
        return changes

    def fileno(self) -> int | None:
        """Return the descriptor that is readable when something has happened; None without."""
        return self._inotify.fileno() if self._inotify else None

    def close(self) -> None:
        """Give up all watches."""
        if self._inotify:
            self._inotify.close()

    def _rescan(self) -> None:
        """Walk everything: at the start, after lost events, and always where inotify fails."""
        before = set(self._directories)
        self._complete = self._inotify is not None
        self._directories.clear()
        self._watches.clear()
        self.slices.clear()
        self.scopes.clear()
        self._scan("")
        self._complained &= not self._complete
        self.stale.update(self._directories)
        self.gone.update(before.difference(self._directories))

    def _scan(self, path: str) -> None:
        """Take in a cgroup and those below it. The watch comes first, so that none is missed."""
        if not self._add(path) or not (path == "" or path.endswith(".slice")):
            return
        try:
            with os.scandir(f"{self._root}/{path}") as entries:
                names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except (FileNotFoundError, NotADirectoryError):
            return  # removed meanwhile; its DELETE is on the way
        for name in names:
            if _is_ours(name):
                self._scan(_join(path, name))

    def _add(self, path: str) -> bool:
        """Watch and note one cgroup; False if it is not there (any more)."""
        name = path.rpartition("/")[2]
        scope = _SCOPE.fullmatch(name)
        unit = UnitName(name)
        ours = _below_top(path) and cgroup_path(unit) == path
        if self._inotify:
            try:
                watch = self._inotify.add(
                    f"{self._root}/{path}",
                    _STRUCTURE | Mask.MODIFY if scope or ours else _STRUCTURE,
                )
            except OSError as error:
                if not self._complained:
                    log.warning("cannot watch %s, so every tick walks the tree: %s", path, error)
                self._complete, self._complained = False, True
                watch = None
            else:
                if watch is None:
                    return False
                self._watches[watch] = path
            self._directories[path] = watch
        elif not os.path.isdir(f"{self._root}/{path}"):  # noqa: PTH112  # strings are cheaper here
            return False
        else:
            self._directories[path] = None
        if scope:
            self.scopes[scope[1]] = path
        elif ours:
            self.slices[unit] = path
        self.stale.add(path)
        return True

    def _apply(self, event: Event) -> None:
        path = self._watches.get(event.watch)
        if path is None:
            return
        if event.mask == Mask.MODIFY:
            self._apply_written(path, event.name)
        elif Mask.IGNORED in event.mask:
            del self._watches[event.watch]
        elif Mask.ISDIR in event.mask and _is_ours(event.name):
            self._apply_directory(event, _join(path, event.name))

    def _apply_written(self, path: str, name: str) -> None:
        if name in EVENT_COUNTS:
            # not looked at now: by the next reading it will have moved many times more
            self.told.setdefault(path, set()).add(name)
            self._tell(_slice_of(path), name)
        elif name in _TOLD and self._is_news(path, name):
            if name in LIMIT_FILES:
                self.told.setdefault(path, set()).add(name)
            else:
                self.stale.add(path)
            self._tell(_slice_of(path), name)

    def _apply_directory(self, event: Event, path: str) -> None:
        if Mask.CREATE not in event.mask:
            self._forget(path)
        else:
            before = set(self._directories)
            self._scan(path)
            # one that was made before the one above it was watched has no event of its own
            for found in self._directories.keys() - before:
                self._tell(_slice_of(found), "")
        self._tell(_slice_of(path), "")

    def _forget(self, path: str) -> None:
        """Drop a cgroup and those that were below it."""
        below = f"{path}/"
        for one in [p for p in self._directories if p == path or p.startswith(below)]:
            watch = self._directories.pop(one)
            if watch is not None and self._watches.get(watch) == one:
                del self._watches[watch]
            name = one.rpartition("/")[2]
            scope = _SCOPE.fullmatch(name)
            if scope and self.scopes.get(scope[1]) == one:
                del self.scopes[scope[1]]
            if self.slices.get(UnitName(name)) == one:
                del self.slices[UnitName(name)]
            self.gone.add(one)

    def _tell(self, unit: UnitName, file: str) -> None:
        self._pending.setdefault((unit, file), self._clock())


def _open_inotify() -> Inotify | None:
    try:
        return Inotify()
    except OSError as error:
        log.warning("no inotify, so every tick walks the tree and drift is seen late: %s", error)
        return None


def _is_ours(name: str) -> bool:
    """Whether a directory is one to look at: a slice, or a container's scope."""
    return name.endswith(".slice") or _SCOPE.fullmatch(name) is not None


def _below_top(path: str) -> bool:
    return path == ROOT or path.startswith(f"{ROOT}/")


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def _slice_of(path: str) -> UnitName:
    """Return the slice a path is, or lies in."""
    head, _, name = path.rpartition("/")
    return UnitName(name if name.endswith(".slice") else head.rpartition("/")[2])
