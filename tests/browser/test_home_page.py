from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit
from tests.browser.loads import HOSTILE


def panel(page: Page, name: str) -> str:
    """The text of a server's panel, once it has its numbers."""
    section = page.get_by_role("region", name=name)
    expect(section.locator(".enf-readout").first).to_contain_text("used")
    return section.inner_text()


def test_a_server_has_its_charts_of_a_quarter_of_an_hour_at_once_and_they_move(
    visit: Visit,
) -> None:
    page = visit.open("bob", "/hub/home")
    section = page.get_by_role("region", name="My server")
    expect(section.locator("canvas")).to_have_count(2)
    readout = section.locator(".enf-readout").first
    expect(readout).to_contain_text("used")
    first = readout.inner_text()
    expect(readout).not_to_have_text(first)
    table = section.locator("details").first
    table.locator("summary").click()
    rows = table.locator("tbody tr")
    expect(rows.first).to_be_visible()
    newest, oldest = rows.first.inner_text(), rows.last.inner_text()
    assert newest.split()[0] > oldest.split()[0] or newest.startswith("00:")
    expect(rows.nth(9)).to_be_visible()  # they come after the click
    assert "15 minutes" in (section.get_by_role("img").first.get_attribute("aria-label") or "")
    visit.shoot(page, "home-light")


def test_the_limit_that_slows_a_server_is_named(visit: Visit) -> None:
    visit.world.tell("overload", user="bob")
    page = visit.open("bob", "/hub/home")
    slowed = page.locator(".enf-slowed")
    expect(slowed).to_contain_text("profile Large's CPU quota")
    visit.shoot(page, "home-slowed-light")


def test_one_is_warned_before_memory_is_full(visit: Visit) -> None:
    page = visit.open("carol", "/hub/home")
    expect(page.locator(".enf-notice-warn")).to_contain_text("of 8 GiB of memory are in use")
    assert "up to 2 cores and 8 GiB" in panel(page, "Server gpu")
    visit.shoot(page, "home-warning-light")


def test_a_kill_in_a_server_that_runs_on_is_told(visit: Visit) -> None:
    visit.world.tell("kill_one", user="carol", server="gpu")
    page = visit.open("carol", "/hub/home")
    expect(page.locator(".enf-events li").first).to_contain_text("A process was killed at")
    expect(page.locator(".enf-events li").first).to_contain_text("8 GiB limit reached")


def test_receipts_say_what_became_of_a_server(visit: Visit) -> None:
    page = visit.open("bob", "/hub/home")
    bad = page.locator(".enf-receipt-bad").first
    expect(bad).to_contain_text("Your kernel was killed at")
    expect(bad).to_contain_text("8 GiB limit reached, peak 8.0 GiB.")


def test_a_server_is_resized_for_an_hour_without_leaving_the_page(visit: Visit) -> None:
    page = visit.open("carol", "/hub/home")
    section = page.get_by_role("region", name="Server gpu")
    section.get_by_role("button", name="Resize").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("CPU limit", exact=True)).to_be_focused()
    visit.shoot(page, "home-resize-light")
    dialog.get_by_label("CPU limit", exact=True).fill("1.5")
    dialog.get_by_label("CPU guaranteed", exact=True).fill("0.5")
    dialog.get_by_label("How long").select_option("for 1 hour")
    dialog.get_by_role("button", name="Apply").click()
    expect(dialog).to_be_hidden()
    expect(section).to_contain_text("up to 1.5 cores and 8 GiB")
    expect(section).to_contain_text("Resized until")
    section.locator("summary").first.click()
    limits = section.locator("details").first.locator("tbody td:nth-child(3)")
    expect(limits.first).to_have_text("1.5")
    expect(limits.last).to_have_text("2")


def test_a_resize_that_is_refused_says_why_and_changes_nothing(visit: Visit) -> None:
    page = visit.open("bob", "/hub/home")
    section = page.get_by_role("region", name="My server")
    section.get_by_role("button", name="Resize").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("CPU limit", exact=True).evaluate("one => one.removeAttribute('max')")
    dialog.get_by_label("CPU limit", exact=True).evaluate(
        "one => { one.value = '11'; one.max = '99'; }"
    )
    dialog.get_by_role("button", name="Apply").click()
    expect(dialog.get_by_role("alert")).to_contain_text("11")
    dialog.get_by_role("button", name="Cancel").click()
    assert "up to 10 cores" in panel(page, "My server")


def test_a_hostile_name_is_text_on_ones_own_pages(visit: Visit) -> None:
    for path in ("/hub/home", "/services/enforcer/"):
        page = visit.open(HOSTILE, path)
        page.wait_for_load_state("networkidle")
        expect(page.get_by_text(HOSTILE).first).to_be_visible()
        assert page.locator("img[src=x]").count() == 0


def test_the_token_of_a_page_is_given_back_when_it_is_left(visit: Visit) -> None:
    page = visit.open("tom", "/hub/home")
    with page.expect_response("**/api/mine**"):
        pass
    row = page.get_by_text("live numbers on the hub's pages")
    page.goto(f"{visit.world.url}/hub/token")
    for _ in range(20):
        if not row.count():
            return
        page.reload()
    raise AssertionError(page.inner_text("body"))


def test_the_home_page_in_the_dark_and_on_a_phone(visit: Visit) -> None:
    visit.shoot_looks("bob", "/hub/home", "home", lambda page: panel(page, "My server"))


def test_a_page_that_nobody_sees_asks_for_nothing(visit: Visit) -> None:
    page = visit.open("bob", "/hub/home")
    panel(page, "My server")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    hide = """(hidden) => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, True)
    page.wait_for_timeout(500)
    asked.clear()
    page.wait_for_timeout(2500)
    assert asked == []
    with page.expect_response("**/api/mine**"):
        page.evaluate(hide, False)


def test_without_what_draws_charts_their_numbers_are_there(visit: Visit) -> None:
    page = visit.open("bob", "/hub/token")
    page.route("**/vendor/**", lambda route: route.abort())
    page.goto(f"{visit.world.url}/hub/home")
    assert "7.8 of 10 cores" in panel(page, "My server")
    assert page.locator("canvas").count() == 0
    page.locator("summary").first.click()
    expect(page.locator(".enf-table-alternative td").first).to_be_visible()
