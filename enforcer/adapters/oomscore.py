"""oom_score_adj of the processes in a cgroup: proc_pid_oom_score_adj(5)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from enforcer.adapters.cgroupreader import slurp, slurp_all
from enforcer.errors import UnavailableError

_PASSES: Final = 4
"""A child forked while we write has its parent's old value; so we look again, but not forever."""

_GONE: Final = frozenset({errno.ENOENT, errno.ESRCH, errno.ENODEV})


def first_oom_score_adj(cgroup: Path, proc: Path) -> int | None:
    """Return the value of the first process found in a cgroup; None if there is none."""
    for pid in _processes(cgroup):
        raw = slurp(f"{proc}/{pid}/oom_score_adj")
        if raw:
            return int(raw)
    return None


def write_oom_score_adj(cgroup: Path, path: str, proc: Path, value: int) -> int:
    """Give every process in a cgroup and below it the value; return how many were written.

    cgroup: the directory. path: the same below the mount point, as /proc shows it.

    Raises:
        UnavailableError: ``kernel.refused``: CAP_SYS_RESOURCE is missing.
    """
    written = 0
    for _ in range(_PASSES):
        now = sum(_write(proc, pid, path, value) for pid in _processes(cgroup))
        written += now
        if not now:
            break
    return written


def _processes(cgroup: Path) -> Iterator[str]:
    for directory, _, _ in os.walk(cgroup):
        # a threaded cgroup says EOPNOTSUPP: its processes are listed where its domain is
        yield from slurp_all(f"{directory}/cgroup.procs").decode().split()


def _write(proc: Path, pid: str, path: str, value: int) -> bool:
    """Write one process's value; False if it has it, has ended, or is not one of these (any more).

    The open directory stands for this very process: once that has ended, every access through it
    fails, even if its number has gone to another, whose cgroup would not have been ours.
    """
    try:
        directory = os.open(proc / pid, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
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
