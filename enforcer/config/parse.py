"""From text to Config: read, resolve, cross-check, and say everything that is wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from enforcer.config.document import (
    Admission,
    Adopted,
    Daemon,
    Engine,
    Machine,
    Names,
)
from enforcer.config.mistakes import Place, Review
from enforcer.config.profiles import finalize_profiles
from enforcer.config.quotas import finalize_adopted, finalize_engine, finalize_quota, workload
from enforcer.config.shape import read
from enforcer.config.users import (
    DEFAULT,
    Known,
    check_totals,
    finalize_entries,
    finalize_users,
)
from enforcer.config.words import check_image, check_volume, parse_address
from enforcer.errors import InvalidError
from enforcer.model import AdmissionRules, Capacity, Config, DaemonSettings, UserProfile
from enforcer.names import check_name

_NOBODY: Final = UserProfile(name=DEFAULT)


def parse_config(text: str, capacity: Capacity, *, source: str = "enforcer.toml") -> Config:
    """Parse the configuration of a machine that has this capacity.

    Percentages are resolved: in ``[machine]`` they are of the capacity, in ``[engine]`` of what
    Jupyter has, elsewhere of what is left to the containers; of CPU, in profiles and for users, of
    one core. source: how messages call the file.

    Raises:
        ConfigError: ``config.invalid``, with all mistakes.
    """
    document, review = read(text, source)
    quota = finalize_quota(review, document.machine or Machine(), capacity)
    engine = finalize_engine(review, document.engine or Engine(), quota)
    whole = workload(quota, engine)
    adopted = finalize_adopted(review, document.adopted or Adopted(), whole)
    written = document.resource_profiles or {}
    profiles = finalize_profiles(review, written, whole)
    if not written:
        review.missing(("resource_profiles",), "write at least one [resource_profiles.<Name>]")
    images = _images(review, document.docker_profiles or {})
    known = Known(
        whole=whole,
        profiles=profiles,
        profile_names=written,
        images=document.docker_profiles or {},
    )
    users = finalize_users(review, document.user_profiles or {}, known)
    groups = finalize_entries(review, "group_profiles", document.group_profiles or {}, known)
    for section, entries in (("user_profiles", users), ("group_profiles", groups)):
        check_totals(review, section, entries, users.get(DEFAULT, _NOBODY), profiles)
    volumes = _words(review, ("volumes_ro",), document.volumes_ro, check_volume)
    admission = dataclasses.replace(AdmissionRules(), **_given(document.admission or Admission()))
    daemon = _daemon(review, document.daemon or Daemon())
    review.finish()
    return Config(
        capacity=capacity,
        quota=quota,
        engine=engine,
        adopted=adopted,
        profiles=MappingProxyType(profiles),
        images=MappingProxyType(images),
        users=MappingProxyType(users),
        groups=MappingProxyType(groups),
        volumes_ro=volumes,
        admission=admission,
        daemon=daemon,
    )


def _images(review: Review, written: Mapping[str, str | None]) -> dict[str, str]:
    if not written:
        review.missing(("docker_profiles",), 'write at least one Name = "image:tag"')
    found = {}
    for name, reference in written.items():
        place: Place = ("docker_profiles", name)
        try:
            check_name(name, "image")
            if reference is not None:
                check_image(reference)
                found[name] = reference
        except InvalidError as error:
            review.refused(place, name if error.code == "name.invalid" else reference, error)
    return found


def _words(
    review: Review, place: Place, written: Names | None, check: Callable[[str], object]
) -> tuple[str, ...]:
    """Check a list of words: each by itself, and that none stands there twice."""
    found: list[str] = []
    for index, word in enumerate(written or ()):
        if word is None:
            continue  # no text, and complained about
        try:
            check(word)
        except InvalidError as error:
            review.refused((*place, index), word, error)
        if word in found:
            review.add((*place, index), word, "stands here twice", "leave one of them out")
        found.append(word)
    return tuple(found)


def _daemon(review: Review, daemon: Daemon) -> DaemonSettings:
    given = _given(daemon)
    given["hub_users"] = _words(
        review, ("daemon", "hub_users"), daemon.hub_users, lambda name: check_name(name, "user")
    )
    given.pop("metrics", None)
    if daemon.metrics is not None:
        try:
            given["metrics_host"], given["metrics_port"] = parse_address(daemon.metrics)
        except InvalidError as error:
            review.refused(("daemon", "metrics"), daemon.metrics, error)
    return dataclasses.replace(DaemonSettings(), **given)


def _given(section: Admission | Daemon) -> dict[str, Any]:
    """Return the keys that were written, as the settings have them."""
    return section.model_dump(exclude_none=True)
