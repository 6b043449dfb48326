"""`python -m tests.machine.ahead`: build what most of the machine tests begin with."""

from __future__ import annotations

from enforcer import machine
from enforcer.demo import stage
from enforcer.machine import npm
from tests.machine.lab import SOURCE


def build(suite: str, source: machine.Source | None, progress: machine.Progress) -> machine.Layer:
    """Return a saved machine, found or built.

    On the default suite all have the hub's disk, which costs less than a second disk for those that
    need no hub.
    """
    # whether the pages are there must not make two machines of one
    stage.build_pages(npm.search_path())
    return machine.prepare(
        suite, source=source, hub=suite == machine.DEFAULT_SUITE, progress=progress
    )


if __name__ == "__main__":
    build(machine.DEFAULT_SUITE, SOURCE, machine.quiet)
