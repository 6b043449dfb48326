"""Who asks: what the hub says of a token, parsed once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

from spawner.pages import ADMIN_SCOPE


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
