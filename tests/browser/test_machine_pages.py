from __future__ import annotations

import urllib.error
import urllib.request
from typing import Final

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit
from tests.browser.loads import HOSTILE
from tests.browser.visitor import LOOKS

MACHINE: Final = "/services/enforcer/"
ADMIN: Final = "/services/enforcer/admin"


def test_everyone_sees_the_machine_and_nobody_elses_name(visit: Visit) -> None:
    page = visit.open("bob", MACHINE)
    with page.expect_response("**/api/machine**") as answer:
        pass
    expect(page.locator("[data-tile=memory] dd")).to_contain_text("of 128 GiB")
    expect(page.locator("canvas")).to_have_count(2)
    expect(page.locator("[data-strip=memory] .enf-piece-mine")).to_have_count(1)
    told = answer.value.text() + page.content()
    assert not [name for name in ("carol", "dave", "erin", "gpu", "Whole") if name in told]
    expect(page.locator("#enforcer-groups th")).to_have_text(["Large", "Small"])
    large = page.locator("#enforcer-groups tr", has_text="Large")
    expect(large).to_contain_text("of 16 cores")

    def ready(page: Page) -> None:
        expect(page.locator("canvas")).to_have_count(2)

    visit.shoot_looks("bob", MACHINE, "machine", ready, tuple(LOOKS))


def test_the_admin_view_is_for_admins(visit: Visit) -> None:
    page = visit.open("bob", ADMIN)
    expect(page.get_by_text("This page is for the hub's admins.")).to_be_visible()
    assert page.get_by_role("link", name="Everyone").count() == 0
    page.goto(f"{visit.world.url}{MACHINE}")
    told = page.evaluate(
        """async () => {
          const headers = { "X-XSRFToken": document.documentElement.dataset.xsrf };
          const answer = await fetch("/services/enforcer/api/everyone", { headers });
          return [answer.status, (await answer.json()).code];
        }"""
    )
    assert told == [403, "pages.not-admin"]


def test_the_table_is_sorted_and_searched(visit: Visit) -> None:
    page = visit.open("ada", ADMIN)
    users = page.locator("#enforcer-leases tr:visible th")
    expect(users.first).to_be_visible()
    visit.shoot(page, "admin-light")
    for width in (701, 961, 1101):  # a list of four columns, a table, one with its buttons in a row
        page.set_viewport_size({"width": width, "height": 900})
        edges = """one => [one, one.previousElementSibling]
          .map((each) => Math.round(each.getBoundingClientRect().right))"""
        table, header = page.locator(".enf-leases").evaluate(edges)
        assert table <= header, width
    page.get_by_role("button", name="User").click()
    expect(page.locator("th[aria-sort=ascending]")).to_have_text("User")
    names = users.all_inner_texts()
    assert names == sorted(names, key=str.lower)
    page.get_by_role("button", name="User").click()
    assert users.all_inner_texts() == names[::-1]
    page.get_by_label("Find").fill("GPU")
    expect(users).to_have_text(["carol"])
    page.get_by_label("Find").fill("")
    expect(page.get_by_text(HOSTILE).first).to_be_visible()
    assert page.locator("img[src=x]").count() == 0


def test_an_admin_follows_somebodys_server_while_its_charts_are_open(visit: Visit) -> None:
    page = visit.open("ada", ADMIN)
    button = page.get_by_role("button", name="Charts of dave's server")
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="dave's server")
    expect(button).to_have_attribute("aria-expanded", "true")
    expect(dialog.locator("canvas")).to_have_count(2)
    expect(dialog).to_contain_text("Profile Small, image SingleUser: up to 2 cores")
    readout = dialog.locator(".enf-readout").first
    expect(readout).to_contain_text("used")
    expect(readout).not_to_have_text(readout.inner_text())
    dialog.locator("summary").first.click()
    rows = dialog.locator("details").first.locator("tbody tr")
    expect(rows.nth(9)).to_be_visible()  # they come after the click
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(button).to_be_focused()
    expect(button).to_have_attribute("aria-expanded", "false")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(2500)
    assert asked
    assert not [url for url in asked if "/server" in url]
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("button", name="Close")).to_be_focused()
    page.keyboard.press("Enter")
    expect(button).to_be_focused()


def test_charts_that_are_open_tell_that_their_server_has_ended(visit: Visit) -> None:
    _start(visit, "brief")
    page = visit.open("ada", ADMIN)
    page.get_by_role("button", name="Charts of alice's server brief").click()
    dialog = page.get_by_role("dialog", name="alice's server brief")
    expect(dialog.locator("canvas")).to_have_count(2)
    other = visit.open("ada", ADMIN)
    other.get_by_role("button", name="Stop alice's server brief").click()
    other.get_by_role("dialog").get_by_role("button", name="Stop it").click()
    expect(dialog).to_contain_text("This server has ended.")
    expect(dialog.locator(".enf-badge")).to_have_text("ended")
    expect(dialog.locator("canvas")).to_have_count(2)
    visit.shoot(page, "admin-charts-ended")
    expect(page.locator("#enforcer-leases tr", has_text="brief")).to_have_count(0)
    dialog.get_by_role("button", name="Close").click()
    expect(page.get_by_role("heading", name="Servers", exact=True)).to_be_focused()


