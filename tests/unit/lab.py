"""A small lab for the tests of admission: 12 cores and 48 GiB to share, two profiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from enforcer.book import Terms
from enforcer.model import (
    AdmissionMode,
    AdmissionRules,
    AdoptedQuota,
    Capacity,
    Claim,
    Config,
    EngineFloor,
    GlobalQuota,
    Grant,
    Lease,
    LeaseState,
    ResourceProfile,
    Rights,
    UserProfile,
)
from enforcer.quantities import CORE, GIB, Bytes, Cpus


def cores(number: float) -> Cpus:
    return Cpus(int(number * CORE))


def gib(number: float) -> Bytes:
    return Bytes(int(number * GIB))


LARGE = ResourceProfile(name="Large", cpu_limit=cores(8), mem_limit=gib(32))
SMALL = ResourceProfile(
    name="Small",
    cpu_limit=cores(2),
    mem_limit=gib(8),
    cpu_total=cores(3),
    mem_total=gib(12),
)


def a_config(
    *profiles: ResourceProfile,
    mode: AdmissionMode = AdmissionMode.REFUSE,
    per_container: float = 0,
    queue_length: int = 5,
) -> Config:
    """12 cores and 48 GiB of workload beside an engine of 1 core and 2 GiB."""
    return Config(
        capacity=Capacity(cores=16, memory=gib(64)),
        quota=GlobalQuota(cpu=cores(13), memory=gib(50), swap=Bytes(0)),
        engine=EngineFloor(cpu=cores(1), memory=gib(2), memory_per_container=gib(per_container)),
        adopted=AdoptedQuota(cpu=cores(1), memory=gib(1), swap=Bytes(0), tasks=None),
        profiles=MappingProxyType({one.name: one for one in profiles or (LARGE, SMALL)}),
        images=MappingProxyType({"base": "base:1"}),
        users=MappingProxyType({"default": UserProfile(name="default")}),
        admission=AdmissionRules(
            mode=mode,
            queue_length=queue_length,
            queue_seconds=1000,
            claim_seconds=100,
            release_seconds=10,
        ),
    )


def some_rights(  # the defaults bound nothing that the profiles do not
    user: str = "ada",
    *,
    guarantee: tuple[float, float] = (8, 32),
    total: tuple[float, float] = (16, 64),
    servers_max: int | None = None,
    mode: AdmissionMode | None = None,
) -> Rights:
    return Rights(
        user=user,
        profiles=("Large", "Small"),
        images=("base",),
        home=None,
        max_cpu_guarantee=cores(guarantee[0]),
        max_mem_guarantee=gib(guarantee[1]),
        cpu_total=cores(total[0]),
        mem_total=gib(total[1]),
        servers_max=servers_max,
        admission=mode,
    )


def a_claim(
    user: str = "ada",
    server: str = "",
    *,
    profile: str = "Large",
    limit: tuple[float, float] | None = None,
    guarantee: tuple[float, float] | None = (0, 0),
) -> Claim:
    """Return a checked claim; None asks for nothing in particular."""
    return Claim(
        user=user,
        server=server,
        profile=profile,
        image="base",
        cpu_limit=None if limit is None else cores(limit[0]),
        mem_limit=None if limit is None else gib(limit[1]),
        cpu_guarantee=None if guarantee is None else cores(guarantee[0]),
        mem_guarantee=None if guarantee is None else gib(guarantee[1]),
    )


def a_grant(limit: tuple[float, float], guarantee: tuple[float, float] = (0, 0)) -> Grant:
    return Grant(
        cpu_limit=cores(limit[0]),
        mem_limit=gib(limit[1]),
        cpu_guarantee=cores(guarantee[0]),
        mem_guarantee=gib(guarantee[1]),
    )


def a_lease(
    lease_id: str,
    user: str = "bob",
    *,
    profile: str = "Large",
    limit: tuple[float, float] | None = None,
    guarantee: tuple[float, float] = (0, 0),
    state: LeaseState = LeaseState.BOUND,
) -> Lease:
    if limit is None:
        limit = max(2, guarantee[0]), max(8, guarantee[1])
    return Lease(
        id=lease_id,
        claim=a_claim(user, lease_id, profile=profile, limit=limit, guarantee=guarantee),
        profile=profile,
        image="base",
        grant=a_grant(limit, guarantee),
        state=state,
        created_at=float(ord(lease_id[0])),
        container_id=f"container of {lease_id}" if state is LeaseState.BOUND else None,
    )


def the_terms(
    config: Config, rights: Mapping[str, Rights] | None = None, *, others: int = 0
) -> Terms:
    """Return terms in which users named in `rights` have these, everybody else `some_rights`."""
    known = rights or {}

    def rights_of(claim: Claim) -> Rights:
        return known.get(claim.user) or replace(some_rights(), user=claim.user)

    return Terms(config=config, rights_of=rights_of, containers=others)
