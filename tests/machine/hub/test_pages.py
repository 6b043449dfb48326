"""What people see: Chromium in front of the real hub, whose numbers are those of a real kernel.

What every button and every odd name does on a page is tested in tests/browser, over a machine that
is played. Here it is whether what a page says is so, and whether what it does comes about.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from enforcer.model import EndReason
from tests.browser.visitor import LOOKS, Visitor, chromium
from tests.machine.hub.hublab import PASSWORD, HubLab
from tests.machine.lab import CONFIG, until

pytestmark = pytest.mark.browser

MIB: Final = 2**20
HOME: Final = "/hub/home"
MACHINE: Final = "/services/enforcer/"
ADMIN: Final = "/services/enforcer/admin"

_SECONDS: Final = 240.0
"""A page takes some five seconds, a start half a minute, where the processor is emulated."""
_QUEUE: Final = """
[resource_profiles.Shared]
cpu_limit = 0.5
mem_limit = "192 MiB"
mem_total = "256 MiB"
admission = "queue"
"""
"""A profile in which there is room for one server with all that it may have guaranteed."""
_HOG: Final = "held = []\nwhile True:\n    held.append(bytearray(b'x') * (4 << 20))"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, with the patience that an emulated machine needs."""
    with chromium(_SECONDS) as launched:
        yield launched


@pytest.fixture(scope="module")
def sessions() -> dict[str, Any]:
    """Who is logged in to the module's hub."""
    return {}


@pytest.fixture
def visit(hub: HubLab, browser: Browser, sessions: dict[str, Any]) -> Iterator[Visitor]:
    """Open the hub's pages; a script that fails on one of them fails the test."""
    made = Visitor(
        address=hub.address,
        password=PASSWORD,
        browser=browser,
        seconds=_SECONDS,
        sessions=sessions,
    )
    yield made
    made.leave()


def mine(page: Page) -> Locator:
    """The panel of somebody's only server on their home page."""
    return page.get_by_role("region", name="My server")


def fact(page: Page, name: str) -> Locator:
    """One number of that panel."""
    return mine(page).locator(".enf-facts div", has_text=re.compile(f"^{name}")).locator("dd")


def charts(page: Page) -> None:
    """Wait until there are both of them, with numbers."""
    expect(page.locator("canvas")).to_have_count(2)
    expect(page.locator(".enf-readout").first).to_contain_text("used")


def test_somebody_logs_in_waits_in_line_and_comes_to_their_server(
    hub: HubLab, visit: Visitor
) -> None:
    policy = hub.guest.read(CONFIG) + _QUEUE
    policy = policy.replace('["Tiny", "Lab", "Small"]', '["Small", "Shared", "Tiny"]')
    hub.configure(policy.replace('mem_guarantee = "64 MiB"', 'mem_guarantee = "192 MiB"'))
    hub.started("u06", {"profile": "Shared"})
    assert hub.api.start("u04", {"profile": "Shared"}).status == 202

    page = visit.open_as_nobody("/hub/login")
    visit.shoot(page, "machine-login-light")
    visit.log_in(page, "frank", "not-a-password")
    expect(page.locator(".login_error")).to_contain_text("Invalid username or password")
    visit.log_in(page, "frank")
    page.wait_for_url("**/hub/spawn**")

    def ready(shown: Page) -> None:
        card = shown.locator(".enf-card", has_text="Shared")
        expect(card.locator(".enf-fits")).to_have_attribute("data-fits", "no")
        expect(card.locator(".enf-fits")).to_contain_text("Would wait")
        shown.get_by_role("radio", name="Shared").check()

    ready(page)
    visit.shoot(page, "machine-spawn-light")
    page.get_by_role("button", name="Start").click()
    page.wait_for_url("**/hub/spawn-pending/frank**")
    message = page.locator("#progress-message")
    expect(message).to_contain_text("number 2 in line")
    visit.shoot(page, "machine-spawn-pending-light")
    home = visit.open("frank", HOME)
    expect(mine(home)).to_contain_text("waiting in the queue")
    expect(mine(home)).to_contain_text("Number 2 in line")
    visit.shoot(home, "machine-home-queued-light")
    visit.shoot_looks("frank", "/hub/spawn/frank", "machine-spawn-pending", _in_line)

    # Who was before them gives up, then there is room.
    assert hub.api.stop("u04").status in {202, 204}
    expect(message).to_contain_text("number 1 in line")
    expect(mine(home)).to_contain_text("Number 1 in line")
    hub.stopped("u06")
    page.wait_for_url("**/user/frank/**")
    expect(page.locator("body")).to_contain_text('{"light": true}')
    lease = hub.lease("frank")
    assert (lease.profile, lease.mem_guarantee) == ("Shared", 192 * MIB)
    hub.check_kernel(lease)

    charts(home)
    expect(mine(home)).to_contain_text("running")
    home.reload()
    home.get_by_role("button", name="Stop My Server").click()
    expect(home.get_by_text("You have no server running.")).to_be_visible()
    until(lambda: not hub.client.leases("frank"))
    hub.check_nothing_of("frank")
    visit.shoot_looks("frank", "/hub/spawn", "machine-spawn", _cards)


