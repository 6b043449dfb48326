"""The process between us and QEMU, so that QEMU never outlives us: run as a script.

    warden.py FOLDER... -- QEMU ARGUMENTS...

It is QEMU's parent, has a session of its own (a terminal's Ctrl-C is not for them), and holds the
reading end of a pipe from us on its standard input. The pipe ends when we do, be it by SIGKILL;
then, or when QEMU has ended by itself, it kills what is left of QEMU and removes the folders. If it
is killed itself, the kernel kills QEMU. Only the standard library, and little of that.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(words: list[str]) -> int:
    """Guard one QEMU; its exit code."""
    split = words.index("--")
    folders, command = words[:split], words[split + 1 :]
    child = _start(command)
    # Readable once QEMU has ended.
    ended = os.pidfd_open(child)
    select.select([ended, sys.stdin.fileno()], [], [])
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)  # not reaped yet, so this is no other process
    _, status = os.waitpid(child, 0)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    return os.waitstatus_to_exitcode(status)


def _start(command: list[str]) -> int:
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, 0)
            os.execvp(command[0], command)  # noqa: S606 - a list, no shell
    finally:
        os._exit(127)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
