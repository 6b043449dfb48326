"""The ancestor's configuration, read without running it."""

from __future__ import annotations

import ast
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enforcer.ancestor import convert
from enforcer.ancestor.toml import Value, format_document, format_value
from enforcer.config import ConfigError, Mistake
from enforcer.model import Config
from tests.examples import examples
from tests.unit.configs import CAPACITY, parse

# As the ancestor's guide has it.
SEED = """\
import os, sys
server_type = "proxy"
c.Authenticator.admin_users = ['memo', 'admin']
c.JupyterHub.spawner_class.resource_profiles = {
    ## These are maximum LIMITs to which a Docker Image can run.
    "Tiny"   : {"cpu_limit": 1,  "mem_limit": 2},
    "Small"  : {"cpu_limit": 2,  "mem_limit": 4},
    "Normal" : {"cpu_limit": 5,  "mem_limit": 10},
    "Large"  : {"cpu_limit": 10, "mem_limit": 40},
    "Extreme": {"cpu_limit": 36, "mem_limit": 80}
}
c.JupyterHub.spawner_class.docker_profiles = {
    "SingleUser" : "quay.io/jupyterhub/singleuser:main",
    "BaseNotebook" : "quay.io/jupyter/base-notebook",
    "DataScience" : "quay.io/jupyter/datascience-notebook:latest"
}
c.JupyterHub.spawner_class.user_profiles = {
    "default" : {
        "allowed_resources": ["Normal", "Tiny", "Small", "Large", "Extreme"],
        "allowed_docker": ["SingleUser", "BaseNotebook", "DataScience"],
        "host_homedir_format_string" : "/media/daten/{username}",
        "max_preallocate" : {"cpu_guarantee" : 5, "mem_guarantee": 10 }},
    "memo" : { "allowed_resources" : ["Normal", "Tiny", "Small"],
              "max_preallocate" : {"cpu_guarantee" : 2, "mem_guarantee": 4 },
              "host_homedir_format_string" : "/home/{username}"}
}
c.JupyterHub.spawner_class.volumes_ro = ["/media/references", "/opt/conda"]
if server_type == "proxy":
    c.JupyterHub.bind_url = "http://172.16.0.2:8000"
"""


def converted(text: str) -> Config:
    return parse(convert(text, CAPACITY, source="old.py"))


def mistakes(text: str) -> list[Mistake]:
    with pytest.raises(ConfigError) as raised:
        convert(text, CAPACITY, source="old.py")
    return list(raised.value.mistakes)


def sentences(text: str) -> list[str]:
    return [one.sentence("old.py") for one in mistakes(text)]


def changed(old: str, new: str) -> str:
    assert SEED.count(old) == 1
    return SEED.replace(old, new)


def line_of(text: str, words: str) -> int:
    return text[: text.index(words)].count("\n") + 1


def test_the_guides_own_example_becomes_a_configuration_in_its_order() -> None:
    config = converted(SEED)
    assert list(config.profiles) == ["Tiny", "Small", "Normal", "Large", "Extreme"]
    assert list(config.images) == ["SingleUser", "BaseNotebook", "DataScience"]
    assert config.users["default"].allowed_resources == (
        *("Normal", "Tiny", "Small", "Large", "Extreme"),
    )
    assert config.users["memo"].host_homedir_format_string == "/home/{username}"
    assert config.users["memo"].allowed_docker is None
    assert config.volumes_ro == ("/media/references", "/opt/conda")
    assert config.daemon.hub_users == ("jupyterhub", "enforcer-pages")


def test_nothing_of_the_file_is_run() -> None:
    converted("raise SystemExit(7)\nimport no_such_module\n" + SEED)


@pytest.mark.parametrize(
    "target", ["resource_profiles", "c.X.resource_profiles", "Spawner.resource_profiles"]
)
def test_a_dictionary_is_known_by_the_last_word_of_its_name(target: str) -> None:
    converted(changed("c.JupyterHub.spawner_class.resource_profiles", target))


