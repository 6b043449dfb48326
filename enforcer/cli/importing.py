"""`enforcer import OLD_CONFIG.py`: the ancestor's dictionaries as an enforcer.toml."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from enforcer.ancestor import convert
from enforcer.bootstrap import Console
from enforcer.cli.check import add_machine, described_capacity, mistakes_view, read_text
from enforcer.cli.output import print_json, show
from enforcer.cli.words import parser
from enforcer.config import ConfigError
from enforcer.wholefile import Fate, keep


def main(words: Sequence[str]) -> int:
    """Convert it; 0, or 1 with all mistakes."""
    options = _parser().parse_args(words)
    text = read_text(options.file)
    source = "standard input" if options.file == "-" else options.file
    try:
        written = convert(text, described_capacity(options), source=source)
    except ConfigError as error:
        if options.json:
            print_json({"valid": False, "mistakes": [asdict(one) for one in error.mistakes]})
        else:
            show(mistakes_view(error.mistakes, source))
        return 1
    if options.output == "-":
        if options.json:
            print_json({"valid": True, "configuration": written})
        else:
            sys.stdout.write(written)
        return 0
    return _keep(Path(options.output), written, options)


def _keep(path: Path, text: str, options: argparse.Namespace) -> int:
    kept = keep(path, text, force=options.force)
    if options.json:
        print_json({"valid": True, "path": str(kept.path), "fate": str(kept.fate)})
        return 0
    console = Console()
    if kept.fate is Fate.BESIDE:
        console.say(f"{path} is there already and was kept; what was made is {kept.path}")
    else:
        console.say(f"{path}: {'as it was' if kept.fate is Fate.SAME else 'written'}")
    console.say(f"What to do: enforcer check {kept.path} shows what it comes to")
    return 0


def _parser() -> argparse.ArgumentParser:
    made = parser(
        "import",
        "Make an enforcer.toml of the dictionaries resource_profiles, docker_profiles and"
        " user_profiles and the list volumes_ro of an old jupyterhub_config.py, the ancestor's. Its"
        " code is not run. Every mistake in it is told at once, with its line; then nothing is"
        " written.",
        "Amounts are checked for this machine, unless another one is described.",
    )
    made.add_argument("file", metavar="OLD_CONFIG.py", help="the old file; - is standard input")
    made.add_argument(
        "-o", "--output", default="-", metavar="FILE", help="where to write it (standard output)"
    )
    made.add_argument("--force", action="store_true", help="write over what is there")
    add_machine(made)
    return made
