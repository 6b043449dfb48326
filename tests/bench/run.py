"""Runs the measurements in clean machines, and prints what they found."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console as Terminal
from rich.table import Table

from enforcer import machine
from enforcer.bootstrap import Console
from enforcer.demo import stage
from enforcer.machine import npm
from tests.bench.inside.common import Row
from tests.machine import lab
from tests.machine.hub import hublab


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The machine for a measurement: what is installed in it, and its configuration's own words.

    configured: makes the configuration to measure with of the one that is there.
    """

    source: machine.Source
    hub: bool
    configured: Callable[[str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One module of `inside`: what it measures, and where."""

    title: str
    place: Place


def _for_others_too(text: str) -> str:
    """Do not hold back containers that were started without us: they are the base."""
    return f'{_as_by_default(text)}\n[adopted]\ncpu_limit = "100%"\nmem_limit = "50%"\n'


def _as_by_default(text: str) -> str:
    """Tick as a daemon does that nobody told otherwise."""
    return text.replace("tick_seconds = 1\n", "")


_LAB: Final = Place(source=lab.SOURCE, hub=False, configured=_as_by_default)
_HUB: Final = Place(source=hublab.SOURCE, hub=True, configured=_for_others_too)

MEASUREMENTS: Final[Mapping[str, Measurement]] = {
    "placement": Measurement(title="a placement against the bare D-Bus call", place=_LAB),
    "docker": Measurement(title="docker run with a placement, and docker stats", place=_LAB),
    "idle": Measurement(title="a hundred idle leases", place=_LAB),
    "spawn": Measurement(title="a spawn through the hub against a plain one", place=_HUB),
}
_INSIDE: Final = Path(__file__).parent / "inside"
_TARGET: Final = "/opt/bench"
_CONFIG: Final = "/etc/enforcer/enforcer.toml"
_SECONDS: Final = 1200.0
_UNFOLDED: Final = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to measure, on which Debian, and whether a program reads the answer."""

    names: tuple[str, ...]
    suite: str
    as_json: bool


def parse(argv: Sequence[str]) -> Request:
    """Read the command line; --help and its exit are argparse's."""
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.bench", description="What the enforcer costs, as ratios of one run."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MEASUREMENTS))
    parser.add_argument("--suite", default=machine.DEFAULT_SUITE, choices=list(machine.SUITES))
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    words = parser.parse_args(argv)
    unknown = set(words.names) - MEASUREMENTS.keys()
    if unknown:
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}")
    names = tuple(words.names) or tuple(MEASUREMENTS)
    return Request(names=names, suite=words.suite, as_json=words.json)


def run(request: Request) -> int:
    """Measure everything that was asked for, each in a clean machine."""
    progress = Console(sys.stderr).step
    stage.build_pages(npm.search_path())  # they are part of what is installed
    rows: list[Row] = []
    for name in request.names:
        chosen = MEASUREMENTS[name]
        layer = machine.prepare(
            request.suite,
            source=chosen.place.source,
            # where the tests have one disk for all, a second one would be made for nothing
            hub=chosen.place.hub or request.suite == machine.DEFAULT_SUITE,
            progress=progress,
        )
        with progress(f"measuring {chosen.title}") as waiting:
            rows += _measure(layer, name, chosen.place)
            waiting()
    if request.as_json:
        print(json.dumps([_as_json(row) for row in rows], indent=2))
    else:
        _terminal().print(_table(rows))
    return 0


def _measure(layer: machine.Layer, name: str, place: Place) -> list[Row]:
    with machine.start(layer) as guest:
        guest.write(_CONFIG, place.configured(guest.read(_CONFIG)))
        guest.run(f"enforcer check {_CONFIG}")  # a wrong one would leave the old one in force
        guest.run("systemctl restart enforcer.service", timeout_seconds=120)
        guest.run(f"mkdir -p {_TARGET}/tests/bench && touch {_TARGET}/tests/{{,bench/}}__init__.py")
        guest.copy_in(_INSIDE, f"{_TARGET}/tests/bench/inside")
        program = f"/opt/enforcer/venv/bin/python -m tests.bench.inside.{name}"
        done = guest.run(f"cd {_TARGET} && {program}", timeout_seconds=_SECONDS)
        return [Row(**row) for row in json.loads(done.stdout)]


def _as_json(row: Row) -> dict[str, Any]:
    return {
        "what": row.what,
        "value": row.value,
        "unit": row.unit,
        "against": row.base,
        "ratio": None if row.base is None else row.value / row.base,
        "promise": _promise(row),
        "kept": _kept(row),
        "note": row.note,
    }


def _terminal() -> Terminal:
    """Return what prints a table in one piece where no terminal says how wide it may be."""
    unknown = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Terminal(width=_UNFOLDED if unknown else None)


def _table(rows: Sequence[Row]) -> Table:
    table = Table(title="What the enforcer costs")
    for heading in ("what", "measured", "against", "ratio", "promise", "kept", "note"):
        right = heading in {"measured", "against", "ratio"}
        table.add_column(heading, justify="right" if right else "left")
    for row in rows:
        kept = _kept(row)
        table.add_row(
            row.what,
            _amount(row.value, row.unit),
            "" if row.base is None else _amount(row.base, row.unit),
            _ratio(row),
            _promise(row),
            {None: "", True: "[green]yes", False: "[red]no"}[kept],
            row.note,
        )
    return table


def _amount(value: float, unit: str) -> str:
    digits = 0 if value >= 100 else 1 if value >= 10 else 3
    return f"{value:,.{digits}f} {unit}"


def _ratio(row: Row) -> str:
    if row.base is None:
        return ""
    if row.least is not None:
        return f"1 / {row.base / row.value:.1f}"
    return f"{row.value / row.base:.2f}"


def _promise(row: Row) -> str:
    if row.most is not None:
        return f"≤ {row.most:g}"
    if row.least is not None:
        return f"≤ 1 / {row.least:g}"
    return "" if row.bound is None else f"< {row.bound:g} {row.unit}"


def _kept(row: Row) -> bool | None:
    if row.base is not None and row.most is not None:
        return row.value <= row.most * row.base
    if row.base is not None and row.least is not None:
        return row.value * row.least <= row.base
    return None if row.bound is None else row.value < row.bound
