"""What of a snapshot is decided upon: everything but the counters. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from enforcer.model import Cgroup, Container, Observed
from enforcer.names import UnitName


def same_outline(before: Observed, now: Observed) -> bool:
    """Tell whether two snapshots differ in nothing but time and what was used.

    Between most ticks nothing else differs, and then nothing need be decided anew.
    """
    return (
        _same_cgroups(before.cgroups, now.cgroups)
        and _same_containers(before.containers, now.containers)
        and before.scopes == now.scopes
        and before.engine == now.engine
        and before.host_weights == now.host_weights
        and before.unlasting == now.unlasting
    )


def _same_cgroups(before: Mapping[UnitName, Cgroup], now: Mapping[UnitName, Cgroup]) -> bool:
    if len(before) != len(now):
        return False
    # what has not moved is the very same value, which makes this cheap
    for unit, cgroup in now.items():
        old = before.get(unit)
        if old is not cgroup and (
            old is None or old.populated != cgroup.populated or old.limits != cgroup.limits
        ):
            return False
    return True


def _same_containers(
    before: Mapping[str, Container] | None, now: Mapping[str, Container] | None
) -> bool:
    if before is now:
        return True
    if before is None or now is None or len(before) != len(now):
        return False
    return all(_same_container(before.get(one), container) for one, container in now.items())


def _same_container(before: Container | None, now: Container) -> bool:
    return before is now or (
        before is not None
        and before.running == now.running
        and before.scope == now.scope
        and before.starting == now.starting
        and before.kernel == now.kernel
        and before.oom_score_adj == now.oom_score_adj
        and before.lease_id == now.lease_id
        and before.cgroup_parent == now.cgroup_parent
        and before.name == now.name
        and before.unread == now.unread
    )
