from __future__ import annotations

import json
import re
from typing import Any

from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import Visit
from tests.browser.loads import HOSTILE


def lease_of(visit: Visit, user: str) -> dict[str, Any]:
    """What the admin sees of a user's only lease, once the service has seen it."""
    page = visit.open("ada", "/services/enforcer/admin")
    for _ in range(20):
        with page.expect_response("**/api/everyone") as answer:
            pass
        found = [one for one in answer.value.json()["leases"] if one["user"] == user]
        if found:
            (lease,) = found
            return dict(lease)
    raise AssertionError(f"{user} has no lease")


def numbers(page: Page) -> dict[str, str]:
    return {
        name: page.locator(f"input[name={name}]").input_value()
        for name in ("cpu_limit", "mem_limit", "cpu_guarantee", "mem_guarantee")
    }


def test_another_profile_sets_its_numbers(visit: Visit) -> None:
    page = visit.open("alice", "/hub/spawn")
    expect(page.get_by_role("radio", name="Small")).to_be_checked()
    assert numbers(page)["cpu_limit"] == "2"
    assert numbers(page)["mem_limit"] == "8"
    page.get_by_role("radio", name="Large").check()
    assert numbers(page) == {
        "cpu_limit": "10",
        "mem_limit": "40",
        "cpu_guarantee": "10",
        "mem_guarantee": "40",
    }
    page.get_by_role("radio", name=HOSTILE).check()
    assert numbers(page)["mem_limit"] == "1.5"
    visit.shoot(page, "spawn-light")


def test_slider_and_number_say_the_same_and_a_guarantee_stays_below_its_limit(
    visit: Visit,
) -> None:
    page = visit.open("alice", "/hub/spawn")
    page.get_by_role("radio", name="Large").check()
    slider = page.get_by_role("slider", name="Memory limit")
    number = page.get_by_label("Memory limit", exact=True)
    slider.focus()
    slider.press("Home")
    assert number.input_value() == slider.input_value() == "1"
    slider.press("ArrowRight")
    assert number.input_value() == "2"
    assert numbers(page)["mem_guarantee"] == "2"
    number.fill("12.5")
    assert float(slider.input_value()) in {12, 13}
    assert numbers(page)["mem_guarantee"] == "12.5"
    slider.press("End")
    assert numbers(page)["mem_limit"] == numbers(page)["mem_guarantee"] == "40"


def test_the_form_is_filled_and_sent_by_keyboard_alone(visit: Visit) -> None:
    page = visit.open("kim", "/hub/spawn")
    page.get_by_role("radio", name="Small").focus()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("radio", name="Large")).to_be_checked()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("radio", name="DataScience")).to_be_checked()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Control+A")
    page.keyboard.type("3.5")
    page.get_by_label("CPU guaranteed", exact=True).fill("0")
    page.get_by_label("Memory guaranteed", exact=True).fill("1")
    page.keyboard.press("Enter")
    page.wait_for_url("**/user/kim/**")
    expect(page.get_by_role("heading", name="A server of one's own")).to_be_visible()
    mine = lease_of(visit, "kim")
    assert (mine["profile"], mine["image"]) == ("Large", "DataScience")
    assert (mine["cpu_limit"], mine["mem_limit"]) == (3.5, 40 << 30)
    assert (mine["cpu_guarantee"], mine["mem_guarantee"]) == (0, 1 << 30)


def sent_numbers(page: Page) -> dict[str, str]:
    """Start; what the form sends goes nowhere."""
    found: list[str] = []

    def keep(route: Route) -> None:
        found.append(route.request.post_data or "")
        route.fulfill(status=200, content_type="text/plain", body="kept")

    page.route("**/hub/spawn/**", keep)
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_text("kept")).to_be_visible()
    (body,) = found
    assert 'name="profile"' in body
    return dict(re.findall(r'name="((?:cpu|mem)_[a-z]+)"\r\n\r\n([^\r]*)', body))


