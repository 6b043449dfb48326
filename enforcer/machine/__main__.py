"""`python3 -m enforcer.machine shell` or `run COMMAND…`: a look into a throw-away machine."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from enforcer import machine
from enforcer.bootstrap import Console, ensure_packages, guarded

_RUN_SECONDS = 600.0


def main(argv: Sequence[str] | None = None) -> int:
    """Start a clean machine, do one thing in it, and end it; the code of what was done."""
    parser = argparse.ArgumentParser(prog="python3 -m enforcer.machine", description=__doc__)
    parser.add_argument("--suite", choices=machine.SUITES, default=machine.DEFAULT_SUITE)
    parser.add_argument("--installed", action="store_true", help="with the enforcer in it")
    parser.add_argument("--hub", action="store_true", help="with what JupyterHub needs in it")
    does = parser.add_subparsers(dest="does", required=True)
    does.add_parser("shell", help="a root shell in it")
    does.add_parser("prepare", help="only build what later starts need")
    run = does.add_parser("run", help="one command in it")
    run.add_argument("command", nargs=argparse.REMAINDER, help="a line for its shell")
    return _do(parser.parse_args(argv))


def _do(wish: argparse.Namespace) -> int:
    console = Console()
    ensure_packages(machine.HOST_PACKAGES, "to build and run the virtual machine")
    source = machine.Source() if wish.installed else None
    layer = machine.prepare(wish.suite, source=source, hub=wish.hub, progress=console.step)
    if wish.does == "prepare":
        console.say(str(layer.folder))
        return 0
    started = time.monotonic()
    with machine.start(layer) as guest:
        console.say(f"{layer.name}: up in {time.monotonic() - started:.1f} s")
        if wish.does == "shell":
            return guest.shell()
        done = guest.run(" ".join(wish.command), check=False, timeout_seconds=_RUN_SECONDS)
        sys.stdout.write(done.stdout)
        sys.stderr.write(done.stderr)
        return done.code


if __name__ == "__main__":
    sys.exit(guarded(main, "enforcer.machine"))
