"""The port Host in memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from enforcer.model import Capacity
from enforcer.quantities import GIB, Bytes


@dataclass(slots=True)
class FakeHost:
    """A host of four cores and 16 GiB; users: name → uid, members: user → groups."""

    host_capacity: Capacity = field(
        default_factory=lambda: Capacity(cores=4, memory=Bytes(16 * GIB), swap=Bytes(2 * GIB))
    )
    users: dict[str, int] = field(default_factory=lambda: {"root": 0})
    members: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def capacity(self) -> Capacity:
        """Return what the host has."""
        return self.host_capacity

    def groups(self, user: str) -> tuple[str, ...]:
        """Return the groups of a user; none for one the host does not know."""
        return self.members.get(user, ())

    def user_name(self, uid: int) -> str | None:
        """Return the name of a uid."""
        return next((name for name, one in self.users.items() if one == uid), None)

    def user_id(self, user: str) -> int | None:
        """Return the uid of a user."""
        return self.users.get(user)
