"""The saved machines that tests start from: `python3 -m tests.machine.prepare` builds them all."""

from __future__ import annotations

import sys

from enforcer import machine
from enforcer.bootstrap import Console, guarded
from enforcer.demo import stage
from enforcer.machine import npm
from enforcer.machine.progress import Progress
from tests.machine.lab import SOURCE


def build(suite: str, source: machine.Source | None, progress: Progress) -> machine.Layer:
    """Build one, or find it built.

    On the default suite all have the hub's disk, which costs less than a second disk for those
    that need no hub.
    """
    # whether the pages are there must not make two machines of one
    stage.build_pages(npm.search_path())
    hub = suite == machine.DEFAULT_SUITE
    return machine.prepare(suite, source=source, hub=hub, progress=progress)


def main() -> int:
    """Build what every run of the machine tests needs, the demo's machine too."""
    for source in (None, SOURCE, stage.SOURCE):
        build(machine.DEFAULT_SUITE, source, Console(sys.stderr).step)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main, "tests.machine.prepare"))