def test_plain_variables_and_the_simple_ways_of_adding_are_followed() -> None:
    text = changed("c.JupyterHub.spawner_class.resource_profiles = {", "mine: dict = {")
    text += """
c.JupyterHub.spawner_class.resource_profiles = mine
X.resource_profiles.update({"Huge": {"cpu_limit": 20, "mem_limit": 50}})
X.resource_profiles["Small"]["cpu_limit"] = +3
X.user_profiles["ann"] = dict(allowed_resources=["Huge"])
volumes_ro: list[str] = ["/srv/shared"]
later: int
x.y: int = 1
"""
    config = converted(text)
    assert config.profiles["Huge"].cpu_limit == 20_000_000
    assert config.profiles["Small"].cpu_limit == 3_000_000
    assert config.users["ann"].allowed_resources == ("Huge",)
    assert config.volumes_ro == ("/srv/shared",)


def test_an_object_is_followed_under_each_of_its_names() -> None:
    text = changed("c.JupyterHub.spawner_class.resource_profiles = {", "mine = {")
    text += """
huge = dict(cpu_limit=20, mem_limit=40)
mine["Huge"] = huge
c.JupyterHub.spawner_class.resource_profiles = other = mine
other["Small"] = {"cpu_limit": 3, "mem_limit": 4}
huge["mem_limit"] = 50
mine.update({"Twin": mine["Huge"]})
huge = {"cpu_limit": 1}
later: dict = {}
mine: dict
memo = c.X.user_profiles["memo"]
memo["allowed_resources"] = ["Twin"]
mine = {}
later.update({"no": 1})
nobody["x"] = 1
c.Y.docker_profiles = c.Y.docker_profiles
"""
    config = converted(text)
    assert list(config.profiles) == [
        *("Tiny", "Small", "Normal", "Large", "Extreme", "Huge", "Twin")
    ]
    assert config.profiles["Huge"].cpu_limit == config.profiles["Twin"].cpu_limit == 20_000_000
    assert config.profiles["Twin"].mem_limit == 50 << 30
    assert config.profiles["Small"].cpu_limit == 3_000_000
    assert config.users["memo"].allowed_resources == ("Twin",)


def test_a_loop_that_changes_nothing_of_ours_does_no_harm() -> None:
    converted(
        f"{SEED}for name, one in user_profiles.items():\n    print(name)\n    x.y['a'] = one\n"
    )


def test_a_name_that_is_given_a_new_value_is_in_no_doubt() -> None:
    converted(f"x = []\nx.append(1)\n{SEED}x = ['/a']\nvolumes_ro = x\n")


def test_of_two_assignments_the_last_one_counts_as_in_python() -> None:
    assert converted(f"volumes_ro = ['/a/b']\n{SEED}").volumes_ro[0] == "/media/references"


