"""What a user may choose from, and the most that one lease of theirs may ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from enforcer.model import Config, Lease, ResourceProfile, Rights
from enforcer.quantities import Bytes, Cpus


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The most that one lease of a user may ask for."""

    cpu_limit: Cpus
    mem_limit: Bytes
    cpu_guarantee: Cpus
    mem_guarantee: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """What a user may choose from, the preferred first. images: name → reference."""

    profiles: tuple[ResourceProfile, ...]
    images: Mapping[str, str]
    home: str | None
    volumes_ro: tuple[str, ...]
    bounds: Bounds


def catalogue(config: Config, rights: Rights) -> Catalogue:
    """Return what a user may choose from."""
    profiles = tuple(config.profiles[name] for name in rights.profiles)
    cpu = min(rights.cpu_total, max((one.cpu_limit for one in profiles), default=Cpus(0)))
    memory = min(rights.mem_total, max((one.mem_limit for one in profiles), default=Bytes(0)))
    return Catalogue(
        profiles=profiles,
        images=MappingProxyType({name: config.images[name] for name in rights.images}),
        home=rights.home,
        volumes_ro=config.volumes_ro,
        bounds=Bounds(
            cpu_limit=cpu,
            mem_limit=memory,
            cpu_guarantee=min(cpu, rights.max_cpu_guarantee),
            mem_guarantee=min(memory, rights.max_mem_guarantee),
        ),
    )


def resize_bounds(config: Config, rights: Rights, lease: Lease) -> Bounds:
    """Return the most that a resize may ask for: its profile's, and never less than it has.

    A lease whose profile is its user's no more keeps what it has.
    """
    grant = lease.grant
    if lease.profile not in rights.profiles:
        return Bounds(
            cpu_limit=grant.cpu_limit,
            mem_limit=grant.mem_limit,
            cpu_guarantee=grant.cpu_guarantee,
            mem_guarantee=grant.mem_guarantee,
        )
    cpu, memory = config.profiles[lease.profile].cpu_limit, config.profiles[lease.profile].mem_limit
    return Bounds(
        cpu_limit=max(cpu, grant.cpu_limit),
        mem_limit=max(memory, grant.mem_limit),
        cpu_guarantee=max(min(cpu, rights.max_cpu_guarantee), grant.cpu_guarantee),
        mem_guarantee=max(min(memory, rights.max_mem_guarantee), grant.mem_guarantee),
    )
