"""Who is who, and who was."""

from __future__ import annotations

from typing import Any

import pytest

from spawner.pages.people import REMEMBERED_SECONDS, Acquaintances, Person, parse_person

ACCESS = frozenset({"access:services!service=enforcer"})
ALICE = Person(name="alice", groups=(), admin=False)


def model(**said: object) -> dict[str, Any]:
    return {"name": "alice", "kind": "user", "groups": ["ml"], "scopes": list(ACCESS), **said}


def test_the_hubs_word_is_parsed_once() -> None:
    assert parse_person(model(), ACCESS) == Person(name="alice", groups=("ml",), admin=False)
    admin = parse_person(model(scopes=[*ACCESS, "admin-ui"]), ACCESS)
    assert admin is not None
    assert admin.admin


@pytest.mark.parametrize(
    "said", [{"kind": "service"}, {"scopes": []}, {"scopes": None}, {"name": None}]
)
def test_who_is_no_user_or_has_no_access_is_nobody(said: dict[str, object]) -> None:
    assert parse_person(model(**said), ACCESS) is None


def test_an_acquaintance_is_remembered_for_a_while() -> None:
    known = Acquaintances()
    known.meet("token", ALICE, 100.0)
    assert known.recall("token", 100.0 + REMEMBERED_SECONDS) == ALICE
    assert known.recall("token", 101.0 + REMEMBERED_SECONDS) is None
    assert known.recall("other", 100.0) is None
    known.forget("token")
    known.forget("token")
    assert known.recall("token", 100.0) is None


def test_of_very_many_the_oldest_is_forgotten() -> None:
    known = Acquaintances()
    for number in range(3000):
        known.meet(str(number), ALICE, 0.0)
    assert known.recall("0", 0.0) is None
    assert known.recall("2999", 0.0) == ALICE
