"""Who may have what: the rights of a user, and whether a claim stays within them."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Generic, TypeVar

from enforcer.errors import ForbiddenError, InvalidError, NotFoundError
from enforcer.model import (
    LARGEST_PROFILE,
    AdmissionMode,
    Claim,
    Config,
    ResourceProfile,
    Rights,
    UserProfile,
)
from enforcer.names import check_name
from enforcer.quantities import (
    LEAST_CPU,
    LEAST_MEMORY,
    Bytes,
    Cpus,
    format_bytes,
    format_cpus,
)

DEFAULT: Final = "default"

T = TypeVar("T")
N = TypeVar("N", Cpus, Bytes, int)

_OVER_ALL_SERVERS: Final = {
    "max_cpu_guarantee": "max_preallocate.cpu_guarantee",
    "max_mem_guarantee": "max_preallocate.mem_guarantee",
    "cpu_total": "cpu_total",
    "mem_total": "mem_total",
    "servers_max": "servers_max",
}
"""What bounds all of a user's servers together, with its key of the configuration."""

_MOST_PATH_PART_BYTES: Final = 255
_MOST_SHOWN: Final = 60
# Waiting gets one what was asked for, scaling gets one something, refusing nothing.
_GENEROSITY: Final = (AdmissionMode.REFUSE, AdmissionMode.SCALE, AdmissionMode.QUEUE)


def rights(
    config: Config, user: str, host_groups: Sequence[str], hub_groups: Sequence[str]
) -> Rights:
    """Return what a user may have: their own entry, else their groups', else ``default``'s.

    Each key is looked up by itself. Of several groups the most generous one wins: lists are
    joined, of numbers the largest counts. A user nobody knows has the rights of ``default``.

    Raises:
        InvalidError: ``name.invalid``.
        ForbiddenError: ``user.name-unsafe``: no home directory can be made of this name.
    """
    check_name(user, "user")
    found = _Entries(config, user, {*host_groups, *hub_groups})
    profiles = found.joined("allowed_resources", lambda entry: entry.allowed_resources)
    template = found.first(
        "host_homedir_format_string", lambda entry: entry.host_homedir_format_string
    )
    cpu = found.most("max_preallocate.cpu_guarantee", lambda entry: entry.max_cpu_guarantee)
    memory = found.most("max_preallocate.mem_guarantee", lambda entry: entry.max_mem_guarantee)
    modes = found.look_up("admission", lambda entry: entry.admission)
    return Rights(
        user=user,
        profiles=profiles,
        images=found.joined("allowed_docker", lambda entry: entry.allowed_docker),
        home=None if template is None else home(template, user),
        max_cpu_guarantee=Cpus(0) if cpu is None else cpu,
        max_mem_guarantee=Bytes(0) if memory is None else memory,
        cpu_total=found.total(_CPU_TOTAL, profiles),
        mem_total=found.total(_MEM_TOTAL, profiles),
        servers_max=found.most("servers_max", lambda entry: entry.servers_max),
        admission=max(modes.values(), key=_GENEROSITY.index, default=None),
        sources=MappingProxyType(found.sources),
    )


def over_all_servers(own: Rights, others: Iterable[Rights]) -> Rights:
    """Return a claim's rights with what bounds all of the user's servers as it is the largest.

    others: the rights of the user's other servers. They differ where these were claimed with other
    groups of the hub. What is one server's own, a profile for instance, is as its claim has it.
    """
    for other in others:
        larger = [
            name for name in _OVER_ALL_SERVERS if _is_more(getattr(other, name), getattr(own, name))
        ]
        if larger:
            keys = {_OVER_ALL_SERVERS[name] for name in larger}
            sources = {key: one for key, one in own.sources.items() if key not in keys}
            sources |= {key: one for key, one in other.sources.items() if key in keys}
            own = dataclasses.replace(
                own,
                sources=MappingProxyType(sources),
                **{name: getattr(other, name) for name in larger},
            )
    return own


