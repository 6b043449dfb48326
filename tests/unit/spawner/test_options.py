"""Whatever is asked for is within the catalogue, or refused with a sentence."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enforcer.api.types import BoundsReply, CatalogueReply, ImageReply, ProfileReply
from enforcer.errors import EnforcerError, ForbiddenError, InvalidError, NotFoundError
from enforcer.model import Claim
from enforcer.quantities import CORE, GIB
from spawner.options import (
    AMOUNTS,
    KEYS,
    Wanted,
    check_options,
    clean_options,
    parse_form,
)
from spawner.refusals import sentence


def a_profile(name: str, cpu: float, memory: float) -> ProfileReply:
    return ProfileReply(
        name=name,
        cpu_limit=cpu,
        mem_limit=int(memory * GIB),
        cpu_guarantee=cpu,
        mem_guarantee=int(memory * GIB),
        fits=True,
        sentence="fits now",
    )


CATALOGUE = CatalogueReply(
    user="alice",
    profiles=[a_profile("Small", 2, 4), a_profile("Large", 10, 40.3333)],
    images=[
        ImageReply(name="Base", reference="lab/base:1"),
        ImageReply(name="Science", reference="lab/science:2"),
    ],
    home="/home/alice",
    volumes_ro=[],
    bounds=BoundsReply(
        cpu_limit=10, mem_limit=int(40.3333 * GIB), cpu_guarantee=10, mem_guarantee=GIB
    ),
    admission=None,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
NUMBERS = st.integers() | st.floats() | st.floats(-1, 50) | st.sampled_from([0, -1, 10**400, 1e308])
NAMES = st.sampled_from(["Small", "Large", "Base", "Science", "Secret", ""]) | st.text()
LIKELY = st.fixed_dictionaries(
    {},
    optional={
        "profile": NAMES | JSON,
        "image": NAMES | JSON,
        **dict.fromkeys(AMOUNTS, NUMBERS | JSON),
    },
)


def refused(options: object) -> EnforcerError:
    with pytest.raises(EnforcerError) as caught:
        check_options(options, CATALOGUE)
    return caught.value


@given(options=LIKELY | JSON | st.dictionaries(st.sampled_from(KEYS) | st.text(), JSON))
def test_anything_json_can_say_is_refused_with_a_sentence_or_within_the_catalogue(
    options: object,
) -> None:
    assert_within_or_refused(options)
    assert_within_or_refused(clean_options(options))


def assert_within_or_refused(options: object) -> None:
    try:
        wanted = check_options(options, CATALOGUE)
    except EnforcerError as error:
        said = sentence(error)
    else:
        assert_within(wanted)
        return
    assert said.encode()
    assert 10 < len(said) < 400


def assert_within(wanted: Wanted) -> None:
    profile = next(one for one in CATALOGUE.profiles if one.name == wanted.profile)
    image = next(one for one in CATALOGUE.images if one.name == wanted.image)
    assert wanted.reference == image.reference
    cpu = round(profile.cpu_limit * CORE) if wanted.cpu_limit is None else wanted.cpu_limit
    memory = profile.mem_limit if wanted.mem_limit is None else wanted.mem_limit
    assert 0 < cpu <= profile.cpu_limit * CORE
    assert 0 < memory <= profile.mem_limit
    assert 0 <= (wanted.cpu_guarantee or 0) <= cpu
    assert 0 <= (wanted.mem_guarantee or 0) <= memory


@given(
    form=st.dictionaries(
        st.sampled_from(KEYS) | st.text(),
        st.lists(st.text() | st.sampled_from(["1", "2.5", "-1", "nan", "1e9", " "]), max_size=3),
    )
)
def test_anything_a_form_can_hold_is_refused_with_a_sentence_or_within_the_catalogue(
    form: dict[str, list[str]],
) -> None:
    assert_within_or_refused(parse_form(form))


def test_nothing_asked_for_is_what_the_policy_prefers() -> None:
    assert check_options({}, CATALOGUE) == Wanted(
        profile="Small", image="Base", reference="lab/base:1"
    )
    assert check_options(dict.fromkeys(KEYS), CATALOGUE).profile == "Small"


def test_a_form_with_its_fields_filled_in_becomes_a_claim() -> None:
    options = parse_form(
        {
            "_xsrf": ["2|x"],
            "profile": ["Large"],
            "image": ["Science"],
            "cpu_limit": ["2.5"],
            "mem_limit": [" 10 "],
            "cpu_guarantee": [""],
            "mem_guarantee": ["0"],
        }
    )
    assert options == {
        "profile": "Large",
        "image": "Science",
        "cpu_limit": 2.5,
        "mem_limit": 10.0,
        "mem_guarantee": 0.0,
    }
    claim = check_options(options, CATALOGUE).claim("alice", "gpu", ["lab"])
    assert claim == Claim(
        user="alice",
        server="gpu",
        profile="Large",
        image="Science",
        cpu_limit=claim.cpu_limit,
        mem_limit=claim.mem_limit,
        mem_guarantee=claim.mem_guarantee,
        groups=("lab",),
    )
    assert (claim.cpu_limit, claim.mem_limit, claim.mem_guarantee) == (2_500_000, 10 * GIB, 0)


@pytest.mark.parametrize("number", [0, -1, 0.0, -0.5, -(10**400)], ids=lambda _: "")
@pytest.mark.parametrize("key", ["cpu_limit", "mem_limit"])
def test_a_limit_that_is_not_above_zero_is_refused(key: str, number: float) -> None:
    error = refused({key: number})
    assert isinstance(error, InvalidError)
    assert "would stop everything" in error.message


@pytest.mark.parametrize("key", AMOUNTS)
@pytest.mark.parametrize(
    ("value", "said"),
    [
        (math.nan, "is no amount"),
        (math.inf, "is no amount"),
        (-math.inf, "is no amount"),
        (True, "not true"),
        (False, "not false"),
        ("2", "not '2'"),
        ("nan", "must be a number"),
        ([2], "not a list"),
        ({"a": 1}, "not an object"),
        (b"2", "must be a number"),
    ],
)
def test_what_is_no_sensible_number_is_refused(key: str, value: object, said: str) -> None:
    error = refused({key: value})
    assert isinstance(error, InvalidError)
    assert said in error.message
    assert "write a number of" in error.hint


@pytest.mark.parametrize("number", [2.1, 36, 1e308, 10**400], ids=lambda _: "")
def test_more_than_the_profile_has_is_refused_with_what_it_has(number: float) -> None:
    error = refused({"cpu_limit": number})
    assert isinstance(error, ForbiddenError)
    assert error.hint == "ask for 0.01 cores to 2 cores"
    assert "the profile 'Small'" in error.message


def test_what_a_page_showed_rounded_is_no_more_than_there_is() -> None:
    wanted = check_options({"profile": "Large", "mem_limit": 40.335}, CATALOGUE)
    assert wanted.mem_limit is not None
    assert wanted.mem_limit <= CATALOGUE.profiles[1].mem_limit
    refused({"profile": "Large", "mem_limit": 40.4})


def test_a_limit_too_small_for_docker_is_refused() -> None:
    assert "too small" in refused({"cpu_limit": 0.001}).message
    assert "too small" in refused({"mem_limit": 0.001}).message


def test_a_guarantee_is_between_zero_and_the_limit() -> None:
    assert "makes no sense" in refused({"cpu_guarantee": -1}).message
    assert "limit of 1 core" in refused({"cpu_limit": 1, "cpu_guarantee": 2}).message
    assert "limit of 4 GiB" in refused({"mem_guarantee": 5}).message
    assert check_options({"cpu_guarantee": 0}, CATALOGUE).cpu_guarantee == 0


def test_another_ones_profile_or_image_is_refused_without_telling_of_it() -> None:
    error = refused({"profile": "Secret"})
    assert isinstance(error, NotFoundError)
    assert error.message == "you have no profile named 'Secret'"
    assert error.hint == "yours: 'Small', 'Large'"
    assert "did you mean 'Large'?" in refused({"profile": "Larg"}).hint
    assert "no image named 'lab/base:1'" in refused({"image": "lab/base:1"}).message
    assert "must be a name, not a list" in refused({"image": ["Base"]}).message
    assert "must be a name, not a number" in refused({"profile": 1}).message


def test_a_key_nobody_knows_is_refused_with_the_nearest_known() -> None:
    assert refused({"cpu_limt": 1}).hint == "did you mean cpu_limit?"
    error = refused({"privileged": True})
    assert error.message == "there is no option 'privileged'"
    assert error.hint == f"the options are {', '.join(KEYS)}"


def test_options_that_are_no_object_are_refused() -> None:
    nothings: tuple[object, ...] = (None, [], "profile", 5, b"x", True)
    for options in nothings:
        assert "not names with values" in refused(options).message


def test_who_may_have_nothing_is_told_so() -> None:
    nothing = CATALOGUE.model_copy(update={"profiles": []})
    with pytest.raises(ForbiddenError, match="you may use no profile"):
        check_options({}, nothing)
    with pytest.raises(ForbiddenError, match="you may use no image"):
        check_options({}, CATALOGUE.model_copy(update={"images": []}))


def test_a_field_given_twice_or_a_file_is_refused() -> None:
    assert "not a list" in refused(parse_form({"cpu_limit": ["1", "2"]})).message
    assert "must be a number" in refused(parse_form({"cpu_limit": [{"body": b""}]})).message
    assert "no option" in refused(parse_form({"cpu_limit_file": [{"body": b""}]})).message
    assert parse_form({"cpu_limit": [], "profile": [""], "next": ["/hub"]}) == {}


def test_what_cannot_be_shown_is_replaced_before_anything_shows_it() -> None:
    assert clean_options(
        {"a": math.nan, "b": [1], "c": b"x", "d": {"e": 1}, "\ud800": "\ud800"}
    ) == {
        "a": "nan",
        "b": [],
        "c": "a file",
        "d": {},
        "\\ud800": "\\ud800",
    }
    assert clean_options(b"smuggled") == {"options": "a file"}
    assert clean_options([1]) == {"options": "a list"}
    assert clean_options(None) == {}
    kept = {"profile": "Small", "cpu_limit": 1, "mem_limit": 1.5, "image": None, "x": True}
    assert clean_options(kept) == kept