def _in_line(page: Page) -> None:
    expect(page.locator("#progress-message")).to_contain_text("in line")


def _cards(page: Page) -> None:
    expect(page.locator(".enf-fits").first).not_to_be_empty()
    expect(page.locator("[data-bar=memory] .enf-bar-sentence")).to_contain_text("free to promise")


def test_the_charts_follow_the_kernel_and_a_resize_reaches_it(hub: HubLab, visit: Visitor) -> None:
    lease = hub.started("u01", {"profile": "Small", "mem_guarantee": 0.0625})
    home = visit.open("u01", HOME)
    charts(home)
    readout = mine(home).locator(".enf-readout").first
    first = readout.inner_text()
    expect(readout).not_to_have_text(first)

    hub.spin(lease.unit, 2)
    expect(fact(home, "CPU")).to_have_text(re.compile(r"^0\.(4[6-9]|5[0-3]?) of 0\.5 cores$"))
    expect(mine(home).locator(".enf-slowed")).to_contain_text("its own CPU quota")
    assert 0.46 < hub.cpu(5, [lease.unit])[lease.unit] < 0.53
    expect(fact(home, "Held back")).to_have_text(re.compile(r"^([89][0-9]|100) %$"))

    mine(home).get_by_role("button", name="Resize").click()
    dialog = home.get_by_role("dialog")
    dialog.get_by_label("CPU limit", exact=True).fill("0.3")
    dialog.get_by_label("Memory limit", exact=True).fill("0.125")
    dialog.get_by_label("How long").select_option("for 1 hour")
    visit.shoot(home, "machine-home-resize-light")
    dialog.get_by_role("button", name="Apply").click()
    expect(dialog).to_be_hidden()
    expect(mine(home)).to_contain_text("up to 0.3 cores and 128 MiB")
    expect(mine(home)).to_contain_text("Resized until")
    _docker_follows(hub, "u01", 128 * MIB)
    found = hub.check_kernel(hub.lease("u01"))
    assert (found.cores, found.memory) == (0.3, 128 * MIB)
    expect(fact(home, "CPU")).to_have_text(re.compile(r"^0\.(2[6-9]|3[0-3]?) of 0\.3 cores$"))
    visit.shoot_looks("u01", HOME, "machine-home", charts, tuple(LOOKS))

    hub.rest()
    expect(fact(home, "CPU")).to_have_text(re.compile(r"^0(\.0[0-9])? of 0\.3 cores$"))
    hub.stopped("u01")
    expect(home.get_by_text("You have no server running.")).to_be_visible()
    hub.check_nothing_of("u01")


def _docker_follows(hub: HubLab, user: str, memory: int) -> None:
    """Wait for the container's own limits: the leaf's hold first, and Docker is told next."""
    until(lambda: hub.limits(hub.container(user)).scope_memory == memory)


