from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.world import World

DOWN = "The machine's resource service is down."


@pytest.fixture(autouse=True)
def _daemon_comes_back(world: World) -> Iterator[None]:
    yield
    world.tell("come_back")


def test_pages_stay_and_say_that_what_they_show_is_old(visit: Visit) -> None:
    home = visit.open("bob", "/hub/home")
    machine = visit.open("bob", "/services/enforcer/")
    admin = visit.open("ada", "/services/enforcer/admin")
    expect(home.locator("canvas")).to_have_count(2)
    expect(machine.locator("canvas")).to_have_count(2)
    expect(admin.locator("#enforcer-leases tr").first).to_be_visible()
    visit.world.tell("leave")
    for name, page in (("home", home), ("machine", machine), ("admin", admin)):
        expect(page.locator("#enforcer-notice")).to_contain_text(DOWN)
        expect(page.locator(".enf-old")).to_have_count(1)
        visit.shoot(page, f"{name}-daemon-down")
    expect(home.locator("canvas")).to_have_count(2)
    fresh = visit.open("bob", "/services/enforcer/")
    expect(fresh.locator("#enforcer-notice")).to_contain_text("Last seen at")
    expect(fresh.locator("canvas")).to_have_count(2)
    visit.world.tell("come_back")
    for page in (home, machine, admin):
        expect(page.locator("#enforcer-notice")).to_be_empty(timeout=40_000)
    visit.world.tell("leave")


def test_charts_that_an_admin_has_open_stay_and_are_old(visit: Visit) -> None:
    page = visit.open("ada", "/services/enforcer/admin")
    page.get_by_role("button", name="Charts of dave's server").click()
    dialog = page.get_by_role("dialog", name="dave's server")
    expect(dialog.locator("canvas")).to_have_count(2)
    visit.world.tell("leave")
    expect(dialog.locator(".enf-notice")).to_contain_text(DOWN)
    expect(dialog.locator(".enf-notice")).to_contain_text("Last seen at")
    expect(page.locator("dialog.enf-old")).to_have_count(1)
    expect(dialog.locator("canvas")).to_have_count(2)
    visit.shoot(page, "admin-charts-daemon-down")
    visit.world.tell("come_back")
    expect(dialog.locator(".enf-notice-bad")).to_have_count(0, timeout=40_000)
    expect(page.locator("dialog.enf-old")).to_have_count(0)


def test_the_form_says_that_nothing_can_start(visit: Visit) -> None:
    visit.world.tell("leave")
    page = visit.open("bob", "/hub/spawn/bob/third")
    expect(page.get_by_role("alert")).to_contain_text("The machine's resource service is down.")
    expect(page.get_by_role("button", name="Start")).to_be_hidden()
    visit.shoot(page, "spawn-daemon-down")
