from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from enforcer import names
from enforcer.errors import InvalidError

PARTS = st.one_of(
    st.text(max_size=300),
    st.text(alphabet="ab-_.\\x2d", max_size=12),
    st.sampled_from(["", "default", "adopted", "engine", "workload", "\\x64efault", "a-b", "a/b"]),
).filter(lambda text: not any(unicodedata.category(one) == "Cs" for one in text))


@pytest.mark.parametrize(
    "name",
    ["alice", "a-b@c.de", "Jörg Müller", "..", ".", "a/b", "~", "名前", "x" * 255, "a b", "-"],
)
def test_whatever_can_be_printed_is_a_name(name: str) -> None:
    assert names.check_name(name, "user") == name


@pytest.mark.parametrize("name", ["", "x" * 256, "a\nb", "a\0b", "\x1b[31m", "\ud800", "\x85"])
def test_what_cannot_be_printed_is_no_name(name: str) -> None:
    with pytest.raises(InvalidError) as caught:
        names.check_name(name, "user")
    assert caught.value.code == "name.invalid"
    assert caught.value.hint
    str(caught.value).encode()  # can be shown


def test_only_the_default_server_has_no_name() -> None:
    assert names.check_name("", "server") == ""


def test_slices_nest_by_their_names() -> None:
    leaf = names.lease_slice("Large", "a-b", "")
    assert leaf == "jupyter-workload-Large-a\\x2db-default.slice"
    assert names.ancestors(leaf) == (
        names.user_slice("Large", "a-b"),
        names.profile_slice("Large"),
        names.WORKLOAD,
        names.ROOT,
    )
    assert names.parent(names.ROOT) is None
    assert names.cgroup_path(names.profile_slice("Large")) == (
        "jupyter.slice/jupyter-workload.slice/jupyter-workload-Large.slice"
    )


def test_words_of_ours_do_no_harm_as_names() -> None:
    assert names.profile_slice("adopted") != names.ADOPTED
    assert names.profile_slice("engine") == "jupyter-workload-\\x65ngine.slice"
    assert names.lease_slice("P", "u", "default") != names.lease_slice("P", "u", "")


@given(PARTS, PARTS)
def test_two_names_never_become_one(one: str, other: str) -> None:
    assume(one != other)
    assert names.escape(one) != names.escape(other)


@given(st.text(alphabet="xé-", min_size=70, max_size=255), st.text(max_size=3))
def test_long_names_that_begin_alike_differ(long: str, end: str) -> None:
    assume(end and not any(unicodedata.category(one) == "Cs" for one in end))
    assert names.escape(long) != names.escape(long + end)


@given(PARTS, PARTS, PARTS)
def test_every_unit_is_one_that_systemd_and_docker_take(
    profile: str, user: str, server: str
) -> None:
    unit = names.lease_slice(profile, user, server)
    assert len(unit.encode()) <= names.MAX_UNIT_BYTES
    assert re.fullmatch(r"[A-Za-z0-9_\\-]+\.slice", unit)
    assert "--" not in unit
    assert not unit.startswith("-")
    assert names.parent(unit) == names.user_slice(profile, user)
    assert len(names.ancestors(unit)) == 4
