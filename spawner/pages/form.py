"""The spawn options form: what a user may have, whether it fits now, and how much of it they want.

It is a plain HTML form. A number that is left empty means the profile's own, less what the user's
other servers hold. The script of the spawn page (static/spawn.js) fills in the chosen profile's
numbers, sends those that were changed, shows sliders, and keeps what fits and what is free up to
date.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from enforcer.api.types import CatalogueReply, MachineReply, ProfileReply, StatusReply
from enforcer.quantities import format_bytes
from spawner.pages import words
from spawner.pages.jinja import environment

_ENVIRONMENT: Final = environment()

DOWN: Final = (
    "The machine's resource service is down. Nothing can start until it is back; servers that run"
    " go on running. Your admin can find out why."
)
"""What a user reads when the daemon cannot be reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One number field: its form name and what it may hold. `value`: "" is the profile's own."""

    name: str
    label: str
    unit: str
    most: str
    help: str
    value: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One profile as it is shown; the numbers as they go into the form's fields."""

    name: str
    checked: bool
    fits: bool
    sentence: str
    cpu: str
    memory: str
    guarantee: str
    numbers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """What the containers may use together, what is promised of it and used; in percent for SVG."""

    key: str
    label: str
    sentence: str
    promised: str
    used: str


def render_form(
    catalogue: CatalogueReply | None,
    status: StatusReply | None = None,
    *,
    chosen: Mapping[str, object] | None = None,
) -> str:
    """Return the HTML that goes into the hub's ``<form>``; it raises nothing.

    catalogue: None says that the daemon is down. chosen: the user's stored options, to begin with;
    what is not in the catalogue any more is left out.
    """
    kept = chosen or {}
    if catalogue is None:
        return _ENVIRONMENT.get_template("form.html").render(down=DOWN)
    profile = _kept_name(kept.get("profile"), [one.name for one in catalogue.profiles])
    image = _kept_name(kept.get("image"), [one.name for one in catalogue.images])
    picked = next((one for one in catalogue.profiles if one.name == profile), None)
    return _ENVIRONMENT.get_template("form.html").render(
        down="",
        user=catalogue.user,
        cards=[_card(one, checked=one is picked) for one in catalogue.profiles],
        images=catalogue.images,
        image=image,
        fields=_fields(catalogue, picked, kept),
        home=catalogue.home,
        volumes_ro=catalogue.volumes_ro,
        bars=[] if status is None else bars(status.machine),
        machine="" if status is None else status.machine.sentence,
    )


def bars(machine: MachineReply) -> tuple[Bar, Bar]:
    """Return the machine's CPU and memory as bars."""
    may, promised, used = machine.workload, machine.promised, machine.used
    return (
        Bar(
            key="cpu",
            label="CPU",
            sentence=(
                f"{words.number(machine.free.cpu)} of {words.cores(may.cpu)} free to promise,"
                f" {words.number(promised.cpu)} promised, {words.number(used.cpu)} in use"
            ),
            promised=_share(promised.cpu, may.cpu),
            used=_share(used.cpu, may.cpu),
        ),
        Bar(
            key="memory",
            label="Memory",
            sentence=(
                f"{format_bytes(machine.free.memory)} of {format_bytes(may.memory)} free to"
                f" promise, {format_bytes(promised.memory)} promised,"
                f" {format_bytes(used.memory)} in use"
            ),
            promised=_share(promised.memory, may.memory),
            used=_share(used.memory, may.memory),
        ),
    )


def _share(part: float, whole: float) -> str:
    return f"{min(100.0, max(0.0, 100 * part / whole)) if whole > 0 else 0:.1f}%"


def _kept_name(kept: object, names: list[str]) -> str:
    """Return the name the user had before if it is still there, else the preferred one."""
    if isinstance(kept, str) and kept in names:
        return kept
    return names[0] if names else ""


def _card(profile: ProfileReply, *, checked: bool) -> Card:
    promised = profile.cpu_guarantee or profile.mem_guarantee
    return Card(
        name=profile.name,
        checked=checked,
        fits=profile.fits,
        sentence=words.capital(profile.sentence),
        cpu=words.cores(profile.cpu_limit),
        memory=format_bytes(profile.mem_limit),
        guarantee=(
            f"up to {words.both(profile.cpu_guarantee, profile.mem_guarantee)} guaranteed"
            if promised
            else "nothing guaranteed"
        ),
        numbers=_numbers(profile),
    )


def _numbers(profile: ProfileReply) -> dict[str, str]:
    return {
        "cpu_limit": words.field(profile.cpu_limit),
        "mem_limit": words.field(words.gib(profile.mem_limit)),
        "cpu_guarantee": words.field(profile.cpu_guarantee),
        "mem_guarantee": words.field(words.gib(profile.mem_guarantee)),
    }


def _fields(
    catalogue: CatalogueReply, picked: ProfileReply | None, kept: Mapping[str, object]
) -> list[Field]:
    bounds = catalogue.bounds
    most = {
        "cpu_limit": bounds.cpu_limit,
        "mem_limit": words.gib(bounds.mem_limit),
        "cpu_guarantee": bounds.cpu_guarantee,
        "mem_guarantee": words.gib(bounds.mem_guarantee),
    }
    own = {} if picked is None else _numbers(picked)
    return [
        Field(
            name=name,
            label=label,
            unit=unit,
            most=words.field(most[name]),
            help=about,
            value=_kept_number(kept.get(name), float(own.get(name, 0))),
        )
        for name, label, unit, about in _FIELDS
        if most[name] > 0
    ]


_FIELDS: Final = (
    ("cpu_limit", "CPU limit", "cores", "as far as others leave it"),
    ("mem_limit", "Memory limit", "GiB", "a kernel that wants more is killed"),
    ("cpu_guarantee", "CPU guaranteed", "cores", "yours at any moment, whatever others do"),
    ("mem_guarantee", "Memory guaranteed", "GiB", "kept for you; others cannot push it out"),
)


def _kept_number(kept: object, most: float) -> str:
    """Return a stored number as the field has it; what is none, or too much by now, is left out.

    So is all that the profile has: sent as a number, it would ask also for what other servers hold.
    """
    if isinstance(kept, bool) or not isinstance(kept, int | float) or not 0 <= kept < most:
        return ""
    return words.field(kept)
