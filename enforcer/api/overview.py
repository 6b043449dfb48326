"""How the machine and the daemon are, and what a user may choose from, as replies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from enforcer import __version__
from enforcer.admission import Admitted, Refused, Wait, decide
from enforcer.api import types
from enforcer.api.peers import Peer
from enforcer.api.replies import cores
from enforcer.catalogue import Bounds, catalogue
from enforcer.model import (
    Claim,
    LeaseState,
    Observed,
    Published,
    Repair,
    ReportDrift,
    ResourceProfile,
    Rights,
)
from enforcer.names import WORKLOAD
from enforcer.places import find, other_containers, promised_below, say_cores
from enforcer.quantities import format_bytes, format_cpus
from enforcer.room import NOTHING, workload

API_VERSION: Final = "v1"


def status_reply(
    published: Published, peer: Peer, mine: Sequence[types.LeaseReply]
) -> types.StatusReply:
    """Tell how everything is; drift and repairs only to those who can do something about it."""
    states = Counter(lease.state for lease in published.leases)
    return types.StatusReply(
        version=__version__,
        api=API_VERSION,
        user=peer.name,
        privileged=peer.privileged,
        at=published.observed.at,
        ticks=published.tick.ticks,
        systemd_ok=published.systemd_ok,
        docker_ok=published.docker_ok,
        config_error=published.config_error if peer.privileged else "",
        machine=machine_reply(published),
        leases={state: states[state] for state in LeaseState},
        mine=list(mine),
        drift=[drift_reply(one) for one in published.open_drift] if peer.privileged else None,
        repairs=[repair_reply(one) for one in published.repairs] if peer.privileged else None,
    )


def machine_reply(published: Published) -> types.MachineReply:
    """Tell what the machine has, what is promised of it and what is left."""
    config = published.config
    containers = other_containers(published) + sum(lease.live for lease in published.leases)
    may_use = workload(config, containers).whole()
    promised = promised_below(published.leases).get(WORKLOAD, NOTHING)
    free = (may_use - promised).whole()
    rate, pressure = _host_rates(published.previous, published.observed)
    return types.MachineReply(
        capacity=_amount(config.capacity.cpus, config.capacity.memory),
        reserved=_amount(
            config.capacity.cpus - config.quota.cpu, config.capacity.memory - config.quota.memory
        ),
        allocatable=_amount(config.quota.cpu, config.quota.memory),
        workload=_amount(may_use.cpu, may_use.memory),
        promised=_amount(promised.cpu, promised.memory),
        free=_amount(free.cpu, free.memory),
        used=_amount(rate, published.observed.host.memory_current),
        pressure=pressure,
        sentence=(
            f"{format_cpus(free.cpu)} of {say_cores(may_use.cpu)} and"
            f" {format_bytes(free.memory)} of {format_bytes(may_use.memory)} can still be promised"
        ),
    )


def _amount(cpu: int, memory: int) -> types.Amount:
    return types.Amount(cpu=cores(cpu), memory=memory)


def _host_rates(previous: Observed | None, now: Observed) -> tuple[int, types.PressureReply]:
    """Return the machine's CPU use and its pressure over the last tick; zeros at first."""
    seconds = now.taken_at - previous.taken_at if previous else 0.0
    if previous is None or seconds <= 0:
        return 0, types.PressureReply(cpu=0.0, memory=0.0, io=0.0)
    was, is_now = previous.host, now.host

    def share(before: int, after: int) -> float:
        return min(1.0, max(0.0, (after - before) / 1e6 / seconds))

    return max(0, round((is_now.cpu_usec - was.cpu_usec) / seconds)), types.PressureReply(
        cpu=share(was.cpu_pressure_usec, is_now.cpu_pressure_usec),
        memory=share(was.memory_pressure_usec, is_now.memory_pressure_usec),
        io=share(was.io_pressure_usec, is_now.io_pressure_usec),
    )


def drift_reply(drift: ReportDrift) -> types.DriftReply:
    """Tell of a drift that only an operator can mend."""
    return types.DriftReply(
        what=drift.what, subject=drift.subject, message=drift.message, command=drift.command
    )


def repair_reply(repair: Repair) -> types.RepairReply:
    """Tell of a drift that was found."""
    return types.RepairReply(
        at=repair.at,
        subject=repair.subject,
        what=repair.what,
        found=repair.found,
        wanted=repair.wanted,
        seconds=repair.seconds,
        command=repair.command,
    )


def catalogue_reply(published: Published, rights: Rights, server: str) -> types.CatalogueReply:
    """Tell what a user may choose from, and what each choice would get now."""
    offered = catalogue(published.config, rights)
    return types.CatalogueReply(
        user=rights.user,
        profiles=[_profile(published, rights, server, one) for one in offered.profiles],
        images=[
            types.ImageReply(name=name, reference=reference)
            for name, reference in offered.images.items()
        ],
        home=offered.home,
        volumes_ro=list(offered.volumes_ro),
        bounds=bounds_reply(offered.bounds),
        admission=rights.admission,
    )


def bounds_reply(bounds: Bounds) -> types.BoundsReply:
    """Tell the most that may be asked for."""
    return types.BoundsReply(
        cpu_limit=cores(bounds.cpu_limit),
        mem_limit=bounds.mem_limit,
        cpu_guarantee=cores(bounds.cpu_guarantee),
        mem_guarantee=bounds.mem_guarantee,
    )


def _profile(
    published: Published, rights: Rights, server: str, profile: ResourceProfile
) -> types.ProfileReply:
    fits, sentence = _fits(published, rights, server, profile.name)
    return types.ProfileReply(
        name=profile.name,
        cpu_limit=cores(profile.cpu_limit),
        mem_limit=profile.mem_limit,
        cpu_guarantee=cores(min(profile.cpu_limit, rights.max_cpu_guarantee)),
        mem_guarantee=min(profile.mem_limit, rights.max_mem_guarantee),
        fits=fits,
        sentence=sentence,
    )


def _fits(published: Published, rights: Rights, server: str, profile: str) -> tuple[bool, str]:
    """Ask admission what it would say; a lease of the same server would give its room back."""
    own = find(published.leases, rights.user, server)
    claim = Claim(
        user=rights.user, server=server, profile=profile, image=next(iter(rights.images), None)
    )
    said = decide(
        published.config,
        rights,
        claim,
        [lease for lease in published.leases if lease is not own],
        other_containers(published),
    )
    match said:
        case Admitted(grant=grant, notes=()):
            return True, (
                f"fits now, with {say_cores(grant.cpu_guarantee)} and"
                f" {format_bytes(grant.mem_guarantee)} guaranteed"
            )
        case Admitted(notes=notes):
            return True, f"fits now, with less guaranteed: {'; '.join(notes)}"
        case Refused(message=message, hint=hint):
            return False, f"{message} ({hint})" if hint else message
        case Wait(message=message):
            return False, f"would wait: {message}"
