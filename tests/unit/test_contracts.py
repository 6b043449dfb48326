"""That the import contracts in pyproject.toml agree with one another."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from tests.run import pure_tier

CHECKOUT = Path(__file__).parents[2]
APART = {"bootstrap", "hubconfig", "install", "machine", "wholefile"}


def layers() -> list[str]:
    settings = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    [found] = [
        contract["layers"]
        for contract in settings["tool"]["importlinter"]["contracts"]
        if contract["name"] == "imports flow one way"
    ]
    return [str(layer) for layer in found]


def test_the_pure_tier_is_all_that_stands_below_the_ports() -> None:
    below = layers()[layers().index("(ports)") + 1 :]
    assert set(pure_tier(CHECKOUT)) == set(re.findall(r"\w+", " ".join(below))) - APART