def test_charts_for_admins_in_every_look(visit: Visit) -> None:
    def ready(page: Page) -> None:
        page.get_by_role("button", name="Charts of carol's server gpu").click()
        dialog = page.get_by_role("dialog", name="carol's server gpu")
        expect(dialog.locator("canvas")).to_have_count(2)
        expect(dialog).to_contain_text("Memory is running out.")
        assert dialog.evaluate("one => one.scrollWidth <= one.clientWidth")

    visit.shoot_looks("ada", ADMIN, "admin-charts", ready, tuple(LOOKS))


def test_an_admin_resizes_somebodys_server(visit: Visit) -> None:
    page = visit.open("ada", ADMIN)
    page.get_by_role("button", name="Resize dave's server").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Memory limit", exact=True).fill("7")
    visit.shoot(page, "admin-resize-light")
    dialog.get_by_role("button", name="Apply").click()
    expect(page.locator("#enforcer-outcome")).to_contain_text("Resized: dave's server.")
    expect(page.locator("#enforcer-leases tr", has_text="dave")).to_contain_text("of 7 GiB")


def test_an_admin_stops_a_server_through_the_hub(visit: Visit) -> None:
    _start(visit, "stopped")
    page = visit.open("ada", ADMIN)
    row = page.locator("#enforcer-leases tr", has_text="stopped")
    row.get_by_role("button", name="Stop alice's server stopped").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop it").click()
    expect(page.locator("#enforcer-outcome")).to_contain_text("The hub is stopping")
    expect(row).to_have_count(0)
    expect(page.locator("#enforcer-receipts li").first).to_contain_text(
        "alice's server stopped was"
    )


def test_a_server_the_hub_knows_nothing_of_is_not_stopped(visit: Visit) -> None:
    page = visit.open("ada", ADMIN)
    page.get_by_role("button", name="Stop dave's server").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop it").click()
    expect(page.locator("#enforcer-outcome")).to_contain_text("the hub knows no such server")


def test_the_admin_view_in_the_dark_and_on_a_phone(visit: Visit) -> None:
    def ready(page: Page) -> None:
        expect(page.locator("#enforcer-leases tr").first).to_be_visible()

    visit.shoot_looks("ada", ADMIN, "admin", ready)


def test_another_users_lease_is_not_there(visit: Visit) -> None:
    admin = visit.open("ada", ADMIN)
    with admin.expect_response("**/api/everyone") as answer:
        pass
    carols = next(one["id"] for one in answer.value.json()["leases"] if one["user"] == "carol")
    page = visit.open("bob", MACHINE)
    told = page.evaluate(
        """async (id) => {
          const headers = {
            "X-XSRFToken": document.documentElement.dataset.xsrf,
            "Content-Type": "application/json",
          };
          const url = `/services/enforcer/api/leases/${id}`;
          const asked = await fetch(url, { headers });
          const changed = await fetch(url, { method: "POST", headers, body: '{"cpu_limit": 1}' });
          return [asked.status, changed.status, (await changed.json()).code];
        }""",
        carols,
    )
    assert told == [404, 404, "lease.not-found"]


def test_a_change_without_the_pages_xsrf_token_is_refused(visit: Visit) -> None:
    page = visit.open("bob", MACHINE)
    told = page.evaluate(
        """async () => {
          const headers = { "Content-Type": "application/json" };
          const answer = await fetch(`/services/enforcer/api/leases/${"0".repeat(32)}`,
            { method: "POST", headers, body: '{"cpu_limit": 1}' });
          return [answer.status, (await answer.json()).code];
        }"""
    )
    assert told == [403, "pages.forbidden"]


@pytest.mark.parametrize("path", ["mine", "machine", "everyone", "catalogue", "stop"])
def test_who_is_not_known_gets_403_as_json_and_no_redirect(visit: Visit, path: str) -> None:
    request = urllib.request.Request(  # noqa: S310 - loopback
        f"{visit.world.url}/services/enforcer/api/{path}",
        headers={"Authorization": "token " + "0" * 32},
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=10)  # noqa: S310 - loopback
    with caught.value as answer:
        assert answer.code == 403
        assert answer.headers["Content-Type"] == "application/json"
        assert b"pages.forbidden" in answer.read()


def test_pages_and_scripts_carry_the_headers_that_bind_the_browser(visit: Visit) -> None:
    page = visit.open("bob", "/hub/home")
    answer = page.goto(f"{visit.world.url}{MACHINE}")
    assert answer is not None
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


def _start(visit: Visit, name: str) -> None:
    """Have alice start a named server, and wait until she is in it."""
    mine = visit.open("alice", f"/hub/spawn/alice/{name}")
    mine.get_by_role("radio", name="Small").check()
    mine.get_by_role("button", name="Start").click()
    mine.wait_for_url(f"**/user/alice/{name}/**")
