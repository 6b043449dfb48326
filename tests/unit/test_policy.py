"""Which rights a user has and by what, and what a claim beyond them is told."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enforcer import policy
from enforcer.catalogue import catalogue
from enforcer.config import parse_config
from enforcer.errors import EnforcerError, ForbiddenError, InvalidError, NotFoundError
from enforcer.model import AdmissionMode, Claim, Config, Rights
from enforcer.quantities import CORE, GIB, MIB, Bytes, Cpus
from tests.examples import examples
from tests.unit.configs import CAPACITY, NAMES, VALID, document, parse, trees
from tests.unit.userrights import LAB, rights


def test_a_user_nobody_knows_has_the_rights_of_default() -> None:
    found = rights()
    assert found.user == "alice"
    assert found.profiles == ("Tiny", "Large")
    assert found.images == ("SingleUser", "DataScience")
    assert found.home == "/media/daten/alice"
    assert found.max_cpu_guarantee == 5 * CORE
    assert found.max_mem_guarantee == 10 * GIB
    assert found.servers_max is None
    assert found.admission is None
    assert set(found.sources.values()) == {"default", "the largest allowed profile"}


def test_a_users_total_is_by_default_their_largest_profile() -> None:
    found = rights()
    assert (found.cpu_total, found.mem_total) == (10 * CORE, 40 * GIB)
    assert found.sources["cpu_total"] == "the largest allowed profile"
    assert rights("alice", "ml").mem_total == 80 * GIB


def test_each_key_falls_back_to_default_by_itself() -> None:
    found = rights("memo")
    assert found.profiles == ("Large",)
    assert found.images == ("SingleUser", "DataScience")
    assert found.home == "/home/memo"
    assert found.max_cpu_guarantee == 2 * CORE
    assert found.max_mem_guarantee == 10 * GIB
    assert found.sources["allowed_resources"] == "user memo"
    assert found.sources["allowed_docker"] == "default"
    assert found.sources["max_preallocate.mem_guarantee"] == "default"


def test_what_bounds_all_servers_of_a_user_is_the_largest_of_any() -> None:
    plain, ml, students = rights("ann"), rights("ann", "ml"), rights("ann", "students")
    found = policy.over_all_servers(students, [plain, ml])
    assert (found.cpu_total, found.mem_total) == (30 * CORE, 80 * GIB)
    assert found.max_mem_guarantee == 20 * GIB
    assert found.sources["max_preallocate.mem_guarantee"] == "group ml"
    assert found.servers_max is None
    assert "servers_max" not in found.sources
    # what is one server's own is nobody else's
    assert (found.profiles, found.admission) == (students.profiles, students.admission)
    assert found.sources["allowed_resources"] == "group students"
    assert policy.over_all_servers(ml, [students]) == ml
    assert policy.over_all_servers(ml, []) is ml


def test_ones_own_entry_goes_before_the_groups() -> None:
    found = rights("memo", "ml")
    assert found.profiles == ("Large",)
    assert found.max_mem_guarantee == 20 * GIB
    assert found.sources["max_preallocate.mem_guarantee"] == "group ml"


def test_of_several_groups_the_most_generous_wins_and_is_told() -> None:
    found = policy.rights(parse(LAB), "alice", ["ml", "wheel"], ["students", "ml"])
    assert found.profiles == ("Tiny", "Extreme")
    assert found.servers_max == 4
    assert found.admission is AdmissionMode.QUEUE
    assert found.home == "/srv/students/alice"
    assert found.sources["allowed_resources"] == "group students, group ml"
    assert found.sources["host_homedir_format_string"] == "group students"


def test_to_scale_is_more_generous_than_to_refuse() -> None:
    assert rights("alice", "strict", "students").admission is AdmissionMode.SCALE
    assert rights("alice", "strict").admission is AdmissionMode.REFUSE


def test_a_second_group_never_takes_from_what_the_first_gave() -> None:
    assert rights("alice", "students").cpu_total == 2 * CORE
    assert rights("alice", "ml").cpu_total == 30 * CORE
    both = rights("alice", "students", "ml")
    assert both.cpu_total == 30 * CORE
    assert both.sources["cpu_total"] == "group students, group ml"
    assert rights("alice", "students", "strict").cpu_total == 2 * CORE


def test_a_group_without_a_total_counts_with_that_of_default() -> None:
    config = parse(LAB.replace("max_preallocate = { cpu_guarantee = 5", "cpu_total = 31\n#"))
    assert rights("alice", "ml", config=config).cpu_total == 31 * CORE
    assert rights("alice", "students", config=config).cpu_total == 2 * CORE
    assert rights("alice", "students", "ml", config=config).cpu_total == 31 * CORE
    assert rights("memo", "students", config=config).cpu_total == 2 * CORE


def test_a_user_called_default_is_no_better_than_others() -> None:
    assert rights("default", "students").profiles == ("Tiny",)


def test_without_a_home_in_the_configuration_there_is_none() -> None:
    config = parse(VALID.replace("host_homedir", "#"))
    assert rights("../x", config=config).home is None


@pytest.mark.parametrize(
    "user", ["a/b", ".", "..", "~", "~root", "a:ro", "/", "../x", "é" * 128, "名" * 255]
)
def test_a_name_that_would_lead_elsewhere_gets_no_home(user: str) -> None:
    with pytest.raises(ForbiddenError) as caught:
        rights(user)
    assert caught.value.code == "user.name-unsafe"
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("user", ["a-b@c.de", "...", "a b", "Jörg", "x" * 255, "{username}", "a~"])
def test_any_other_name_gets_its_own(user: str) -> None:
    assert rights(user).home == f"/media/daten/{user}"


@pytest.mark.parametrize("user", ["", "a\0b", "a\nb", "x" * 256])
def test_a_name_that_is_none_is_refused(user: str) -> None:
    with pytest.raises(InvalidError, match="name"):
        rights(user)


def check(rights: Rights, **asked: object) -> Claim:
    claim = Claim(**{"user": rights.user, **asked})  # type: ignore[arg-type] # wrong on purpose
    return policy.check_claim(parse(LAB), rights, claim)


def refused(rights: Rights, **asked: object) -> EnforcerError:
    with pytest.raises(EnforcerError) as caught:
        check(rights, **asked)
    assert caught.value.hint
    return caught.value


def test_a_claim_that_names_nothing_gets_what_is_preferred() -> None:
    claim = check(rights())
    assert (claim.profile, claim.image) == ("Tiny", "SingleUser")
    assert claim.cpu_limit is None
    assert claim.mem_guarantee is None


def test_a_claim_within_the_rights_stays_as_it_is() -> None:
    asked = Claim(
        user="alice",
        server="two",
        profile="Large",
        image="DataScience",
        cpu_limit=Cpus(10 * CORE),
        mem_limit=Bytes(40 * GIB),
        cpu_guarantee=Cpus(10 * CORE),
        mem_guarantee=Bytes(40 * GIB),
    )
    assert policy.check_claim(parse(LAB), rights(), asked) == asked


@pytest.mark.parametrize(
    ("asked", "kind", "code", "hint"),
    [
        ({"profile": "tiny"}, NotFoundError, "profile.unknown", "did you mean 'Tiny'?"),
        ({"profile": "\n"}, NotFoundError, "profile.unknown", "allowed: 'Tiny', 'Large'"),
        ({"profile": ""}, NotFoundError, "profile.unknown", "allowed: 'Tiny', 'Large'"),
        ({"profile": "Extreme"}, ForbiddenError, "profile.not-allowed", "allowed: 'Tiny', 'Large'"),
        ({"image": "SingleUsr"}, NotFoundError, "image.unknown", "did you mean 'SingleUser'?"),
        (
            {"image": "quay.io/jupyterhub/singleuser:main"},
            NotFoundError,
            "image.unknown",
            "allowed: 'SingleUser', 'DataScience'",
        ),
        ({"cpu_limit": Cpus(0)}, InvalidError, "limit.not-positive", "ask for at most 1"),
        ({"cpu_limit": Cpus(-1)}, InvalidError, "limit.not-positive", "ask for at most 1"),
        ({"mem_limit": Bytes(0)}, InvalidError, "limit.not-positive", "ask for at most 2 GiB"),
        ({"cpu_limit": Cpus(1)}, InvalidError, "limit.too-small", "ask for at least 0.01"),
        ({"mem_limit": Bytes(MIB)}, InvalidError, "limit.too-small", "ask for at least 6 MiB"),
        ({"cpu_limit": Cpus(CORE + 1)}, ForbiddenError, "limit.above-profile", "at most 1"),
        ({"mem_limit": Bytes(3 * GIB)}, ForbiddenError, "limit.above-profile", "at most 2 GiB"),
        ({"cpu_guarantee": Cpus(-1)}, InvalidError, "guarantee.negative", "ask for 0 to 1"),
        ({"mem_guarantee": Bytes(-1)}, InvalidError, "guarantee.negative", "ask for 0 to 2 GiB"),
        (
            {"mem_guarantee": Bytes(3 * GIB)},
            InvalidError,
            "guarantee.above-limit",
            "ask for at most 2 GiB",
        ),
        (
            {"cpu_limit": Cpus(CORE // 2), "cpu_guarantee": Cpus(CORE)},
            InvalidError,
            "guarantee.above-limit",
            "ask for at most 0.5",
        ),
        ({"server": "a\0"}, InvalidError, "name.invalid", "leave control characters out"),
        ({"user": ""}, InvalidError, "name.invalid", "give it a name"),
    ],
)
def test_a_claim_beyond_the_rights_is_told_what_would_be_right(
    asked: dict[str, object], kind: type[EnforcerError], code: str, hint: str
) -> None:
    error = refused(rights(), **asked)
    assert type(error) is kind
    assert error.code == code
    assert hint in error.hint


def test_an_image_that_others_may_use_is_not_allowed() -> None:
    only_one = dataclasses.replace(rights(), images=("DataScience",))
    assert refused(only_one, image="SingleUser").code == "image.not-allowed"


def test_whoever_may_have_nothing_gets_nothing() -> None:
    nobody = rights("nobody")
    assert (nobody.cpu_total, nobody.mem_total) == (0, 0)
    assert refused(nobody).code == "profile.not-allowed"
    assert refused(nobody, profile="Tiny").hint == "none is allowed"
    assert refused(dataclasses.replace(nobody, profiles=("Tiny",))).code == "image.not-allowed"
    offered = catalogue(parse(LAB), nobody)
    assert offered.profiles == ()
    assert offered.bounds.cpu_limit == 0


def test_a_guarantee_beyond_max_preallocate_is_left_to_admission() -> None:
    claim = check(rights(), profile="Large", cpu_guarantee=Cpus(9 * CORE))
    assert claim.cpu_guarantee == 9 * CORE


def test_names_that_others_chose_are_shown_cut_and_escaped() -> None:
    error = refused(rights(), profile="\x1b[31m" + "x" * 500)
    assert "\x1b" not in str(error)
    assert len(str(error)) < 200


@settings(max_examples=examples(60))
@given(trees(), NAMES.filter(lambda name: not set(name) & set("/:~.")), st.data())
def test_rights_hold_together_whatever_groups_a_user_is_in(
    tree: dict[str, Any], user: str, data: st.DataObject
) -> None:
    config = parse_config(document(tree), CAPACITY)
    groups = data.draw(st.lists(st.sampled_from([*config.groups, "other"]), unique=True))
    found = policy.rights(config, user, groups, ())
    assert found == policy.rights(config, user, (), groups[::-1])
    assert set(found.profiles) <= set(config.profiles)
    assert set(found.images) <= set(config.images)
    if user not in config.users:
        for name in found.profiles:
            assert found.cpu_total >= config.profiles[name].cpu_limit
            assert found.mem_total >= config.profiles[name].mem_limit
        assert_no_less(found, config, user, groups)


def assert_no_less(found: Rights, config: Config, user: str, groups: Sequence[str]) -> None:
    """Being in all of the groups gives no smaller number than being in those that say something."""
    for group in groups:
        alone = policy.rights(config, user, [group], ())
        if alone.sources["cpu_total"] == f"group {group}":
            assert found.cpu_total >= alone.cpu_total
        if alone.sources.get("servers_max") == f"group {group}":
            assert alone.servers_max is not None
            assert found.servers_max is not None
            assert found.servers_max >= alone.servers_max
