"""The slices as a tree of CPU amounts, and what is due to each leaf of it.

A leaf is whatever competes as one: a lease, all adopted containers, the engine, and a slice that
nobody asked us about. Parents follow from the names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from enforcer.errors import ForbiddenError, InvalidError
from enforcer.model import Cgroup, Claim, Config, Lease, Rights
from enforcer.names import (
    ADOPTED,
    ENGINE,
    ROOT,
    WORKLOAD,
    UnitName,
    ancestors,
    parent,
    profile_slice,
    user_slice,
)
from enforcer.quantities import Bytes, Cpus
from enforcer.room import NOTHING, Amount, spared

Totals = Mapping[str, tuple[Cpus, Bytes]]
"""User → their total of CPU and of memory, over all profiles and servers."""

NO_TOTALS: Final[Totals] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One slice: what it may use, and for a leaf what it was promised of that."""

    unit: UnitName
    limit: Cpus
    guarantee: Cpus = Cpus(0)
    leaf: bool = False


Tree = Mapping[UnitName, Level]


def totals_of(leases: Iterable[Lease], rights_of: Callable[[Claim], Rights]) -> Totals:
    """Return user → total of CPU and memory; who has no rights any more is left out.

    Of servers claimed with different groups of the hub the most generous counts. It is no less
    than what the user's servers hold in profiles to which they have only lost the right.
    """
    totals: dict[str, Amount] = {}
    spare: dict[str, Amount] = {}
    for lease in leases:  # every claim has them reckoned anew: no sum for who has one lease
        try:
            rights = rights_of(lease.claim)
        except (ForbiddenError, InvalidError):
            continue  # what runs goes on within its profile
        user = lease.user
        given, before = Amount(rights.cpu_total, rights.mem_total), totals.get(user)
        totals[user] = given if before is None else before.most(given)
        more = spared(lease, rights)
        if more is not NOTHING:
            spare[user] = spare.get(user, NOTHING) + more
    for user, more in spare.items():
        totals[user] = totals[user].most(more)
    return {user: (Cpus(one.cpu), Bytes(one.memory)) for user, one in totals.items()}


def cpu_tree(
    config: Config,
    leases: Iterable[Lease],
    totals: Totals = NO_TOTALS,
    cgroups: Mapping[UnitName, Cgroup] = MappingProxyType({}),
) -> Tree:
    """Return every slice that live leases need, and those in `cgroups` that nobody asked for.

    No level's limit exceeds that of a level above it.
    """
    workload = workload_cpu(config)
    tree = {
        ROOT: Level(unit=ROOT, limit=config.quota.cpu),
        WORKLOAD: Level(unit=WORKLOAD, limit=workload),
        ENGINE: Level(
            unit=ENGINE,
            limit=config.quota.cpu,
            guarantee=min(config.engine.cpu, config.quota.cpu),
            leaf=True,
        ),
        ADOPTED: Level(unit=ADOPTED, limit=min(config.adopted.cpu, workload), leaf=True),
    }
    for lease in leases:
        if lease.live:
            _add(tree, lease, config, totals)
    for unit in unasked(tree, cgroups):
        above = tree[parent(unit) or ROOT].limit
        limit = min(cgroups[unit].limits.cpu_quota or above, above)
        tree[unit] = Level(unit=unit, limit=Cpus(limit), leaf=True)
    return tree


def workload_cpu(config: Config) -> Cpus:
    """Return what all containers may use together: the global quota less the engine's floor."""
    return Cpus(max(0, config.quota.cpu - config.engine.cpu))


def profile_cpu(config: Config, profile: str) -> Cpus:
    """Return what all leases of a profile may use together."""
    found = config.profile(profile)
    workload = workload_cpu(config)
    return workload if found is None or found.cpu_total is None else min(found.cpu_total, workload)


def user_cpu(config: Config, profile: str, user: str, totals: Totals) -> Cpus:
    """Return what a user may use in a profile, over all their servers."""
    within = profile_cpu(config, profile)
    return min(totals[user][0], within) if user in totals else within


def unasked(known: Iterable[UnitName], cgroups: Mapping[UnitName, Cgroup]) -> tuple[UnitName, ...]:
    """Return the populated slices nobody asked for, each the topmost one of its branch."""
    names = frozenset(known)
    return tuple(
        sorted(
            unit
            for unit, cgroup in cgroups.items()
            if cgroup.populated and unit not in names and parent(unit) in names - _WHOLE
        )
    )


