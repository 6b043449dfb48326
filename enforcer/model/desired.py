"""What ought to be, and the actions that bring it about."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from enforcer.model.kernel import ContainerLimits, Limits
from enforcer.names import UnitName
from enforcer.quantities import Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredSlice:
    """One slice as it ought to be."""

    unit: UnitName
    limits: Limits
    description: str
    lasting: bool = False
    """Has a unit file on disk (the four top slices): changes are kept over a reboot."""
    capped: bool = False
    """The CPU quota is a cap, for as long as others need it: of a lasting slice it is not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredContainer:
    """One container's own limits as they ought to be; they never exceed its leaf's."""

    id: str
    limits: ContainerLimits
    oom_score_adj: int | None
    """None: leave it."""
    leaf: UnitName | None = None
    """The slice that has the same limits; None for one that has them alone, as misplaced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """The tree as it ought to be, parents before children, and the containers in it."""

    slices: Mapping[UnitName, DesiredSlice]
    containers: Mapping[str, DesiredContainer] = field(default_factory=lambda: MappingProxyType({}))
    removable: frozenset[UnitName] = frozenset()
    """Leaves that may go once unpopulated: released, receipt stored, no container names them."""
    reports: tuple[ReportDrift, ...] = ()
    """What only an operator can mend, as of this snapshot."""


EasedLimit = Literal["memory_max", "swap_max"]
"""The limits, by their names in Limits, that kill if they are lowered below what is used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """A lowered limit of memory or swap that waits, because applying it now could kill."""

    subject: str
    """Unit, or the id of a container that is in no leaf."""
    limit: EasedLimit
    wanted: Bytes
    deadline: float | None
    """Monotonic seconds: applied then, whatever is used; None: only when usage allows."""
    given: Bytes | None = None
    """What we had set before: more than that is somebody else's doing. None: nothing known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedChange:
    """One thing a new configuration would do (``plan``)."""

    subject: str
    """Unit, user or lease."""
    what: str
    before: str
    after: str
    risk: str = ""
    """Whom it would throttle, put at risk of the OOM killer or promise less, and by how much."""


class Cause(enum.StrEnum):
    """Why an action is taken; the label of the drift and action counters."""

    NEW = "new"  # desired and not there yet
    CHANGED = "changed"  # what is desired has changed
    DRIFT = "drift"  # somebody else changed it
    SHARE = "share"  # a CPU cap computed ahead, or its release
    GONE = "gone"  # no longer desired


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateSlice:
    """Make a slice with its limits in one transaction."""

    unit: UnitName
    limits: Limits
    description: str
    lasting: bool = False
    cause: Cause = Cause.NEW


@dataclass(frozen=True, slots=True, kw_only=True)
class SetLimits:
    """Give the named fields of `limits` to an existing slice."""

    unit: UnitName
    limits: Limits
    fields: tuple[str, ...]
    cause: Cause
    lasting: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveSlice:
    """Stop a leaf that is unpopulated; whoever acts looks once more, under the placement lock."""

    unit: UnitName
    cause: Cause = Cause.GONE


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateContainer:
    """Mend a scope through Docker's update API."""

    container_id: str
    limits: ContainerLimits
    cause: Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class SetOomScoreAdj:
    """Write oom_score_adj of every process in a scope."""

    container_id: str
    scope: str
    value: int
    cause: Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportDrift:
    """Something is not as it ought to be and only an operator can mend it, or mend it at once."""

    what: str
    """Stable word: ``engine-outside``, ``container-outside``, ``container-unread``,
    ``memory-raised``, ``swap-raised``, ``total-exceeded``."""
    subject: str
    message: str
    command: str
    """What to type; empty where only the users or time can mend it."""


Action = CreateSlice | SetLimits | RemoveSlice | UpdateContainer | SetOomScoreAdj | ReportDrift