def test_every_mistake_is_told_at_once_with_its_line() -> None:
    text = (
        SEED.replace('["Normal", "Tiny", "Small"]', '["Nromal", "Tiny"]')
        .replace('["SingleUser", "BaseNotebook", "DataScience"]', '"SingleUser"')
        .replace('"cpu_guarantee" : 2', '"cpu_guarantee" : 2000')
        .replace('"mem_limit": 80', '"mem_limit": 2 * 40')
    )
    told = sentences(text)
    assert [int(one.split(":")[1]) for one in told] == [
        line_of(text, "2 * 40"),
        line_of(text, '"SingleUser",\n'),
        line_of(text, "Nromal"),
        line_of(text, "2000"),
        line_of(text, "2000"),
    ]
    assert "2 * 40" in told[0]
    assert "would have to be computed" in told[0]
    assert "'SingleUser' is not a list; write a list" in told[1]
    assert "there is no 'Nromal'; did you mean 'Normal'?" in told[2]
    assert any("is more than any profile has that this user may choose" in one for one in told)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('    "default" : {', '    "defualt" : {', 'missing; write "default"'),
        ('["Normal", "Tiny", "Small"]', '("Normal", "Tiny")', "a tuple is not a list"),
        ('["Normal", "Tiny", "Small"]', '{"Normal", "Tiny"}', "a set is not a list"),
        ('["Normal", "Tiny", "Small"]', '"Normal"', "'Normal' is not a list"),
        ('["Normal", "Tiny", "Small"]', '["Normal", None]', "None says nothing"),
        ('["Normal", "Tiny", "Small"]', '["Normal", "Normal"]', "stands here twice"),
        ('"mem_guarantee": 4 ', '"mem_guarantee": 11 ', "10 GiB is the most"),
        ('{"cpu_limit": 1,  "mem_limit": 2}', "5", "5 is not a dictionary"),
        ('{"cpu_limit": 1,  "mem_limit": 2}', "None", "None says nothing"),
        ('{"cpu_limit": 1,  "mem_limit": 2}', "{**base}", "would have to be computed"),
        ('{"cpu_limit": 1,  "mem_limit": 2}', "dict(**base)", "would have to be computed"),
        ('{"cpu_limit": 1,  "mem_limit": 2}', '{1: 2, "mem_limit": 2}', "is not a text in quotes"),
        ('"cpu_limit": 1,', '"cpu_limit": -1,', "-1 is not an amount of CPU"),
        ('"cpu_limit": 1,', '"cpu_limit": -"1",', "would have to be computed"),
        ('"cpu_limit": 1,', '"cpu_limit": ~1,', "would have to be computed"),
        ('"cpu_limit": 1,', '"cpu_limit": True,', "True is not an amount of CPU"),
        ('"cpu_limit": 1,', '"cpu_limit": b"1",', "is neither text nor number"),
        ('"cpu_limit": 1,', '"cpu_limit": 1e999,', "no such amount is known"),
        ('"cpu_limit": 1,', f'"cpu_limit": 0x{"f" * 9000},', "no such amount is known"),
        ('"cpu_limit": 1,', '"cpu_limti": 1,', "did you mean 'cpu_limit'?"),
        ('"cpu_limit": 1,', '"cpu_limit": f"{1}",', "would have to be computed"),
        ('"cpu_limit": 1,', '"cpu_limit": cores,', "would have to be computed"),
        ('"cpu_limit": 1,', '"cpu_limit": "\\ud800",', "half a character"),
        ('"cpu_limit": 1,', '"cpu_limit": 1, "cpu_limit": 2,', "'cpu_limit' stands here twice"),
        ('"Small"  : {', '"Tiny"  : {', "'Tiny' stands here twice, first in line 6"),
        ("singleuser:main", "Single User", "is not the name of an image"),
        ('"quay.io/jupyter/base-notebook"', "image()", "would have to be computed"),
        ("/home/{username}", "/home/username", "lacks {username}"),
        ('["/media/references", "/opt/conda"]', '{"/a": "/b"}', "is not a list"),
        ('["/media/references", "/opt/conda"]', '["/media", "relative"]', "begin with /"),
        ('"quay.io/jupyter/base-notebook",', '"a" "b" % 1,', "would have to be computed"),
    ],
)
def test_a_mistake_says_where_it_is_and_what_would_be_right(old: str, new: str, said: str) -> None:
    text = changed(old, new)
    told = [one for one in mistakes(text) if said in one.sentence("old.py")]
    assert told, sentences(text)
    assert all(one.right for one in told)
    if "missing" not in said:
        assert told[0].line == line_of(SEED, old)


def test_a_value_that_was_refused_has_no_echo() -> None:
    assert len(mistakes(changed('"cpu_limit": 1,', '"cpu_limit": cores(),'))) == 1
    assert len(mistakes(changed('"quay.io/jupyter/base-notebook"', "image()"))) == 1
    assert len(mistakes(changed('{"cpu_limit": 1,  "mem_limit": 2}', "profile()"))) == 1


