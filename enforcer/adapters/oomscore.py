"""oom_score_adj of the processes in a container's cgroup: proc_pid_oom_score_adj(5).

A container is given one value. Its server, that is the session of its first process, has that value
or a lower one; what the server started in sessions of its own (kernels, terminals) is more likely
to be killed, so that a kernel dies for want of memory and not the server with all of them. A server
that has become large itself is as any other process: nobody hides a hog in it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from enforcer.adapters.cgroupreader import slurp, slurp_all
from enforcer.errors import UnavailableError
from enforcer.quantities import PAGE, Bytes

SPARED_BY: Final = 300
"""Thousandths of the limit that is hit: a server is chosen only if it is so much larger than the
largest of its kernels."""

UNEVEN: Final = 1001
"""Beyond what the kernel takes: the processes do not have what they were given, or were not yet."""

NEVER_SPARED_PART: Final = 8
"""A server that has more than one in so many parts of the container's memory is not spared."""

_LEAST: Final = -999

_PASSES: Final = 4
"""A child forked while we write has its parent's old value; so we look again, but not forever."""

_GONE: Final = frozenset({errno.ENOENT, errno.ESRCH, errno.ENODEV})


@dataclass(frozen=True, slots=True)
class _Process:
    """One process, as proc_pid_stat(5) has it. started: ticks; rss: pages."""

    pid: str
    session: int
    started: int
    rss: int


def current_oom_score_adj(
    cgroup: Path, proc: Path, given: int | None, limit: Bytes | None
) -> int | None:
    """Return `given` where every process has what that means for it, else `UNEVEN`.

    None if there is no process. limit: the container's memory.
    """
    wanted = None
    for pid, wanted in _wanted(cgroup, proc, given or 0, limit):
        raw = slurp(f"{proc}/{pid}/oom_score_adj")
        if given is None or (raw and int(raw) != wanted):
            return UNEVEN
    return None if wanted is None else given


def write_oom_score_adj(
    cgroup: Path, path: str, proc: Path, value: int, limit: Bytes | None
) -> tuple[int, bool]:
    """Give every process in a cgroup and below it its value.

    Return how many were written, and whether all had theirs when they were read last: children may
    be forked faster than they are found.

    cgroup: the directory. path: the same below the mount point, as /proc shows it. limit: the
    container's memory.

    Raises:
        UnavailableError: ``kernel.refused``: CAP_SYS_RESOURCE is missing.
    """
    written = 0
    for _ in range(_PASSES):
        wanted = list(_wanted(cgroup, proc, value, limit))
        now = sum(_write(proc, pid, path, each) for pid, each in wanted)
        written += now
        if not now:
            return written, True
    return written, False


def _wanted(cgroup: Path, proc: Path, value: int, limit: Bytes | None) -> Iterator[tuple[str, int]]:
    """Yield each process and its value.

    Without a guarantee (0) it is the others that are moved, with one it is the server: a process
    that was just forked still has its server's value, and must not be spared as if it were promised
    what it is not.
    """
    processes = list(_processes(cgroup, proc))
    if not processes:
        return
    spared, rest = (max(_LEAST, value - SPARED_BY), value) if value < 0 else (0, SPARED_BY)
    server = _server(processes)
    large = None if limit is None else limit // PAGE // NEVER_SPARED_PART
    for process in processes:
        small = large is None or process.rss <= large
        is_spared = process.session == server and small
        yield process.pid, spared if is_spared else rest


def _server(processes: Iterable[_Process]) -> int:
    """Return the session of a container's first process: no other is as old."""
    return min(processes, key=lambda process: (process.started, int(process.pid))).session


def _processes(cgroup: Path, proc: Path) -> Iterator[_Process]:
    for directory, _, _ in os.walk(cgroup):
        # a threaded cgroup says EOPNOTSUPP: its processes are listed where its domain is
        for pid in slurp_all(f"{directory}/cgroup.procs").decode().split():
            # the name, in parentheses, may hold anything; what follows it are numbers
            fields = slurp(f"{proc}/{pid}/stat").rpartition(b")")[2].split()
            if fields:  # else it has ended
                yield _Process(pid, int(fields[3]), int(fields[19]), int(fields[21]))


def _write(proc: Path, pid: str, path: str, value: int) -> bool:
    """Write one process's value; False if it has it, has ended, or is not one of these (any more).

    The open directory stands for this very process: once that has ended, every access through it
    fails, even if its number has gone to another, whose cgroup would not have been ours.
    """
    try:
        directory = os.open(proc / pid, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _GONE:
            return False
        raise
    try:
        if not _is_below(_read_at(directory, "cgroup"), path):
            return False
        if int(_read_at(directory, "oom_score_adj")) == value:
            return False
        fd = os.open("oom_score_adj", os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
        try:
            os.write(fd, b"%d\n" % value)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno in _GONE:
            return False
        raise UnavailableError(
            "kernel.refused",
            f"oom_score_adj {value} of process {pid} was refused: {error.strerror}",
            "the daemon needs CAP_SYS_RESOURCE",
        ) from error
    finally:
        os.close(directory)
    return True


def _is_below(cgroup_file: bytes, path: str) -> bool:
    """Whether /proc/<pid>/cgroup names this cgroup or one below it (cgroups(7): ``0::/path``)."""
    wanted = b"0::/" + os.fsencode(path)
    return any(
        line == wanted or line.startswith(wanted + b"/") for line in cgroup_file.splitlines()
    )


def _read_at(directory: int, name: str) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        return os.read(fd, 65_536)
    finally:
        os.close(fd)
