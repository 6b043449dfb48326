"""One hub, one service and one browser for all of these tests; a page for each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pytest
from playwright.sync_api import Browser

from tests.browser.visitor import Visitor, chromium
from tests.browser.world import PASSWORD, World, running

_SECONDS: Final = 15.0


@dataclass(kw_only=True)
class Visit(Visitor):
    """Pages of the hub here, over a machine that is played."""

    world: World


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Everything that runs."""
    with running(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    with chromium(_SECONDS) as launched:
        yield launched


@pytest.fixture(scope="package")
def sessions() -> dict[str, Any]:
    """Who is logged in."""
    return {}


@pytest.fixture
def visit(world: World, browser: Browser, sessions: dict[str, Any]) -> Iterator[Visit]:
    """Open pages; a script that fails on one of them fails the test."""
    made = Visit(
        address=world.url,
        password=PASSWORD,
        browser=browser,
        seconds=_SECONDS,
        sessions=sessions,
        world=world,
    )
    yield made
    made.leave()