def test_memory_that_runs_out_is_warned_of_and_told_by_what_it_killed(
    hub: HubLab, visit: Visitor
) -> None:
    lease = hub.started("u02", {"profile": "Tiny"})
    home = visit.open("u02", HOME)
    charts(home)

    # A process in the server: it is killed, the server lives.
    container = hub.container("u02")
    hub.guest.run(["docker", "exec", "-d", container["Id"], "python3", "-ISc", _HOG])
    event = mine(home).locator(".enf-events li").first
    expect(event).to_contain_text("A process was killed at")
    expect(event).to_contain_text("96 MiB limit reached")
    assert hub.event(lease.unit, "oom_kill") == 1
    assert hub.container("u02")["State"]["Running"]

    # The server itself: its user is warned, then reads what has become of it.
    home.evaluate("() => { fetch('/user/u02/grow').catch(() => {}); }")
    warning = mine(home).locator(".enf-notice-warn")
    expect(warning).to_contain_text("Memory is running out.")
    expect(warning).to_contain_text("of 96 MiB of memory are in use")
    visit.shoot(home, "machine-home-warning-light")
    receipt = home.locator(".enf-receipt-bad").first
    expect(receipt).to_contain_text("Your kernel was killed at")
    expect(receipt).to_contain_text("96 MiB limit reached, peak 96 MiB.")
    expect(home.get_by_text("You have no server running.")).to_be_visible()

    def told(page: Page) -> None:
        expect(page.locator(".enf-receipt-bad").first).to_contain_text("was killed at")

    visit.shoot_looks("u02", HOME, "machine-home-receipt", told, tuple(LOOKS))
    (known,) = hub.client.receipts("u02")
    assert (known.lease_id, known.reason) == (lease.id, EndReason.OOM_LIMIT)
    assert known.oom_kills >= 2
    assert lease.mem_limit * 0.95 < known.memory_peak <= lease.mem_limit
    assert not hub.exists(lease.unit)
    until(lambda: hub.api.server("u02") is None, _SECONDS)
    hub.check_nothing_of("u02")


def test_everybody_sees_the_machine_and_an_admin_resizes_and_stops(
    hub: HubLab, visit: Visitor
) -> None:
    hers = hub.started("u01", {"profile": "Small", "mem_guarantee": 0.0625})
    other = hub.started("u05", {"profile": "Tiny"})
    hub.spin(other.unit, 1)

    def machine(page: Page) -> None:
        expect(page.locator("canvas")).to_have_count(2)
        expect(page.locator("#enforcer-sentence")).to_contain_text("2 servers run, 1 of them yours")
        expect(page.locator("[data-tile=memory] dd")).to_contain_text(" of 3.8")

    visit.shoot_looks("u01", MACHINE, "machine-view", machine, tuple(LOOKS))
    page = visit.open("u01", MACHINE)
    with page.expect_response("**/api/machine**") as answer:
        machine(page)
    assert "u05" not in answer.value.text() + page.content()
    page.goto(hub.address + ADMIN)
    expect(page.get_by_text("This page is for the hub's admins.")).to_be_visible()

    page = visit.open("alice", ADMIN)
    row = page.locator("#enforcer-leases tr", has_text="u05")
    expect(row).to_contain_text(re.compile(r"0\.2[2-7] of 0\.25"))
    # Somebody goes behind the daemon's back.
    hub.docker(f"update --memory 1g --memory-swap 1g {hub.container('u01')['Id']}")
    expect(page.locator("#enforcer-drift")).to_contain_text("is 256 MiB again")
    hub.check_kernel(hers)

    row = page.locator("#enforcer-leases tr", has_text="u01")
    row.get_by_role("button", name="Resize u01's server").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Memory limit", exact=True).fill("0.125")
    visit.shoot(page, "machine-admin-resize-light")
    dialog.get_by_role("button", name="Apply").click()
    expect(page.locator("#enforcer-outcome")).to_contain_text("Resized: u01's server.")
    expect(row).to_contain_text("of 128 MiB")
    _docker_follows(hub, "u01", 128 * MIB)
    assert hub.check_kernel(hub.lease("u01")).memory == 128 * MIB

    row.get_by_role("button", name="Stop u01's server").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop it").click()
    expect(page.locator("#enforcer-outcome")).to_contain_text("The hub is stopping")
    expect(row).to_have_count(0)
    ended = page.locator("#enforcer-receipts li").first
    expect(ended).to_contain_text("u01's server was stopped at")
    until(lambda: hub.api.server("u01") is None, _SECONDS)
    hub.check_nothing_of("u01")

    def everyone(shown: Page) -> None:
        expect(shown.locator("#enforcer-leases tr")).to_have_count(1)
        expect(shown.locator("#enforcer-receipts li").first).to_be_visible()

    visit.shoot_looks("alice", ADMIN, "machine-admin", everyone, tuple(LOOKS))
    hub.rest()
    hub.check_everything()
    hub.stopped("u05")
