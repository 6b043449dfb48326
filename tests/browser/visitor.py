"""People in front of Debian's Chromium: who opens which page of a hub, in which look."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, BrowserContext, Dialog, Page, expect, sync_playwright

CHROMIUM: Final = "/usr/bin/chromium"
LOOKS: Final[dict[str, dict[str, Any]]] = {
    "light": {},
    "dark": {"color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2},
}
"""Look → how playwright has it."""

_CHECKOUT: Final = Path(__file__).resolve().parents[2]
_FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass(kw_only=True)
class Visitor:
    """Opens a hub's pages as somebody, and keeps what went wrong in them.

    seconds: how long a page may take. sessions: who is logged in, to be shared by several tests.
    """

    address: str
    password: str
    browser: Browser
    seconds: float
    sessions: dict[str, Any]
    contexts: list[BrowserContext] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def open(self, user: str, path: str, **context: Any) -> Page:  # noqa: ANN401 - playwright's words
        """Open a page as a user, in a browser of their own."""
        if user not in self.sessions:
            page = self.open_as_nobody("/hub/login?next=%2Fhub%2Ftoken")
            self.log_in(page, user)
            page.wait_for_url("**/hub/token")
            self.sessions[user] = page.context.storage_state()
            self.contexts.pop().close()
        return self._opened(path, storage_state=self.sessions[user], **context)

    def open_as_nobody(self, path: str, **context: Any) -> Page:  # noqa: ANN401 - playwright's words
        """Open a page in a browser in which nobody is logged in."""
        return self._opened(path, **context)

    def log_in(self, page: Page, user: str, password: str | None = None) -> None:
        """Fill in the hub's form and send it."""
        page.fill("#username_input", user)
        page.fill("#password_input", self.password if password is None else password)
        page.click("#login_submit")

    def shoot(self, page: Page, name: str) -> None:
        """Keep a picture of the whole page."""
        usual = _CHECKOUT / "build" / "screenshots"
        folder = Path(os.environ.get("ENFORCER_SCREENSHOTS", usual))
        folder.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(folder / f"{name}.png"), full_page=True)

    def shoot_looks(
        self,
        user: str,
        path: str,
        name: str,
        ready: Callable[[Page], object],
        looks: Sequence[str] = ("dark", "phone"),
    ) -> None:
        """Open a page once in each look, and keep a picture; none is wider than its window.

        ready: waits until what is to be seen is there.
        """
        for look in looks:
            page = self.open(user, path, **LOOKS[look])
            ready(page)
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), look
            self.shoot(page, f"{name}-{look}")

    def leave(self) -> None:
        """Close every page; a script that failed on one of them fails the test."""
        for context in self.contexts:
            context.close()
        assert self.errors == []

    def _opened(self, path: str, **context: Any) -> Page:  # noqa: ANN401 - playwright's words
        made = self.browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **context})
        made.set_default_timeout(self.seconds * 1000)
        self.contexts.append(made)
        page = made.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("dialog", self._dialog)
        page.goto(self.address + path)
        return page

    def _dialog(self, dialog: Dialog) -> None:
        self.errors.append(f"a dialog: {dialog.message}")
        dialog.dismiss()


@contextmanager
def chromium(seconds: float) -> Iterator[Browser]:
    """Debian's Chromium. seconds: how long what is expected of a page may take to come about."""
    assert Path(CHROMIUM).exists(), "the browser tests need Chromium: apt-get install chromium"
    expect.set_options(timeout=seconds * 1000)
    with (
        sync_playwright() as playwright,
        closing(
            playwright.chromium.launch(executable_path=CHROMIUM, args=list(_FLAGS))
        ) as launched,
    ):
        yield launched
