"""The spawn options form, read as a browser reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enforcer.api.types import (
    Amount,
    BoundsReply,
    CatalogueReply,
    ImageReply,
    MachineReply,
    PressureReply,
    ProfileReply,
    StatusReply,
)
from enforcer.model import LeaseState
from enforcer.quantities import GIB
from spawner.pages.form import DOWN, render_form

HOSTILE = "\"><script>alert(1)</script>'&lt;"


@dataclass
class Read(HTMLParser):
    """The inputs of a form and its visible text."""

    inputs: list[dict[str, str]] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    labels: set[str] = field(default_factory=set)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {key: value or "" for key, value in attrs}
        self.tags.append(tag)
        if tag == "input":
            self.inputs.append(found)
        if tag == "label":
            self.labels.add(found["for"])

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, name: str) -> list[dict[str, str]]:
        """Return the inputs of a name."""
        return [one for one in self.inputs if one.get("name") == name]

    def chosen(self, name: str) -> list[str]:
        """Return which of the radio buttons are checked."""
        return [one["value"] for one in self.named(name) if "checked" in one]


def read(html: str) -> Read:
    made = Read()
    made.feed(html)
    return made


def profile(name: str, cpu: float, memory: int, *, fits: bool = True) -> ProfileReply:
    return ProfileReply(
        name=name,
        cpu_limit=cpu,
        mem_limit=memory,
        cpu_guarantee=min(cpu, 1.0),
        mem_guarantee=min(memory, 4 * GIB),
        fits=fits,
        sentence="fits now" if fits else "would wait: asked for 4 GiB, 1 GiB is free",
    )


def catalogue(*profiles: ProfileReply, images: tuple[str, ...] = ("Lab", "R")) -> CatalogueReply:
    return CatalogueReply(
        user="alice",
        profiles=list(profiles),
        images=[ImageReply(name=one, reference=f"quay.io/{one}") for one in images],
        home="/home/alice",
        volumes_ro=["/media/references"],
        bounds=BoundsReply(
            cpu_limit=10.0, mem_limit=40 * GIB, cpu_guarantee=1.0, mem_guarantee=4 * GIB
        ),
        admission=None,
    )


SMALL = profile("Small", 2.0, 8 * GIB)
LARGE = profile("Large", 10.0, 40 * GIB, fits=False)


def status() -> StatusReply:
    none = Amount(cpu=0.0, memory=0)
    machine = MachineReply(
        capacity=Amount(cpu=40.0, memory=128 * GIB),
        reserved=none,
        allocatable=none,
        workload=Amount(cpu=36.0, memory=100 * GIB),
        promised=Amount(cpu=9.0, memory=50 * GIB),
        free=Amount(cpu=27.0, memory=50 * GIB),
        used=Amount(cpu=3.25, memory=200 * GIB),
        pressure=PressureReply(cpu=0.0, memory=0.0, io=0.0),
        sentence="27 of 36 cores",
    )
    return StatusReply(
        version="1",
        api="v1",
        user="hub",
        privileged=True,
        at=0.0,
        ticks=1,
        systemd_ok=True,
        docker_ok=True,
        config_error="",
        machine=machine,
        leases=dict.fromkeys(LeaseState, 0),
        mine=[],
    )


def test_every_profile_is_a_choice_and_the_preferred_one_is_chosen() -> None:
    form = read(render_form(catalogue(SMALL, LARGE)))
    assert [one["value"] for one in form.named("profile")] == ["Small", "Large"]
    assert form.chosen("profile") == ["Small"]
    assert form.chosen("image") == ["Lab"]
    assert "Would wait: asked for 4 GiB" in form.text


def test_each_choice_carries_its_own_numbers_for_the_script() -> None:
    form = read(render_form(catalogue(SMALL, LARGE)))
    small, large = form.named("profile")
    assert (small["data-cpu-limit"], small["data-mem-limit"]) == ("2", "8")
    assert (large["data-cpu-limit"], large["data-mem-limit"]) == ("10", "40")
    assert (large["data-cpu-guarantee"], large["data-mem-guarantee"]) == ("1", "4")


def test_numbers_are_empty_and_bounded_by_what_the_user_may_have() -> None:
    form = read(render_form(catalogue(SMALL, LARGE)))
    for name, most in (
        ("cpu_limit", "10"),
        ("mem_limit", "40"),
        ("cpu_guarantee", "1"),
        ("mem_guarantee", "4"),
    ):
        (one,) = form.named(name)
        assert (one["value"], one["min"], one["max"], one["type"]) == ("", "0", most, "number")


def test_everything_that_is_sent_has_a_label() -> None:
    form = read(render_form(catalogue(SMALL, LARGE), status()))
    for one in form.inputs:
        assert one["type"] == "range" or one["id"] in form.labels
        assert one["type"] != "range" or one["aria-label"]
        assert "name" not in one or one["type"] != "range"


def test_what_was_chosen_before_is_chosen_again_with_its_own_numbers() -> None:
    kept = {"profile": "Large", "image": "R", "cpu_limit": 3.5, "mem_limit": 12}
    form = read(render_form(catalogue(SMALL, LARGE), chosen=kept))
    assert form.chosen("profile") == ["Large"]
    assert form.chosen("image") == ["R"]
    assert [form.named(name)[0]["value"] for name in ("cpu_limit", "mem_limit")] == ["3.5", "12"]


def test_what_is_not_allowed_any_more_is_left_out() -> None:
    kept = {"profile": "Gone", "image": ["R"], "cpu_limit": 99, "mem_limit": "8"}
    form = read(render_form(catalogue(SMALL, LARGE), chosen=kept))
    assert form.chosen("profile") == ["Small"]
    assert form.chosen("image") == ["Lab"]
    assert form.named("cpu_limit")[0]["value"] == form.named("mem_limit")[0]["value"] == ""


def test_a_hostile_name_is_text_everywhere() -> None:
    hostile = profile(HOSTILE, 1.0, GIB)
    html = render_form(catalogue(hostile, images=(HOSTILE,)), status())
    form = read(html)
    assert "script" not in form.tags
    assert form.chosen("profile") == form.chosen("image") == [HOSTILE]


def test_the_machine_is_shown_and_a_bar_never_leaves_its_frame() -> None:
    html = render_form(catalogue(SMALL), status())
    assert "27 of 36 cores free to promise, 9 promised, 3.25 in use" in html
    assert 'width="25.0%"' in html
    assert 'width="100.0%"' in html


def test_without_the_daemon_there_is_nothing_to_send() -> None:
    form = read(render_form(None))
    assert form.inputs == []
    assert DOWN in form.text


@pytest.mark.parametrize("nothing", [catalogue(), catalogue(SMALL, images=())])
def test_without_a_profile_or_an_image_the_form_says_so(nothing: CatalogueReply) -> None:
    form = read(render_form(nothing))
    assert form.inputs == []
    assert "There is nothing you may start." in form.text


def test_who_may_have_no_guarantee_is_not_asked_for_one() -> None:
    poor = catalogue(SMALL).model_copy(
        update={
            "bounds": BoundsReply(cpu_limit=2.0, mem_limit=GIB, cpu_guarantee=0.0, mem_guarantee=0)
        }
    )
    form = read(render_form(poor))
    assert form.named("cpu_guarantee") == form.named("mem_guarantee") == []


@given(
    st.dictionaries(
        st.sampled_from(["profile", "image", "cpu_limit", "mem_limit", "mem_guarantee", "x"]),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=4,
        ),
    )
)
def test_no_stored_options_break_the_form(kept: dict[str, Any]) -> None:
    form = read(render_form(catalogue(SMALL, LARGE), chosen=kept))
    assert len(form.chosen("profile")) == len(form.chosen("image")) == 1
