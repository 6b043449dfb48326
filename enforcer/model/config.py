"""The host, the configuration, and what it comes to for one user."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from enforcer.quantities import CORE, Bytes, Cpus

SOCKET: Final = "/run/enforcer/enforcer.sock"
"""Where the API is; enforcer.socket says so too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What the host has: whole cores, bytes of memory, bytes of swap.

    online: the numbers of its CPUs, ascending; with gaps where some are off, as hyperthreads may
    be. Empty: the first `cores` numbers.
    """

    cores: int
    memory: Bytes
    swap: Bytes = Bytes(0)
    online: tuple[int, ...] = ()

    @property
    def cpus(self) -> Cpus:
        """The cores, as an amount of CPU."""
        return Cpus(self.cores * CORE)

    def last_cpus(self, count: int) -> tuple[int, ...]:
        """Return the numbers of so many CPUs, the last that are online."""
        return (self.online or tuple(range(self.cores)))[self.cores - count :]


class AdmissionMode(enum.StrEnum):
    """What becomes of a claim whose guarantee does not fit now."""

    SCALE = "scale"
    REFUSE = "refuse"
    QUEUE = "queue"


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalQuota:
    """What jupyter.slice may use: capacity − reserved, or absolute. Resolved to numbers."""

    cpu: Cpus
    memory: Bytes
    swap: Bytes
    tasks: int | None = None
    whole_cores: bool = False
    """The CPU cap is AllowedCPUs (whole cores, the last ones) in place of a quota."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFloor:
    """What dockerd and containerd are protected with; memory grows with the containers."""

    cpu: Cpus
    memory: Bytes
    memory_per_container: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptedQuota:
    """What all containers nobody asked us about may use together."""

    cpu: Cpus
    memory: Bytes
    swap: Bytes
    tasks: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceProfile:
    """One profile: what each of its leases may use (limit), and all of them together (total)."""

    name: str
    cpu_limit: Cpus
    mem_limit: Bytes
    swap_limit: Bytes = Bytes(0)
    mem_throttle: Bytes | None = None
    """MemoryHigh of a lease; None: no throttling before the limit."""
    tasks_limit: int | None = None
    io_weight: int | None = None
    shm_size: Bytes | None = None
    cpu_total: Cpus | None = None
    mem_total: Bytes | None = None
    tasks_total: int | None = None
    admission: AdmissionMode | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UserProfile:
    """The rights of one user or group, as written; None means: as ``default`` has it."""

    name: str
    allowed_resources: tuple[str, ...] | None = None
    allowed_docker: tuple[str, ...] | None = None
    host_homedir_format_string: str | None = None
    max_cpu_guarantee: Cpus | None = None
    max_mem_guarantee: Bytes | None = None
    cpu_total: Cpus | None = None
    mem_total: Bytes | None = None
    servers_max: int | None = None
    admission: AdmissionMode | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionRules:
    """How long and how many; `mode` where neither profile nor user says otherwise."""

    mode: AdmissionMode = AdmissionMode.SCALE
    queue_length: int = 50
    queue_seconds: float = 3600.0
    """A queued claim is dropped after this long."""
    claim_seconds: float = 180.0
    """A pending lease that got no container by then expires."""
    release_seconds: float = 10.0
    """A bound lease whose container has been gone this long is released."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonSettings:
    """The daemon's own: the metrics' address, intervals in seconds, how much is kept."""

    metrics_host: str = "127.0.0.1"
    metrics_port: int = 9753
    hub_users: tuple[str, ...] = ()
    """Host users who, like root, may act for anyone (the hub's)."""
    tick_seconds: float = 2.0
    history_seconds: float = 900.0
    receipts_kept: int = 10_000
    resize_grace_seconds: float | None = None
    """A lowered limit is applied at the latest after this long; None: only when usage allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole configuration, checked, every percentage resolved against the capacity."""

    capacity: Capacity
    quota: GlobalQuota
    engine: EngineFloor
    adopted: AdoptedQuota
    profiles: Mapping[str, ResourceProfile]
    images: Mapping[str, str]
    """Name → image reference, in the file's order."""
    users: Mapping[str, UserProfile]
    """By user name; ``default`` is there and has every key that matters."""
    groups: Mapping[str, UserProfile] = field(default_factory=lambda: MappingProxyType({}))
    volumes_ro: tuple[str, ...] = ()
    admission: AdmissionRules = AdmissionRules()
    daemon: DaemonSettings = DaemonSettings()
    retired: Mapping[str, ResourceProfile] = field(default_factory=lambda: MappingProxyType({}))
    """Profiles that the file has no more, as they were last: what was granted in them is held to
    them until it has ended. Nobody may claim in one."""

    @property
    def all_profiles(self) -> Mapping[str, ResourceProfile]:
        """Every profile that a lease may be in."""
        return {**self.retired, **self.profiles}

    def profile(self, name: str) -> ResourceProfile | None:
        """Return the profile that a lease is held to; the file's, where it has one."""
        return self.profiles.get(name) or self.retired.get(name)

    def with_retired(self, known: Mapping[str, ResourceProfile]) -> Config:
        """Return it with those of the known profiles that the file has no more."""
        retired = {name: one for name, one in known.items() if name not in self.profiles}
        return replace(self, retired=MappingProxyType(retired))


LARGEST_PROFILE: Final = "the largest allowed profile"
"""The source of a total that nobody wrote down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """What one user may have, after name, groups and ``default`` were merged (policy).

    profiles, images: names, the preferred first. `sources`: key of the configuration →
    where the value came from, for ``explain`` (``"user alice"``, ``"group ml"``, ``"default"``).
    """

    user: str
    profiles: tuple[str, ...]
    images: tuple[str, ...]
    home: str | None
    """The home directory, on the host and in the container; None: the configuration has none."""
    max_cpu_guarantee: Cpus
    max_mem_guarantee: Bytes
    cpu_total: Cpus
    """Σ limits of this user's leases, over all profiles and servers."""
    mem_total: Bytes
    servers_max: int | None
    admission: AdmissionMode | None
    sources: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