@pytest.mark.parametrize("name", ["resource_profiles", "docker_profiles", "user_profiles"])
def test_a_dictionary_that_is_not_there_is_missed(name: str) -> None:
    text = SEED.replace(f".{name} =", f".{name}_of_old =")
    assert f"old.py: {name}: missing; write … .{name} = {{" in "\n".join(sentences(text))


@pytest.mark.parametrize(
    "statement",
    [
        "if True:\n    c.X.user_profiles = {}",
        "for user in users:\n    user_profiles[user] = {}",
        "for user in users:\n    user_profiles['a'] = {}",
        "def late():\n    resource_profiles['a'] = {}",
        "del user_profiles['memo']",
        "user_profiles.pop('memo')",
        "user_profiles['memo'].update(more)",
        "user_profiles.update({name: {}})",
        "user_profiles.update({**more})",
        "with x as volumes_ro:\n    pass",
        "volumes_ro.append('/a')",
        "print(volumes_ro.append('/a'))",
        "volumes_ro += ['/a']",
        "(volumes_ro, other) = (['/a'], 1)",
        "volumes_ro = load()",
        "user_profiles['memo'] = load()",
        "memo = user_profiles.pop('memo')",
        "mine = {}\nfor user in users:\n    mine[user] = {}\nuser_profiles['zed'] = mine",
        "mine = {}\nif x:\n    mine = {'servers_max': 1}\nuser_profiles['zed'] = mine",
        "mine = {}\nmine.update(more)\nuser_profiles['zed'] = mine",
        "mine = {}\nmine.update({name: 1})\nuser_profiles['zed'] = mine",
        "mine = {}\nmine.update({'servers_max': 1}, x=1)\nuser_profiles['zed'] = mine",
        "mine = {}\nmine[name] = 1\nuser_profiles['zed'] = mine",
        "mine = {}\nmine |= more\nuser_profiles['zed'] = mine",
        "mine = {}\nmine['a']['b'] = 1\nuser_profiles['zed'] = mine",
        "mine = {}\nother = mine.setdefault('a', 1)\nuser_profiles['zed'] = mine",
        "mine = {}\nuser_profiles['zed'] = mine\nmine.update(more)",
        "memo = user_profiles['memo']\nmemo.clear()",
        "mine = user_profiles\nfor user in users:\n    mine[user] = {}",
        "if x:\n    mine = {}\nuser_profiles['zed'] = mine",
        "for one in c.X.user_profiles.values():\n    one['servers_max'] = 1",
        "mine = {}\nfor _, one in enumerate([mine]):\n    one.clear()\nuser_profiles['a'] = mine",
        "more = ['/a']\nvolumes_ro = more\nmore.append('/b')",
    ],
)
def test_what_only_running_it_would_tell_is_said(statement: str) -> None:
    [told] = sentences(f"{SEED}{statement}\n")
    assert "running the file" in told or "computed" in told, told
    assert int(told.split(":")[1]) > SEED.count("\n")


def test_a_place_below_what_is_no_dictionary_is_said() -> None:
    told = sentences(f"{SEED}volumes_ro['x']['y'] = 1\nuser_profiles['zed']['y'] = 1\n")
    assert len(told) == 2
    assert all("which is no dictionary" in one for one in told)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("resource_profiles = {", "not Python"),
        ("x = 1\0", "not Python"),
        ("(" * 5000, "not Python"),
        ("x = '\ud800'", "not Python"),
    ],
)
def test_what_is_no_python_is_said_so(text: str, said: str) -> None:
    [told] = mistakes(text)
    assert told.wrong.startswith(said)


