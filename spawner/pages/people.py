"""Who asks: what the hub says of a token, parsed once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from spawner.pages import ADMIN_SCOPE

REMEMBERED_SECONDS: Final = 900.0
_MOST_REMEMBERED: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A user of the hub, as far as the token that came with the request says."""

    name: str
    groups: tuple[str, ...]
    admin: bool


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore")

    kind: str = "user"
    name: str
    groups: list[str] = []
    scopes: list[str]


def parse_person(model: Mapping[str, object], access: frozenset[str]) -> Person | None:
    """Return who it is; None if it is no user, or the token does not open this service."""
    try:
        said = _Model.model_validate(model)
    except ValidationError:
        return None
    if said.kind != "user" or not access.intersection(said.scopes):
        return None
    return Person(name=said.name, groups=tuple(said.groups), admin=ADMIN_SCOPE in said.scopes)


class Acquaintances:
    """Whom the hub knew a while ago, by token: the pages go on while the hub is restarted.

    Good for looking only, and for a quarter of an hour.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[Person, float]] = OrderedDict()

    def meet(self, token: str, person: Person, now: float) -> None:
        """Remember whose a token is; `now` is in seconds that never jump."""
        self._known[token] = (person, now)
        self._known.move_to_end(token)
        if len(self._known) > _MOST_REMEMBERED:
            self._known.popitem(last=False)

    def forget(self, token: str) -> None:
        """Forget a token that the hub does not know any more."""
        self._known.pop(token, None)

    def recall(self, token: str, now: float) -> Person | None:
        """Return whose it was; None if it is not known, or was too long ago."""
        person, met = self._known.get(token, (None, now))
        return person if now - met <= REMEMBERED_SECONDS else None
