"""`enforcer demo`: the whole of it in a throw-away virtual machine."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict

from enforcer import demo
from enforcer.cli.output import console, print_json, show
from enforcer.cli.words import parser
from enforcer.demo import Verdict


def main(words: Sequence[str]) -> int:
    """Show it, or check it; 0, or 1 if a promise is broken."""
    made = _parser()
    options = made.parse_args(words)
    if options.json and not options.check:
        made.error("--json goes with --check")
    if options.check:
        return _check(options)
    demo.show(console(), options.suite, options.seconds)
    return 0


def _parser() -> argparse.ArgumentParser:
    made = parser(
        "demo",
        "Build a virtual machine, install the enforcer in it as on a real host, let five users"
        " fight over it, and show what happens. The first start takes some minutes, later ones"
        " seconds. Ctrl-C ends it and leaves nothing behind but the cache in ~/.cache/enforcer.",
    )
    made.add_argument(
        "--check",
        action="store_true",
        help="play it once, compare each promise with the kernel's numbers; exit code 0 or 1",
    )
    made.add_argument(
        "--suite", choices=demo.SUITES, default=demo.DEFAULT_SUITE, help="which Debian"
    )
    made.add_argument("--seconds", type=float, metavar="N", help="end by itself after N seconds")
    return made


def _check(options: argparse.Namespace) -> int:
    verdicts: list[Verdict] = []
    complete = False
    try:
        verdicts.extend(demo.check(options.suite))
        complete = True
    finally:
        # What was checked before something failed is worth seeing.
        kept = complete and all(one.kept for one in verdicts)
        if options.json:
            print_json({"kept": kept, "promises": [asdict(one) for one in verdicts]})
        elif verdicts:
            show(demo.verdicts_view(verdicts, complete=complete))
    return 0 if kept else 1