def home(template: str, user: str) -> str:
    """Put a user's name into the path of the home directories.

    Raises:
        ForbiddenError: ``user.name-unsafe``: the path would lead elsewhere, or cannot be.
    """
    # a colon would part the path where Docker takes "from:to:mode"
    unsafe = user in {".", ".."} or user.startswith("~") or any(one in user for one in "/\0:")
    if unsafe or len(user.encode()) > _MOST_PATH_PART_BYTES:
        raise ForbiddenError(
            "user.name-unsafe",
            f"the name {_shown(user)} cannot be that of a home directory",
            "ask the admin to rename this user in the hub",
        )
    return template.format(username=user)


def check_claim(config: Config, rights: Rights, claim: Claim) -> Claim:
    """Return the claim with the profile and the image it is about, the preferred ones if none.

    Numbers that were not given stay open: admission finds them. More guarantee than
    ``max_preallocate`` is admission's affair too.

    Raises:
        InvalidError: ``name.invalid``, ``limit.not-positive``, ``limit.too-small``,
            ``guarantee.negative``, ``guarantee.above-limit``.
        NotFoundError: ``profile.unknown``, ``image.unknown``.
        ForbiddenError: ``profile.not-allowed``, ``image.not-allowed``, ``limit.above-profile``.
    """
    check_name(claim.user, "user")
    check_name(claim.server, "server")
    profile = _choose("profile", claim.profile, rights.profiles, config.profiles)
    image = _choose("image", claim.image, rights.images, config.images)
    most = config.profiles[profile]
    _check_limit(_CPU, claim.cpu_limit, most.cpu_limit, profile)
    _check_limit(_MEMORY, claim.mem_limit, most.mem_limit, profile)
    _check_guarantee(_CPU, claim.cpu_guarantee, claim.cpu_limit or most.cpu_limit)
    _check_guarantee(_MEMORY, claim.mem_guarantee, claim.mem_limit or most.mem_limit)
    return dataclasses.replace(claim, profile=profile, image=image)


def _shown(name: str) -> str:
    """Show a name that somebody else chose; a long one is cut."""
    text = ascii(name)
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 3]}..."


@dataclass(frozen=True, slots=True)
class _Total(Generic[N]):
    """How to find one of a user's totals: in their entries, or by the limits of profiles."""

    key: str
    given: Callable[[UserProfile], N | None]
    limit: Callable[[ResourceProfile], N]
    nothing: N


_CPU_TOTAL: Final = _Total(
    "cpu_total", lambda entry: entry.cpu_total, lambda profile: profile.cpu_limit, Cpus(0)
)
_MEM_TOTAL: Final = _Total(
    "mem_total", lambda entry: entry.mem_total, lambda profile: profile.mem_limit, Bytes(0)
)


@dataclass(frozen=True, slots=True)
class _Measure:
    """What a claim's numbers are about."""

    name: str
    least: int
    show: Callable[[int], str]


_CPU: Final = _Measure("CPU", LEAST_CPU, format_cpus)
_MEMORY: Final = _Measure("memory", LEAST_MEMORY, format_bytes)


