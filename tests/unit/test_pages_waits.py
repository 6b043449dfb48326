"""Since when a profile does not fit: never longer than somebody has looked."""

from __future__ import annotations

from spawner.pages.waits import Waits
from tests.unit.test_pages_form import LARGE, SMALL, catalogue

FULL = catalogue(SMALL, LARGE)
ROOM = catalogue(SMALL, LARGE.model_copy(update={"fits": True}))


def test_since_when_a_profile_does_not_fit_is_remembered_until_it_does() -> None:
    waits = Waits()
    assert waits.look(FULL, "", 100.0) == {"Large": 100.0}
    assert waits.look(FULL, "", 105.0) == {"Large": 100.0}
    assert waits.look(ROOM, "", 110.0) == {}
    assert waits.look(FULL, "", 115.0) == {"Large": 115.0}


def test_what_was_so_before_nobody_looked_for_a_while_is_not_said() -> None:
    waits = Waits()
    for at in range(100, 200, 5):
        assert waits.look(FULL, "", at) == {"Large": 100.0}
    assert waits.look(FULL, "", 225.0) == {"Large": 100.0}
    assert waits.look(FULL, "", 7225.0) == {"Large": 7225.0}
    assert waits.look(FULL, "", 7230.0) == {"Large": 7225.0}


def test_forms_for_two_servers_of_a_user_do_not_disturb_each_other() -> None:
    waits = Waits()
    assert waits.look(FULL, "", 100.0) == {"Large": 100.0}
    assert waits.look(ROOM, "gpu", 102.0) == {}
    assert waits.look(FULL, "", 105.0) == {"Large": 100.0}


def test_of_very_many_the_ones_not_seen_for_longest_are_forgotten() -> None:
    waits = Waits()
    for number in range(6000):
        waits.look(FULL, str(number), 100.0)
    assert waits.look(FULL, "0", 101.0) == {"Large": 101.0}
    assert waits.look(FULL, "5999", 101.0) == {"Large": 100.0}
