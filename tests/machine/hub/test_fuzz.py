"""Whatever is sent as a server's options: nobody gets past the policy, and no page breaks."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.machine.hub.hublab import HubLab
from tests.machine.hub.web import Browser

EXAMPLES = 20
USER = "u02"
KEYS = ("profile", "image", "cpu_limit", "mem_limit", "cpu_guarantee", "mem_guarantee")

_ODD_NUMBERS = st.sampled_from(
    [0, -1, -0.0, 1e308, -1e308, 2**63, 10**30, 1e-300, 0.1, 0.25, 0.2500001, 5]
)
_VALUES: st.SearchStrategy[Any] = st.one_of(
    _ODD_NUMBERS,
    st.floats(),
    st.integers(),
    st.booleans(),
    st.none(),
    st.text(max_size=20),
    st.sampled_from(
        ["Tiny", "Small", "Vault", "Light", "Secret", "0.1", "1e3", "<b>", "../x", "\0"]
    ),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
_OPTIONS = st.one_of(
    # Nearly right ones: most of the ways past a check begin like one that passes it.
    st.dictionaries(st.sampled_from(KEYS), _VALUES, min_size=1),
    st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=12)), _VALUES, max_size=4),
    _VALUES,
)


def test_no_options_get_past_the_policy_and_no_page_breaks(hub: HubLab) -> None:
    browser = hub.browser(USER)

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(_OPTIONS)
    @example({"cpu_limit": float("nan"), "mem_limit": float("inf")})
    @example({"profile": "Small", "cpu_limit": 0.5, "mem_limit": 0.25})
    @example({"$b64": "AAAA"})
    @example({"profile": "\ud800"})
    def send(options: object) -> None:
        _send(hub, browser, options)

    send()
    hub.check_everything()


def _send(hub: HubLab, browser: Browser, options: object) -> None:
    answer = hub.api.call("POST", f"/users/{USER}/server", raw=json.dumps(options).encode())
    assert answer.status < 500, answer
    if answer.status in {201, 202}:
        if hub.api.wait(USER):
            hub.check_kernel(hub.lease(USER))
            hub.stopped(USER)
    else:
        assert len(answer.json()["message"]) > 10
    hub.check_nothing_of(USER)
    for path in ("/hub/home", f"/hub/spawn/{USER}"):
        assert browser.get(path).status == 200, (path, options)
