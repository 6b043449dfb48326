"""What the spawner before this one let through, tried on the real hub: REST, form and link.

One machine for all of it: whatever is refused changes nothing, and each test that starts a server
has a user of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from enforcer.install.hub import UNITS
from tests.machine.hub.hublab import HubLab
from tests.machine.hub.web import Answer, Browser

REFUSED = {400, 403, 404, 409}
MIB = 2**20


@pytest.fixture(autouse=True)
def _everything_in_order(hub: HubLab) -> Iterator[None]:
    """After each of them the world is as the daemon says, and the hub shows its pages."""
    yield
    hub.check_everything()
    assert hub.api.call("GET", "/").status == 200


@pytest.fixture(scope="module")
def browser(shared_hub: HubLab) -> Browser:
    """A user's browser, logged in."""
    return shared_hub.browser("u01")


def test_a_start_by_rest_without_options_has_limits_the_right_home_and_the_shared_directories(
    hub: HubLab,
) -> None:
    lease = hub.started("u04")
    assert (lease.profile, lease.image) == ("Tiny", "Light")
    assert (lease.cpu_limit, lease.mem_limit) == (0.25, 96 * MIB)
    hub.check_kernel(lease)
    shown = hub.container("u04")
    mounts = {one["Destination"]: one for one in shown["Mounts"]}
    assert mounts.keys() == {"/home/u04", "/usr", "/opt/jupyterlab"}
    assert all(one["Source"] == path for path, one in mounts.items())
    assert {path for path, one in mounts.items() if one["RW"]} == {"/home/u04"}
    uid = hub.guest.run("id -u u04").stdout.strip()
    hub.docker(f"exec {shown['Id']} touch /home/u04/mine")
    assert hub.guest.run("stat -c %u /home/u04/mine").stdout.strip() == uid
    hub.stopped("u04")
    hub.check_nothing_of("u04")


@pytest.mark.parametrize("unit", UNITS)
def test_the_hubs_units_are_right(unit: str, hub: HubLab) -> None:
    judged = hub.guest.run(["systemd-analyze", "verify", "--man=no", unit], check=False)
    assert judged.code == 0, judged.stderr
    assert not [line for line in judged.stderr.splitlines() if unit in line]


def test_the_labs_own_settings_hold_but_none_of_them_lifts_a_limit(hub: HubLab) -> None:
    lease = hub.started("u05", {"profile": "Small", "mem_guarantee": 0.0625})
    assert lease.mem_guarantee == 64 * MIB
    found = hub.check_kernel(lease)
    assert found.cgroup == "jupyter-workload-Small-u05-default.slice"
    assert found.memory == 256 * MIB
    shown = hub.container("u05")
    assert shown["HostConfig"]["RestartPolicy"]["Name"] in {"", "no"}
    environment = dict(one.split("=", 1) for one in shown["Config"]["Env"])
    assert environment["LICENCE_SERVER"] == "licences.example.org"
    assert environment["NB_USER"] == "u05"
    assert environment["HOME"] == "/home/u05"
    assert environment["MEM_LIMIT"] == str(256 * MIB)
    assert float(environment["CPU_LIMIT"]) == 0.5
    services = hub.api.call("GET", "/services").json()
    assert services.keys() >= {"tests", "enforcer"}
    hub.stopped("u05")


WRONG = {
    "no cores": '{"cpu_limit": 0}',
    "less than none": '{"cpu_limit": -1}',
    "no memory": '{"mem_limit": 0}',
    "negative memory": '{"mem_limit": -1}',
    "minus zero": '{"mem_limit": -0.0}',
    "not a number": '{"cpu_limit": NaN}',
    "endless": '{"mem_limit": Infinity}',
    "more than the profile has": '{"cpu_limit": 0.3}',
    "more than the machine has": '{"mem_limit": 1e300}',
    "four hundred digits": '{"mem_limit": 1' + "0" * 400 + "}",
    "a text": '{"cpu_limit": "0.1"}',
    "a yes": '{"cpu_limit": true}',
    "a list": '{"mem_limit": [0.01]}',
    "a guarantee below none": '{"mem_guarantee": -1}',
    "a guarantee above the limit": '{"cpu_guarantee": 5}',
    "another user's profile": '{"profile": "Vault"}',
    "a profile that is not there": '{"profile": "tiny"}',
    "another user's image": '{"image": "Secret"}',
    "an image by its reference": '{"image": "light:latest"}',
    "an image that is a list": '{"image": ["Light"]}',
    "an option that is not there": '{"cgroup_parent": "jupyter-engine.slice"}',
    "a misspelled option": '{"cpu_limits": 0.1}',
    "no object": "[1, 2]",
    "only a text": '"Small"',
}


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG.keys())
def test_rest_gets_no_more_than_the_policy_allows(body: str, hub: HubLab) -> None:
    answer = hub.api.call("POST", "/users/u06/server", raw=body.encode())
    assert answer.status in REFUSED, answer
    assert len(json.loads(answer.text)["message"]) > 20
    hub.check_nothing_of("u06")


def test_refused_options_are_not_what_the_next_start_begins_with(hub: HubLab) -> None:
    assert hub.api.start("u06", {"cpu_limit": -1}).status in REFUSED
    lease = hub.started("u06")
    assert lease.cpu_limit == 0.25
    hub.stopped("u06")


FIELDS = {
    "cpu_limit": "0",
    "mem_limit": "-1",
    "profile": "Vault",
    "image": "Secret",
    "cpu_guarantee": "x",
}


@pytest.mark.parametrize("field", FIELDS)
def test_the_form_gets_no_more_either_and_says_why(
    field: str, hub: HubLab, browser: Browser
) -> None:
    browser.get("/hub/spawn/u01")
    _check_refused(hub, browser, browser.post("/hub/spawn/u01", {field: FIELDS[field]}))


