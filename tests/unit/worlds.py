"""Configurations, leases and snapshots for the tests of what decides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from enforcer.model import (
    AdoptedQuota,
    Capacity,
    Cgroup,
    Claim,
    Config,
    Container,
    Desired,
    EngineFloor,
    GlobalQuota,
    Grant,
    Lease,
    LeaseState,
    Observed,
    ResourceProfile,
    Usage,
    UserProfile,
)
from enforcer.names import ADOPTED, ENGINE, ROOT, WORKLOAD, UnitName
from enforcer.quantities import CORE, GIB, MIB, Bytes, Cpus

TOP: Final = (ROOT, ENGINE, WORKLOAD, ADOPTED)


def cpus(cores: float) -> Cpus:
    return Cpus(round(cores * CORE))


def gib(amount: float) -> Bytes:
    return Bytes(int(amount * GIB) // 4096 * 4096)


def profile(name: str, cores: float = 2, memory: float = 4) -> ResourceProfile:
    return ResourceProfile(name=name, cpu_limit=cpus(cores), mem_limit=gib(memory))


SMALL: Final = profile("small")
"""2 cores, 4 GiB."""
LARGE: Final = replace(
    profile("large", 4, 16), cpu_total=cpus(6), mem_total=gib(24), tasks_total=9000
)


def config(
    *profiles: ResourceProfile,
    cores: int = 8,
    memory: float = 64,
    quota: float | None = None,
    engine: float = 0.2,
    adopted: float = 1,
    whole_cores: bool = False,
) -> Config:
    """`quota`: cores, one less than the machine has if not told; 4 GiB are the host's."""
    found = profiles or (SMALL, LARGE)
    return Config(
        capacity=Capacity(cores=cores, memory=gib(memory), swap=gib(8)),
        quota=GlobalQuota(
            cpu=cpus(cores - 1 if quota is None else quota),
            memory=gib(memory - 4),
            swap=gib(4),
            tasks=50_000,
            whole_cores=whole_cores,
        ),
        engine=EngineFloor(
            cpu=cpus(engine), memory=Bytes(384 * MIB), memory_per_container=Bytes(16 * MIB)
        ),
        adopted=AdoptedQuota(cpu=cpus(adopted), memory=gib(2), swap=Bytes(0), tasks=1000),
        profiles={one.name: one for one in found},
        images={"base": "base:1"},
        users={
            "default": UserProfile(
                name="default",
                allowed_resources=tuple(one.name for one in found),
                allowed_docker=("base",),
            )
        },
    )


def lease(
    user: str,
    in_profile: str = "small",
    *,
    server: str = "",
    limit: tuple[float, float] = (2, 4),
    promised: tuple[float, float] = (0, 0),
    state: LeaseState = LeaseState.BOUND,
    container_id: str | None = None,
) -> Lease:
    """`limit` and `promised`: cores and GiB."""
    return Lease(
        id=f"id-{in_profile}-{user}-{server}",
        claim=Claim(user=user, server=server),
        profile=in_profile,
        image="base",
        grant=Grant(
            cpu_limit=cpus(limit[0]),
            mem_limit=gib(limit[1]),
            cpu_guarantee=cpus(promised[0]),
            mem_guarantee=gib(promised[1]),
        ),
        state=state,
        created_at=1.0,
        container_id=container_id,
    )


def observed(
    cgroups: Iterable[Cgroup] = (),
    containers: Iterable[Container] | None = (),
    *,
    at: float = 100.0,
    host_weights: Mapping[str, int] = MappingProxyType({"system.slice": 100}),
) -> Observed:
    return Observed(
        taken_at=at,
        at=1_700_000_000 + at,
        cgroups={one.unit: one for one in cgroups},
        containers=None if containers is None else {one.id: one for one in containers},
        host_weights=host_weights,
    )


def as_desired(
    desired: Desired,
    *,
    usage: Mapping[UnitName, Usage] = MappingProxyType({}),
    empty: Iterable[UnitName] = (),
) -> tuple[Cgroup, ...]:
    """Return the slices as the kernel shows them once everything was done."""
    unpopulated = set(empty)
    return tuple(
        Cgroup(
            unit=unit,
            limits=one.limits,
            usage=usage.get(unit, Usage()),
            populated=unit not in unpopulated,
        )
        for unit, one in desired.slices.items()
    )


def container(name: str, of: Lease | None = None) -> Container:
    """A running container: of a lease in its leaf, or without one in the adopted slice."""
    unit = ADOPTED if of is None else of.unit
    return Container(
        id=f"{name}0123456789abcdef",
        name=name,
        image="base:1",
        running=True,
        cgroup_parent=unit,
        lease_id=None if of is None else of.id,
        scope=f"{ROOT}/somewhere/{unit}/docker-{name}.scope",
    )
