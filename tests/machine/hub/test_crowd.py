"""Everybody at once: twelve servers asked for in the same moment."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from tests.machine.hub.hublab import PEOPLE, HubLab
from tests.machine.hub.web import Browser

UP_SECONDS = 400.0
ANSWERS_WITHIN_SECONDS = 40.0
"""A page, while two emulated processors start twelve containers."""


class Watcher(threading.Thread):
    """Opens the hub's login page again and again; answers: how long each took, failed: the rest."""

    def __init__(self, address: str) -> None:
        super().__init__(name="watcher", daemon=True)
        self._address = address
        self._stop_it = threading.Event()
        self.answers: list[float] = []
        self.failed: list[str] = []

    def run(self) -> None:
        while not self._stop_it.wait(0.5):
            began = time.monotonic()
            try:
                answer = Browser(self._address).get("/hub/login")
            except OSError as error:
                self.failed.append(str(error))
                continue
            if answer.status != 200:
                self.failed.append(f"{answer.status}")
            self.answers.append(time.monotonic() - began)

    def end(self) -> None:
        self._stop_it.set()
        self.join(60)


def test_twelve_users_at_once_are_all_served_and_the_hub_answers_meanwhile(
    clean_hub: HubLab,
) -> None:
    hub = clean_hub
    watcher = Watcher(hub.address)
    watcher.start()
    with ThreadPoolExecutor(len(PEOPLE)) as pool:
        asked = list(pool.map(hub.api.start, PEOPLE))
        assert {one.status for one in asked} <= {201, 202, 409, 429}, asked
        begun = [user for user, one in zip(PEOPLE, asked, strict=True) if one.status < 300]
        up = dict(
            zip(
                begun,
                pool.map(lambda user: hub.api.wait(user, seconds=UP_SECONDS), begun),
                strict=True,
            )
        )
    refused = [user for user in PEOPLE if not up.get(user)]
    for one in asked:
        assert one.status < 300 or len(one.json()["message"]) > 20
    told = {user: hub.api.told(user)[-1]["message"] for user in begun if not up[user]}
    assert len(refused) <= 2, (told, hub.said())
    hub.check_everything()
    assert {lease.user for lease in hub.client.leases()} == {
        user for user, is_up in up.items() if is_up
    }

    with ThreadPoolExecutor(len(PEOPLE)) as pool:
        list(pool.map(hub.stopped, (user for user, is_up in up.items() if is_up)))
    watcher.end()
    for user in PEOPLE:
        hub.check_nothing_of(user)
    assert not watcher.failed
    assert watcher.answers
    assert max(watcher.answers) < ANSWERS_WITHIN_SECONDS, sorted(watcher.answers)[-5:]