def test_only_numbers_that_are_less_than_all_are_sent(visit: Visit) -> None:
    page = visit.open("alice", "/hub/spawn/alice/untouched")
    page.get_by_role("radio", name="Large").check()
    assert numbers(page)["cpu_guarantee"] == "10"
    assert sent_numbers(page) == {}
    page = visit.open("alice", "/hub/spawn/alice/changed")
    page.get_by_role("radio", name="Large").check()
    page.get_by_label("CPU limit", exact=True).fill("3")
    page.get_by_label("Memory guaranteed", exact=True).fill("0")
    assert numbers(page)["cpu_guarantee"] == "3"
    assert sent_numbers(page) == {"cpu_limit": "3", "mem_guarantee": "0"}


def test_without_scripts_empty_numbers_mean_the_profiles_own(visit: Visit) -> None:
    page = visit.open("zoe", "/hub/spawn", java_script_enabled=False)
    visit.shoot(page, "spawn-no-scripts")
    expect(page.locator("input[type=range]").first).to_be_hidden()
    page.get_by_role("radio", name="Small").check()
    page.get_by_label("Memory limit", exact=True).fill("3")
    page.get_by_role("button", name="Start").click()
    page.wait_for_url("**/zoe**")
    hers = lease_of(visit, "zoe")
    assert (hers["profile"], hers["cpu_limit"], hers["mem_limit"]) == ("Small", 2, 3 << 30)


def test_a_card_says_whether_it_fits_and_follows_the_machine(visit: Visit) -> None:
    page = visit.open("alice", "/hub/spawn/alice/more")
    whole = page.locator(".enf-card", has_text="Whole")
    expect(whole.locator(".enf-fits")).to_have_attribute("data-fits", "no")
    expect(whole.locator(".enf-fits")).to_contain_text(re.compile("Would wait|your other"))
    expect(page.locator("[data-bar=memory] .enf-bar-sentence")).to_contain_text("free to promise")
    expect(whole.locator(".enf-fits")).to_contain_text("It has been so since")
    with page.expect_response("**/api/catalogue**") as answer:
        pass
    assert json.loads(answer.value.text())["profiles"][0]["name"] == "Small"


def test_a_start_that_has_to_wait_says_what_for_and_can_be_given_up(visit: Visit) -> None:
    page = visit.open("gina", "/hub/spawn")
    page.get_by_role("radio", name="Whole").check()
    page.get_by_role("button", name="Start").click()
    page.wait_for_url("**/hub/spawn-pending/**")
    expect(page.locator("#progress-message")).to_contain_text("In the queue: ")
    visit.shoot(page, "spawn-pending-light")
    home = visit.open("gina", "/hub/home")
    section = home.get_by_role("region", name="My server")
    expect(section).to_contain_text("waiting in the queue")
    expect(section).to_contain_text("Number 1 in line")
    expect(section.get_by_role("button", name="Resize")).to_be_hidden()
    visit.shoot(home, "home-queued-light")
    page.get_by_role("button", name="Stop Server").click()
    expect(home.get_by_text("You have no server running.")).to_be_visible(timeout=20_000)


def test_hostile_names_are_text_in_the_form(visit: Visit) -> None:
    page = visit.open("alice", "/hub/spawn")
    expect(page.get_by_text(HOSTILE)).to_be_visible()
    assert page.locator("img[src=x]").count() == 0


def test_the_form_in_the_dark_and_on_a_phone(visit: Visit) -> None:
    def ready(page: Page) -> None:
        page.wait_for_load_state("networkidle")

    visit.shoot_looks("bob", "/hub/spawn/bob/second", "spawn", ready)


def test_without_the_service_the_hubs_pages_are_plain_and_the_form_is_whole(visit: Visit) -> None:
    for name, path in (("home", "/hub/home"), ("spawn", "/hub/spawn/bob/plain")):
        page = visit.open("bob", "/hub/token")
        page.route("**/services/enforcer/**", lambda route: route.abort())
        page.goto(visit.world.url + path)
        visit.shoot(page, f"{name}-without-the-service")
        if name == "home":
            expect(page.locator("#enforcer-servers")).to_contain_text("the service behind them")
        else:
            expect(page.get_by_role("radio", name="Small")).to_be_checked()
            expect(page.locator("input[name=cpu_limit]")).to_be_visible()
            expect(page.get_by_role("button", name="Start")).to_be_visible()
