"""One hub, one service and one browser for all of these tests; a page for each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, BrowserContext, Dialog, Page, sync_playwright

from tests.browser.world import CHECKOUT, PASSWORD, World, running

CHROMIUM: Final = "/usr/bin/chromium"
_MILLISECONDS: Final = 15_000
_FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Visit:
    """Opens pages as somebody, and keeps what went wrong in them."""

    world: World
    browser: Browser
    shots: Path
    sessions: dict[str, Any]
    contexts: list[BrowserContext] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def open(self, user: str, path: str, **context: Any) -> Page:  # noqa: ANN401 - playwright's words
        """Open a page as a user, in a browser of their own."""
        self._log_in(user)
        page = self._page(storage_state=self.sessions[user], **context)
        page.goto(self.world.url + path)
        return page

    def shoot(self, page: Page, name: str) -> None:
        """Keep a picture of the whole page."""
        self.shots.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(self.shots / f"{name}.png"), full_page=True)

    def _log_in(self, user: str) -> None:
        if user in self.sessions:
            return
        page = self._page()
        page.goto(f"{self.world.url}/hub/login?next=%2Fhub%2Ftoken")
        page.fill("#username_input", user)
        page.fill("#password_input", PASSWORD)
        page.click("#login_submit")
        page.wait_for_url("**/hub/token")
        self.sessions[user] = page.context.storage_state()
        self.contexts.pop().close()

    def _page(self, **context: Any) -> Page:  # noqa: ANN401 - playwright's words
        made = self.browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **context})
        made.set_default_timeout(_MILLISECONDS)
        self.contexts.append(made)
        page = made.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("dialog", self._dialog)
        return page

    def _dialog(self, dialog: Dialog) -> None:
        self.errors.append(f"a dialog: {dialog.message}")
        dialog.dismiss()


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Everything that runs."""
    with running(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    assert Path(CHROMIUM).exists(), "the browser tests need Chromium: apt-get install chromium"
    with (
        sync_playwright() as playwright,
        closing(
            playwright.chromium.launch(executable_path=CHROMIUM, args=list(_FLAGS))
        ) as launched,
    ):
        yield launched


@pytest.fixture(scope="package")
def sessions() -> dict[str, Any]:
    """Who is logged in."""
    return {}


@pytest.fixture
def visit(world: World, browser: Browser, sessions: dict[str, Any]) -> Iterator[Visit]:
    """Open pages; a script that fails on one of them fails the test."""
    shots = Path(os.environ.get("ENFORCER_SCREENSHOTS", CHECKOUT / "build" / "screenshots"))
    made = Visit(world, browser, shots, sessions)
    yield made
    for context in made.contexts:
        context.close()
    assert made.errors == []