@pytest.mark.parametrize("field", FIELDS)
def test_nor_does_a_link(field: str, hub: HubLab, browser: Browser) -> None:
    _check_refused(hub, browser, browser.get(f"/hub/spawn/u01?opt-{field}={FIELDS[field]}"))


def _check_refused(hub: HubLab, browser: Browser, answer: Answer) -> None:
    """See that u01 reads why, at once or on the page that waits, and that nothing has started."""
    if "/spawn-pending/" in answer.address:
        assert not hub.api.wait("u01")
        answer = browser.get("/hub/spawn-pending/u01")
        assert "failed" in answer.text
    else:
        assert "Error:" in answer.text
    assert answer.status in REFUSED
    hub.check_nothing_of("u01")


def test_a_link_that_is_right_starts_what_it_says(hub: HubLab, browser: Browser) -> None:
    answer = browser.get("/hub/spawn/u01?opt-profile=Small&opt-cpu_limit=0.4&opt-mem_limit=0.125")
    assert answer.status == 200
    assert hub.api.wait("u01")
    lease = hub.lease("u01")
    assert (lease.profile, lease.cpu_limit, lease.mem_limit) == ("Small", 0.4, 128 * MIB)
    hub.check_kernel(lease)
    hub.stopped("u01")


def test_a_form_that_was_never_looked_at_can_be_sent(hub: HubLab) -> None:
    fresh = hub.browser("u02")
    answer = fresh.post("/hub/spawn/u02", {"profile": "Tiny", "mem_limit": "0.0625"})
    assert answer.status == 200
    assert hub.api.wait("u02")
    assert hub.lease("u02").mem_limit == 64 * MIB
    hub.stopped("u02")


def test_named_servers_share_what_their_user_may_have(hub: HubLab) -> None:
    hub.started("u03", {"mem_limit": 0.046875, "cpu_limit": 0.125})
    refused = hub.api.start("u03", {"mem_limit": 0.0625}, "second")
    if refused.status == 202:  # the daemon's word comes when the start is under way
        assert not hub.api.wait("u03", "second")
    assert [one.server for one in hub.client.leases("u03")] == [""]
    lease = hub.started("u03", {"mem_limit": 0.046875, "cpu_limit": 0.125}, "second")
    hub.check_kernel(lease)
    user = "jupyter-workload-Tiny-u03.slice"
    # The kernel's own pages of that level have a little room besides.
    assert 96 * MIB <= (hub.number(user, "memory.max") or 0) <= 100 * MIB
    assert hub.read(user, "cpu.max") == "25000 100000"
    hub.stopped("u03", "second")
    hub.stopped("u03")


def test_the_form_shows_every_choice_in_the_policys_order_and_the_chosen_ones_numbers(
    browser: Browser,
) -> None:
    page = browser.get("/hub/spawn/u01").text
    profiles = re.findall(r'name="profile"[^>]*?value="([^"]+)"', page, re.DOTALL)
    assert profiles == ["Tiny", "Lab", "Small"]
    assert re.findall(r'name="image"[^>]*?value="([^"]+)"', page, re.DOTALL) == [
        "Light",
        "JupyterLab",
    ]
    (checked,) = re.findall(r'<input[^>]*name="profile"[^>]*\schecked[^>]*>', page, re.DOTALL)
    chosen = dict(re.findall(r'data-([a-z-]+)="([^"]+)"', checked))
    shown = dict(
        re.findall(r'type="number"[^>]*name="(\w+)"[^>]*?\svalue="([^"]*)"', page, re.DOTALL)
    )
    assert shown.keys() == {"cpu_limit", "mem_limit", "cpu_guarantee", "mem_guarantee"}
    for name, value in shown.items():  # an empty field means all that the profile has
        assert float(value or 0) <= float(chosen[name.replace("_", "-")])
    assert "Vault" not in page
    assert "Secret" not in page


def test_a_policy_that_names_an_unknown_profile_changes_nothing_and_breaks_no_page(
    hub: HubLab, browser: Browser
) -> None:
    before = hub.guest.read("/etc/enforcer/enforcer.toml")
    hub.guest.write(
        "/etc/enforcer/enforcer.toml",
        before.replace('["Tiny", "Lab", "Small"]', '["Tiny", "Gone", "Small"]'),
    )
    said = hub.guest.run("enforcer reload", check=False)
    hub.guest.write("/etc/enforcer/enforcer.toml", before)
    assert said.code != 0
    assert "Gone" in said.stdout + said.stderr
    for path in ("/hub/home", "/hub/spawn/u01"):
        assert browser.get(path).status == 200
    assert "Small" in browser.get("/hub/spawn/u01").text


def test_no_page_and_no_script_has_a_token_of_the_hubs_in_it(hub: HubLab, browser: Browser) -> None:
    tokens = hub.guest.run("cat /var/lib/jupyterhub/*.token").stdout.split()
    tokens.append(hub.api.token)
    assert len(tokens) >= 3
    stranger = Browser(hub.address)
    seen = set()
    for one in (stranger, browser):
        for path in ("/hub/login", "/hub/home", "/hub/spawn/u01", "/services/enforcer/"):
            answer = one.get(path)
            assert answer.status < 500, answer
            assert not any(token in answer.text for token in tokens), path
            seen |= set(re.findall(r'(?:src|href)="(/[^"]+\.(?:js|css|map)[^"]*)"', answer.text))
    assert any("/services/enforcer/" in path for path in seen)
    for path in sorted(seen):
        assert not any(token in stranger.get(path).text for token in tokens), path
    listed = hub.guest.run("stat -c '%a %U' /var/lib/jupyterhub/*.token").stdout.split()
    assert set(listed) == {"600", "jupyterhub"}