def test_odd_escapes_and_deep_or_endless_values_do_no_harm() -> None:
    converted(SEED + 'pattern = "\\d"\n')
    deep = "[" * 60 + "]" * 60
    assert "nested too deeply" in "".join(sentences(f"{SEED}volumes_ro = {deep}\n"))
    endless = "x = {}\nx['a'] = x\nvolumes_ro = x\n"
    assert "nested too deeply" in "".join(sentences(f"{SEED}{endless}"))
    assert "would have to" in sentences(f"{SEED}x = y\ny = x\nvolumes_ro = x\n")[0]
    assert "would have to" in sentences(f"{SEED}volumes_ro = {'-' * 80}x\n")[0]
    unwieldy = "x" + ".y" * 900
    assert "would have to" in sentences(f"{SEED}volumes_ro = {unwieldy}\n")[0]
    converted(f"{SEED}x{'[1]' * 900} = 1\n")


def test_a_percentage_or_a_wrong_amount_is_not_compared() -> None:
    converted(changed('"cpu_guarantee" : 2,', '"cpu_guarantee" : "200%",'))
    text = changed('"cpu_guarantee" : 2,', '"cpu_guarantee" : "lots",')
    assert len(mistakes(text)) == 1
    text = changed('"max_preallocate" : {"cpu_guarantee" : 2, "mem_guarantee": 4 }', '"x": 1')
    assert len(mistakes(text)) == 1


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | TEXTS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(TEXTS, below, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_any_value_reads_back_as_what_it_was(value: Value) -> None:
    assert tomllib.loads(f"key = {format_value(value)}")["key"] == value


@given(st.dictionaries(st.sampled_from(["a", "resource_profiles", "user_profiles"]), VALUES))
def test_any_document_reads_back_as_what_it_was(sections: dict[str, Value]) -> None:
    assert tomllib.loads(format_document(sections)) == sections


NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12)


@st.composite
def old_configs(draw: st.DrawFn) -> dict[str, Any]:
    """Draw dictionaries that the ancestor could use."""
    profiles = draw(
        st.dictionaries(
            NAMES,
            st.fixed_dictionaries(
                {"cpu_limit": st.integers(1, 30), "mem_limit": st.integers(1, 100)}
            ),
            min_size=1,
            max_size=4,
        )
    )
    images = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    user = st.fixed_dictionaries(
        {
            "allowed_resources": st.lists(st.sampled_from([*profiles]), min_size=1, unique=True),
            "allowed_docker": st.lists(st.sampled_from(images), min_size=1, unique=True),
            "host_homedir_format_string": st.sampled_from(
                ["/home/{username}", "/a b/c/{username}"]
            ),
        },
        optional={
            "max_preallocate": st.just({"cpu_guarantee": 1, "mem_guarantee": 1}),
        },
    )
    others = draw(st.dictionaries(NAMES, user, max_size=3))
    return {
        "resource_profiles": profiles,
        "docker_profiles": dict.fromkeys(images, "quay.io/a/b:c"),
        "user_profiles": {"default": draw(user), **others},
    }


@given(old_configs(), st.sampled_from([repr, ascii]))
@settings(max_examples=examples(60))
def test_any_old_configuration_comes_out_as_what_it_was(old: dict[str, Any], write: Any) -> None:  # noqa: ANN401 - repr or ascii
    text = "".join(f"c.X.{name} = {write(value)}\n" for name, value in old.items())
    made = tomllib.loads(convert(text, CAPACITY, source="old.py"))
    assert {name: made[name] for name in old} == old
    assert [list(made[name]) for name in old] == [list(value) for value in old.values()]


@given(st.text(max_size=200))
def test_no_text_does_anything_but_convert_or_be_refused(text: str) -> None:
    for program in (text, f"user_profiles = {text}", f"{SEED}\nvolumes_ro = {text}"):
        try:
            ast.parse(convert(program, CAPACITY, source="old.py") and "")
        except ConfigError as error:
            assert error.mistakes  # noqa: PT017 - either end is right