class _Entries:
    """The entries that are about one user, and where each key of theirs was found.

    Three levels, of which the first that gives a key counts: the user's own, the groups', default.
    """

    def __init__(self, config: Config, user: str, groups: Collection[str]) -> None:
        self._config = config
        self._default = config.users[DEFAULT]
        self._groups = {
            f"group {name}": entry for name, entry in config.groups.items() if name in groups
        }
        known = user != DEFAULT and user in config.users
        self._levels: tuple[Mapping[str, UserProfile], ...] = (
            {f"user {user}": config.users[user]} if known else {},
            self._groups,
            {DEFAULT: self._default},
        )
        self.sources: dict[str, str] = {}

    def look_up(self, key: str, read: Callable[[UserProfile], T | None]) -> dict[str, T]:
        """Return source → value for the first level where the key is given."""
        for level in self._levels:
            found = {
                source: value
                for source, entry in level.items()
                if (value := read(entry)) is not None
            }
            if found:
                self.sources[key] = ", ".join(found)
                return found
        return {}

    def joined(
        self, key: str, read: Callable[[UserProfile], tuple[str, ...] | None]
    ) -> tuple[str, ...]:
        """Join the lists in the order of the file, each word once."""
        found = self.look_up(key, read)
        return tuple(dict.fromkeys(word for words in found.values() for word in words))

    def first(self, key: str, read: Callable[[UserProfile], str | None]) -> str | None:
        """Take the first in the order of the file: of two paths none is more generous."""
        for source, value in self.look_up(key, read).items():
            self.sources[key] = source
            return value
        return None

    def most(self, key: str, read: Callable[[UserProfile], N | None]) -> N | None:
        """Take the largest."""
        return max(self.look_up(key, read).values(), default=None)

    def total(self, resource: _Total[N], profiles: Sequence[str]) -> N:
        """Take the largest total; if none is given, the largest limit among the profiles.

        A group that gives profiles but no total counts with what its members have otherwise:
        nobody has less for being in a second group.
        """
        found = self.look_up(resource.key, resource.given)
        if not found:
            self.sources[resource.key] = LARGEST_PROFILE
            return self._largest(resource, profiles)
        if found.keys() <= self._groups.keys():
            for source, entry in self._groups.items():
                if source not in found and entry.allowed_resources is not None:
                    default = resource.given(self._default)
                    found[source] = (
                        self._largest(resource, entry.allowed_resources)
                        if default is None
                        else default
                    )
            self.sources[resource.key] = ", ".join(found)
        return max(found.values())

    def _largest(self, resource: _Total[N], profiles: Sequence[str]) -> N:
        limits = (resource.limit(self._config.profiles[name]) for name in profiles)
        return max(limits, default=resource.nothing)


def _is_more(one: int | None, other: int | None) -> bool:
    """Compare two bounds, of which None is none."""
    return other is not None and (one is None or one > other)


def _choose(what: str, asked: str | None, allowed: Sequence[str], existing: Collection[str]) -> str:
    """Return the name asked for, or the preferred one."""
    if asked is None:
        if not allowed:
            raise ForbiddenError(
                f"{what}.not-allowed", f"no {what} is allowed", "ask the admin to allow one"
            )
        return allowed[0]
    if asked in allowed:
        return asked
    if asked in existing:
        raise ForbiddenError(
            f"{what}.not-allowed", f"the {what} {_shown(asked)} is not allowed", _allowed(allowed)
        )
    near = difflib.get_close_matches(asked[:_MOST_SHOWN], allowed, n=1)
    raise NotFoundError(
        f"{what}.unknown",
        f"there is no {what} {_shown(asked)}",
        f"did you mean {_shown(near[0])}?" if near else _allowed(allowed),
    )


def _allowed(names: Sequence[str]) -> str:
    return f"allowed: {', '.join(_shown(name) for name in names)}" if names else "none is allowed"


def _check_limit(resource: _Measure, asked: int | None, most: int, profile: str) -> None:
    if asked is None:
        return
    if asked <= 0:
        raise InvalidError(
            "limit.not-positive",
            f"the {resource.name} limit asked for is not above zero",
            f"ask for at most {resource.show(most)}",
        )
    if asked < resource.least:
        raise InvalidError(
            "limit.too-small",
            f"the {resource.name} limit asked for is {resource.show(asked)}",
            f"ask for at least {resource.show(resource.least)}",
        )
    if asked > most:
        raise ForbiddenError(
            "limit.above-profile",
            f"the {resource.name} limit asked for is {resource.show(asked)}, more than the "
            f"profile {_shown(profile)} has",
            f"ask for at most {resource.show(most)}",
        )


def _check_guarantee(resource: _Measure, asked: int | None, limit: int) -> None:
    if asked is None:
        return
    if asked < 0:
        raise InvalidError(
            "guarantee.negative",
            f"the {resource.name} guarantee asked for is negative",
            f"ask for 0 to {resource.show(limit)}",
        )
    if asked > limit:
        raise InvalidError(
            "guarantee.above-limit",
            f"the {resource.name} guarantee asked for is {resource.show(asked)}, its limit only "
            f"{resource.show(limit)}",
            f"ask for at most {resource.show(limit)}",
        )
