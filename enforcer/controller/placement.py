"""The reply to an admitted claim, and the check that the kernel really has it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from enforcer.containers import oom_score_adj
from enforcer.errors import UnavailableError
from enforcer.model import (
    LEASE_LABEL,
    Config,
    Deferred,
    DesiredSlice,
    Lease,
    Limits,
    Placement,
    Rights,
)
from enforcer.names import UnitName
from enforcer.quantities import Bytes

_NANO_PER_MICRO = 1000


def placement(
    config: Config, lease: Lease, rights: Rights, slices: Mapping[UnitName, DesiredSlice]
) -> Placement:
    """Return where a lease's container goes, and the arguments it is to be started with."""
    profile = config.profile(lease.profile)
    swap = Bytes(0) if profile is None else profile.swap_limit
    grant = lease.grant
    return Placement(
        slice=lease.unit,
        image=config.images.get(lease.image, lease.image),
        labels={LEASE_LABEL: lease.id},
        nano_cpus=grant.cpu_limit * _NANO_PER_MICRO,
        memory=grant.mem_limit,
        memory_swap=grant.mem_limit + swap,
        pids_limit=None if profile is None else profile.tasks_limit,
        shm_size=None if profile is None else profile.shm_size,
        oom_score_adj=oom_score_adj(slices, lease.unit, grant.mem_guarantee),
        volumes_ro=config.volumes_ro,
        home=rights.home,
    )


def check_placed(
    lease: Lease,
    slices: Mapping[UnitName, DesiredSlice],
    there: Mapping[UnitName, Limits],
    deferred: Collection[Deferred] = (),
) -> None:
    """Compare what was promised with what the kernel has: the leaf, and the floors above it.

    there: of the leaf all limits, of the others `memory_min` at least. deferred: what waits until
    usage allows: there, more than promised is in force.

    Raises:
        UnavailableError: ``placement.not-in-force``, with the first difference.
    """
    for unit, wanted in slices.items():
        limits = there.get(unit)
        if limits is None:
            raise _not_in_force(f"{unit} is not there, though systemd was asked for it")
        if unit == lease.unit:
            passed = {"io_weight", *(one.limit for one in deferred if one.subject == unit)}
            names = [one for one in wanted.limits.changed_from(limits) if one not in passed]
        else:
            short = limits.memory_min < wanted.limits.memory_min
            names = ["memory_min"] if short else []
        for name in names[:1]:
            found, promised = getattr(limits, name), getattr(wanted.limits, name)
            raise _not_in_force(f"{unit}: {name} is {found} on the kernel, not {promised}")


def _not_in_force(message: str) -> UnavailableError:
    return UnavailableError(
        "placement.not-in-force", message, "look at the journal of enforcer.service and of systemd"
    )
