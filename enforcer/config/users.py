"""The rights of users and groups, cross-checked with the profiles and images there are."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from enforcer.config.amounts import Amounts, Workload, check_total
from enforcer.config.document import Names, Preallocate, User
from enforcer.config.mistakes import Place, Review, listing, show, suggest
from enforcer.config.words import check_home
from enforcer.errors import InvalidError
from enforcer.model import ResourceProfile, UserProfile
from enforcer.names import check_name
from enforcer.quantities import Bytes, Cpus, format_bytes, format_cpus

DEFAULT: Final = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What an entry may name. profiles: the sound ones; profile_names: all that were written."""

    whole: Workload
    profiles: Mapping[str, ResourceProfile]
    profile_names: Collection[str]
    images: Collection[str]


def finalize_users(
    review: Review, users: Mapping[str, User | None], known: Known
) -> dict[str, UserProfile]:
    """Return the users' rights; ``default`` is there and complete, or something is wrong."""
    place: Place = ("user_profiles", DEFAULT)
    default = users.get(DEFAULT)
    if default is None:
        review.missing(place, "write [user_profiles.default]: the rights of everybody not named")
    else:
        for key in ("allowed_resources", "allowed_docker"):
            if not getattr(default, key):
                review.missing((*place, key), "write a list of at least one, the preferred first")
    found = finalize_entries(review, "user_profiles", users, known)
    if DEFAULT in found:
        written = found[DEFAULT]
        found[DEFAULT] = dataclasses.replace(
            written,
            max_cpu_guarantee=written.max_cpu_guarantee or Cpus(0),
            max_mem_guarantee=written.max_mem_guarantee or Bytes(0),
        )
    return found


def finalize_entries(
    review: Review, section: str, entries: Mapping[str, User | None], known: Known
) -> dict[str, UserProfile]:
    """Return the rights of one section."""
    found = {}
    for name, entry in entries.items():
        place: Place = (section, name)
        try:
            check_name(name, section.removesuffix("_profiles"))
        except InvalidError as error:
            review.refused(place, name, error)
        if entry is not None:
            found[name] = _entry(Amounts(review, place, known.whole), name, entry, known)
    return found


def check_totals(
    review: Review,
    section: str,
    entries: Mapping[str, UserProfile],
    default: UserProfile,
    profiles: Mapping[str, ResourceProfile],
) -> None:
    """Check that the totals, an entry's own or default's, suffice for each profile it may use."""
    for name, entry in entries.items():
        cpu = default.cpu_total if entry.cpu_total is None else entry.cpu_total
        memory = default.mem_total if entry.mem_total is None else entry.mem_total
        allowed = entry.allowed_resources
        if allowed is None:
            allowed = default.allowed_resources or ()
        sound = [profiles[one] for one in allowed if one in profiles]
        largest_cpu = max((one.cpu_limit for one in sound), default=0)
        largest_memory = max((one.mem_limit for one in sound), default=0)
        check_total(review, (section, name, "cpu_total"), cpu, largest_cpu, format_cpus)
        check_total(review, (section, name, "mem_total"), memory, largest_memory, format_bytes)


def _entry(amounts: Amounts, name: str, entry: User, known: Known) -> UserProfile:
    review, place = amounts.review, amounts.place
    preallocate = entry.max_preallocate or Preallocate()
    guaranteed = Amounts(review, (*place, "max_preallocate"), known.whole)
    template = entry.host_homedir_format_string
    if template is not None:
        try:
            check_home(template)
        except InvalidError as error:
            review.refused((*place, "host_homedir_format_string"), template, error)
    return UserProfile(
        name=name,
        allowed_resources=_names(
            review, (*place, "allowed_resources"), entry.allowed_resources, known.profile_names
        ),
        allowed_docker=_names(
            review, (*place, "allowed_docker"), entry.allowed_docker, known.images
        ),
        host_homedir_format_string=template,
        max_cpu_guarantee=guaranteed.cpu_floor("cpu_guarantee", preallocate.cpu_guarantee),
        max_mem_guarantee=guaranteed.memory_floor("mem_guarantee", preallocate.mem_guarantee),
        cpu_total=amounts.cpu("cpu_total", entry.cpu_total),
        mem_total=amounts.memory("mem_total", entry.mem_total),
        servers_max=entry.servers_max,
        admission=entry.admission,
    )


def _names(
    review: Review, place: Place, words: Names | None, existing: Collection[str]
) -> tuple[str, ...] | None:
    """Check a list of names: each there, and once."""
    if words is None:
        return None
    found: list[str] = []
    for index, word in enumerate(words):
        if word is None:
            continue  # no text, and complained about
        if word in found:
            review.add((*place, index), word, "stands here twice", "leave one of them out")
        elif word not in existing:
            review.note(
                (*place, index),
                show(word),
                f"there is no {show(word)}",
                suggest(word, existing, f"there are: {listing(existing)}"),
            )
        found.append(word)
    return tuple(found)