_WHOLE: Final = frozenset({ENGINE, ADOPTED})
"""What is made below these two stays within them."""


def members(tree: Tree) -> Mapping[UnitName, Sequence[UnitName]]:
    """Return the leaves below every slice that is none, the deepest slices first."""
    inner = sorted((unit for unit in tree if not tree[unit].leaf), key=_depth, reverse=True)
    found: dict[UnitName, list[UnitName]] = {unit: [] for unit in inner}
    for unit in sorted(tree):
        if tree[unit].leaf:
            for above in ancestors(unit):
                found[above].append(unit)
    return found


def with_room(tree: Tree, per_mille: int) -> Tree:
    """Return the tree with each inner limit that much smaller, but not below what was promised."""
    below = members(tree)
    smaller = dict(tree)
    for unit, leaves in below.items():
        promised = sum(tree[leaf].guarantee for leaf in leaves)
        limit = tree[unit].limit
        fewer = limit * (1000 - per_mille) // 1000
        smaller[unit] = replace(tree[unit], limit=Cpus(min(limit, max(fewer, promised))))
    return smaller


def dues(tree: Tree, demand: Mapping[UnitName, Cpus]) -> Mapping[UnitName, Cpus]:
    """Return what each leaf may have of what it asks for, when all ask at once.

    First everybody gets what they were promised, as far as they want it. What is left is shared
    out equally among those who want more (max-min, within every limit above). The engine gets,
    above its floor, what the workload leaves: its weight says the same. Whole microseconds; a
    remainder smaller than the number of takers stays with nobody, so that no order matters.
    """
    leaves_of_tree = [level for level in tree.values() if level.leaf]
    due = {leaf.unit: min(demand.get(leaf.unit, 0), leaf.limit) for leaf in leaves_of_tree}
    base = {unit: min(tree[unit].guarantee, wanted) for unit, wanted in due.items()}
    wanted_by_engine = due[ENGINE]
    for unit, leaves in members(tree).items():
        limit = tree[unit].limit
        if unit == ROOT:
            limit = Cpus(limit - base[ENGINE])
            leaves = [leaf for leaf in leaves if leaf != ENGINE]  # noqa: PLW2901 - it comes last
        _fit(leaves, limit, base, due)
    others = sum(amount for unit, amount in due.items() if unit != ENGINE)
    due[ENGINE] = min(wanted_by_engine, max(base[ENGINE], tree[ROOT].limit - others))
    return {unit: Cpus(amount) for unit, amount in due.items()}


def _fit(
    leaves: Sequence[UnitName], limit: Cpus, base: dict[UnitName, int], due: dict[UnitName, int]
) -> None:
    """Lower what is due to the leaves below one slice until it is within the slice's limit."""
    if sum(due[leaf] for leaf in leaves) <= limit:
        return
    promised = sum(base[leaf] for leaf in leaves)
    if promised > limit:  # a smaller quota came with a reload: all are cut alike
        for leaf in leaves:
            base[leaf] = base[leaf] * limit // promised
        promised = sum(base[leaf] for leaf in leaves)
    share = _equal_share([due[leaf] - base[leaf] for leaf in leaves], limit - promised)
    for leaf in leaves:
        due[leaf] = min(due[leaf], base[leaf] + share)


def _equal_share(rooms: Sequence[int], surplus: int) -> int:
    """Return the largest whole share of which nobody takes more than their room.

    The rooms exceed the surplus together, so there is somebody whom a share does not satisfy.
    """
    takers = sorted(rooms, reverse=True)
    while takers[-1] < surplus // len(takers):
        surplus -= takers.pop()
    return surplus // len(takers)


def _add(tree: dict[UnitName, Level], lease: Lease, config: Config, totals: Totals) -> None:
    of_profile = profile_slice(lease.profile)
    of_user = user_slice(lease.profile, lease.user)
    cap = user_cpu(config, lease.profile, lease.user, totals)
    limit = min(lease.grant.cpu_limit, cap)
    tree[of_profile] = Level(unit=of_profile, limit=profile_cpu(config, lease.profile))
    tree[of_user] = Level(unit=of_user, limit=cap)
    tree[lease.unit] = Level(
        unit=lease.unit, limit=limit, guarantee=min(lease.grant.cpu_guarantee, limit), leaf=True
    )


def _depth(unit: UnitName) -> int:
    # escaping leaves no dash within a part, so dashes count levels
    return unit.count("-")
