from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enforcer.config import ConfigError, Mistake, parse_config
from enforcer.config.mistakes import show, show_place
from enforcer.errors import InvalidError
from enforcer.model import Capacity
from enforcer.quantities import GIB, MIB, Bytes
from tests.examples import examples
from tests.unit.configs import CAPACITY, VALID, document, parse, trees


def mistakes(text: str, capacity: Capacity = CAPACITY) -> tuple[Mistake, ...]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, capacity)
    assert caught.value.code == "config.invalid"
    assert isinstance(caught.value, InvalidError)
    return caught.value.mistakes


def only(text: str, capacity: Capacity = CAPACITY) -> Mistake:
    found = mistakes(text, capacity)
    assert len(found) == 1, found
    return found[0]


def test_every_mistake_comes_at_once_with_its_line_the_value_and_what_would_be_right() -> None:
    text = """\
volumes_ro = ["/media", "relative"]
[resource_profiles.Tiny]
cpu_limit = "ten"
mem_limt = 2
[docker_profiles]
A = "not an image"
[user_profiles.default]
allowed_resources = ["Tiny",
    "Tinny"]
allowed_docker = []
"""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, CAPACITY, source="new.toml")
    assert (
        str(caught.value)
        == """\
new.toml:1: volumes_ro[1]: 'relative' does not begin with /; write a path such as "/media/shared"
new.toml:2: resource_profiles.Tiny.mem_limit: missing; write how many GiB one container may use
new.toml:3: resource_profiles.Tiny.cpu_limit: 'ten' is not an amount of CPU; \
write an amount of CPU in cores, such as 2, 0.5 or "150%"
new.toml:4: resource_profiles.Tiny.mem_limt: there is no such key; did you mean 'mem_limit'?
new.toml:6: docker_profiles.A: 'not an image' is not the name of an image; \
write it such as "quay.io/jupyter/base-notebook:latest"
new.toml:9: user_profiles.default.allowed_resources[1]: there is no 'Tinny'; did you mean 'Tiny'?
new.toml:10: user_profiles.default.allowed_docker: missing; \
write a list of at least one, the preferred first"""
    )


def test_an_empty_file_lacks_three_things() -> None:
    assert [one.place for one in mistakes("")] == [
        "docker_profiles",
        "resource_profiles",
        "user_profiles.default",
    ]
    assert all(one.line is None for one in mistakes("# nothing"))


TINY = "mem_limit = 2\n"


@pytest.mark.parametrize(
    ("line", "place", "found"),
    [
        ("mem_throttle = 2", "resource_profiles.Tiny.mem_throttle", "2"),
        ("mem_throttle = 0", "resource_profiles.Tiny.mem_throttle", "0"),
        ('shm_size = "3G"', "resource_profiles.Tiny.shm_size", "'3G'"),
        ("swap_limit = 8", "resource_profiles.Tiny.swap_limit", "8"),
        ("swap_limit = -1", "resource_profiles.Tiny.swap_limit", "-1"),
        ("cpu_total = 0.5", "resource_profiles.Tiny.cpu_total", "0.5"),
        ("cpu_total = 0", "resource_profiles.Tiny.cpu_total", "0"),
        ("mem_total = 1", "resource_profiles.Tiny.mem_total", "1 GiB"),
        ("mem_total = 1000", "resource_profiles.Tiny.mem_total", "1000"),
        ("tasks_limit = 0", "resource_profiles.Tiny.tasks_limit", "0"),
        ("tasks_limit = 4194305", "resource_profiles.Tiny.tasks_limit", "4194305"),
        ("tasks_limit = true", "resource_profiles.Tiny.tasks_limit", "true"),
        ("tasks_limit = 5.5", "resource_profiles.Tiny.tasks_limit", "5.5"),
        ("tasks_limit = 9\ntasks_total = 8", "resource_profiles.Tiny.tasks_total", "8"),
        ("io_weight = 10001", "resource_profiles.Tiny.io_weight", "10001"),
        ('admission = "maybe"', "resource_profiles.Tiny.admission", "'maybe'"),
        ("cpu_total = nan", "resource_profiles.Tiny.cpu_total", "nan"),
        ("cpu_total = inf", "resource_profiles.Tiny.cpu_total", "inf"),
        ("cpu_total = false", "resource_profiles.Tiny.cpu_total", "false"),
        ("cpu_total = []", "resource_profiles.Tiny.cpu_total", "a list"),
        ("cpu_total = 1979-05-27", "resource_profiles.Tiny.cpu_total", "1979-05-27"),
        (f"cpu_total = 0x{'f' * 17}", "resource_profiles.Tiny.cpu_total", "a number"),
    ],
)
def test_a_wrong_value_in_a_profile_is_named(line: str, place: str, found: str) -> None:
    mistake = only(VALID.replace(TINY, f"{TINY}{line}\n"))
    assert (mistake.place, mistake.found) == (place, found)
    assert mistake.line == 5 + len(line.splitlines())
    assert mistake.right


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("max_preallocate = 5", "5"),
        ("max_preallocate.cpu_guarantee = 38", "38"),
        ("max_preallocate.cpu_guarantee = -1", "-1"),
        ("max_preallocate.mem_guarantee = 126", "126"),
        ("max_preallocate.mem_guarantee = true", "true"),
        ("max_preallocate.memory = 3", "memory"),
        ('host_homedir_format_string = "/home/user"', "'/home/user'"),
        ('host_homedir_format_string = "/home/{username"', "'/home/{username'"),
        ('host_homedir_format_string = "/home/{username}/{x}"', "'/home/{username}/{x}'"),
        ('host_homedir_format_string = "/home/{username!r}"', "'/home/{username!r}'"),
        ('host_homedir_format_string = "/home/{username.x}"', "'/home/{username.x}'"),
        ('host_homedir_format_string = "/{username}"', "'/{username}'"),
        ('host_homedir_format_string = "/{username}/home"', "'/{username}/home'"),
        ('host_homedir_format_string = "/proc/{username}"', "'/proc/{username}'"),
        ('host_homedir_format_string = "home/{username}"', "'home/{username}'"),
        ('host_homedir_format_string = "/home/../{username}"', "'/home/../{username}'"),
        ("host_homedir_format_string = 5", "5"),
        ("servers_max = 0", "0"),
        ("cpu_total = 9", "9"),
        ('mem_total = "39.5G"', "39.5 GiB"),
        ('allowed_resources = "Tiny"', "'Tiny'"),
        ('allowed_resources = ["tiny"]', "'tiny'"),
        ('allowed_docker = ["SingleUser", "SingleUser"]', "'SingleUser'"),
        ('allowed_docker = ["Zzz"]', "'Zzz'"),
        (f"allowed_docker = {['SingleUser'] * 1001}", "a list"),
    ],
)
@pytest.mark.parametrize("section", ["user_profiles", "group_profiles"])
def test_a_wrong_value_in_an_entry_is_named(section: str, line: str, found: str) -> None:
    mistake = only(f"{VALID}\n[{section}.x]\n{line}\n")
    assert mistake.place.startswith(f"{section}.x.{line.partition(' ')[0].partition('.')[0]}")
    assert mistake.found == found
    assert mistake.line == len(VALID.splitlines()) + 3


def test_a_total_that_comes_from_default_must_suffice_too() -> None:
    text = VALID.replace('["Tiny", "Large"]', '["Tiny"]') + "cpu_total = 5\n"
    assert parse(text).users["default"].cpu_total == 5_000_000
    mistake = only(f'{text}[group_profiles.big]\nallowed_resources = ["Large"]\n')
    assert mistake.place == "group_profiles.big.cpu_total"
    assert mistake.right == "write 10 or more"


@pytest.mark.parametrize(
    ("lines", "place"),
    [
        ("[machine]\nreserved.cpu = 40", "machine.reserved.cpu"),
        ("[machine]\nreserved.cpu = 0", "machine.reserved.cpu"),
        ("[machine]\nreserved.cpu = 41", "machine.reserved.cpu"),
        ('[machine]\nreserved.cpu = "x"', "machine.reserved.cpu"),
        ("[machine]\nreserved.memory = 128", "machine.reserved.memory"),
        ("[machine]\nreserved.memory = 0", "machine.reserved.memory"),
        ("[machine]\nreserved.memory = []", "machine.reserved.memory"),
        ('[machine]\nlimit.cpu = "100%"', "machine.limit.cpu"),
        ('[machine]\nlimit.cpu = "1x"', "machine.limit.cpu"),
        ("[machine]\nlimit.memory = 200", "machine.limit.memory"),
        ("[machine]\nlimit = 5", "machine.limit"),
        ("[machine]\nlimit.cpu = 30\nreserved.cpu = 10", "machine.limit"),
        ("[machine]\nreserved.cpu = 1.5\nwhole_cores = true", "machine.reserved.cpu"),
        ("[machine]\nlimit.cpu = 20.5\nwhole_cores = true", "machine.limit.cpu"),
        ('[machine]\nwhole_cores = "yes"', "machine.whole_cores"),
        ("[machine]\nswap = 9", "machine.swap"),
        ("[machine]\ntasks = 100\n[adopted]\ntasks_limit = 101", "adopted.tasks_limit"),
        ("[engine]\ncpu = 39", "engine.cpu"),
        ("[engine]\nmemory = 126", "engine.memory"),
        ("[engine]\nmemory_per_container = 126", "engine.memory_per_container"),
        ("[adopted]\ncpu_limit = 38", "adopted.cpu_limit"),
        ("[adopted]\nmem_limit = 0", "adopted.mem_limit"),
        ('[adopted]\nswap_limit = "101%"', "adopted.swap_limit"),
        ("[admission]\nqueue_length = 0", "admission.queue_length"),
        ("[admission]\nqueue_seconds = inf", "admission.queue_seconds"),
        ("[admission]\nclaim_seconds = true", "admission.claim_seconds"),
        ('[admission]\nclaim_seconds = "5"', "admission.claim_seconds"),
        ("[daemon]\ntick_seconds = 0.1", "daemon.tick_seconds"),
        ("[daemon]\ntick_seconds = nan", "daemon.tick_seconds"),
        ('[daemon]\nhub_users = ["a\\u0000"]', "daemon.hub_users[0]"),
        ('[daemon]\nhub_users = ["a", 5, "a"]', "daemon.hub_users[1]"),
        ('[daemon]\nmetrics = "127.0.0.1"', "daemon.metrics"),
        ('[daemon]\nmetrics = "127.0.0.1:0"', "daemon.metrics"),
        ('[daemon]\nmetrics = "127.0.0.1:65536"', "daemon.metrics"),
        ('[daemon]\nmetrics = "::1:9753"', "daemon.metrics"),
        ('[daemon]\nmetrics = "[127.0.0.1]:9753"', "daemon.metrics"),
        ("[[daemon]]\ntick_seconds = 2", "daemon"),
        ("[docker_profiles.x]\ny = 1", "docker_profiles.x"),
    ],
)
def test_a_wrong_value_in_another_section_is_named(lines: str, place: str) -> None:
    found = mistakes(f"{VALID}\n{lines}\n")
    assert found[0].place == place
    assert found[0].line is not None
    assert found[0].line > len(VALID.splitlines())


def test_one_mistake_about_the_machine_brings_no_others() -> None:
    only(f'{VALID}\n[machine]\nreserved = {{ cpu = "x" }}\n')
    only(f"{VALID}\n[engine]\nmemory = 127\n")


def test_a_machine_may_be_too_small() -> None:
    small = Capacity(cores=1, memory=Bytes(30 * MIB))
    text = VALID + "[machine]\nwhole_cores = true"
    places = [one.place for one in mistakes(text, small)]
    assert "machine.reserved.cpu" in places
    assert "machine.reserved.memory" in places


BAD_PATHS = [
    *("/", "/proc", "/proc/self", "/sys", "/dev/shm", "/run", "/var/run/docker.sock", "/etc"),
    *("/var/lib/docker/x", "/a//b", "/a/", "/a/./b", "/a/..", "a", "", "/a:b", "/a\\nb"),
    "/" + "a" * 5000,
]


@pytest.mark.parametrize("path", BAD_PATHS, ids=lambda path: path[:20])
def test_no_volume_gives_the_host_away(path: str) -> None:
    text = VALID.replace('["/media/references"]', f'["/media", "{path}"]')
    mistake = only(text)
    assert mistake.place == "volumes_ro[1]"
    assert mistake.line == 1


def test_a_volume_named_twice_is_a_mistake_and_so_is_what_is_no_text() -> None:
    text = VALID.replace('["/media/references"]', '["/a",\n\n5, "/a", "/etc/ssl"]')
    assert [(one.place, one.line) for one in mistakes(text)] == [
        ("volumes_ro[1]", 3),
        ("volumes_ro[2]", 3),
    ]


@pytest.mark.parametrize(
    "image",
    ["a", "a:b", "a/b", "localhost:5000/a/b:v1.0_x", "quay.io/a__b-c.d@sha256:" + "0" * 64],
)
def test_what_docker_takes_for_an_image_is_taken(image: str) -> None:
    config = parse(VALID.replace("quay.io/jupyterhub/singleuser:main", image))
    assert config.images["SingleUser"] == image


@pytest.mark.parametrize("image", ["", "A", "a b", "a:", "a@sha256:0", "-a", "a:b:c", "a" * 600])
def test_what_docker_does_not_take_for_an_image_is_a_mistake(image: str) -> None:
    text = VALID.replace("quay.io/jupyterhub/singleuser:main", image)
    assert only(text).place == "docker_profiles.SingleUser"


@pytest.mark.parametrize(
    "section",
    ["resource_profiles", "user_profiles", "group_profiles", "docker_profiles"],
)
def test_a_name_that_cannot_be_shown_is_a_mistake(section: str) -> None:
    value = '"a"' if section == "docker_profiles" else "{ cpu_limit = 1, mem_limit = 1 }"
    if section in {"user_profiles", "group_profiles"}:
        value = "{}"
    lines = VALID.splitlines()
    mistake = only("\n".join([f'{section}."a\\nb" = {value}', *dotted(lines)]))
    assert mistake.place == f'{section}."a\\nb"'
    assert mistake.line == 1


def dotted(lines: list[str]) -> list[str]:
    """The same without table headers."""
    table = ""
    found = []
    for line in lines:
        if line.startswith("["):
            table = line.strip("[]") + "."
        elif line:
            found.append(table + line)
    return found


@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("tick_second = 5", "did you mean 'tick_seconds'?"),
        ("volumes_ro = []", "volumes_ro belongs at the top of the file, above the first [section]"),
        ("queue_length = 5", "queue_length belongs in [admission]"),
        ("cpu_limit = 5", "cpu_limit belongs in [adopted]"),
        (
            "Zzz = 5",
            (
                "known here: hub_users, metrics, tick_seconds, history_seconds, receipts_kept, "
                "resize_grace_seconds"
            ),
        ),
    ],
)
def test_an_unknown_key_is_told_what_was_perhaps_meant(line: str, right: str) -> None:
    mistake = only(f"{VALID}\n[daemon]\n{line}\n")
    assert mistake.right == right
    assert mistake.place == f"daemon.{line.partition(' ')[0]}"


def test_an_unknown_section_is_told_the_nearest() -> None:
    assert only(f"{VALID}\n[deamon]\n").right == "did you mean 'daemon'?"


@pytest.mark.parametrize(
    ("text", "line", "wrong"),
    [
        ("a = 1\nb = \n", 2, "not TOML at column 5"),
        ("a = 1\na = 2\n", 2, "not TOML at column 6"),
        ("a = [1,", 1, "not TOML at the end"),
        ("a = " + "[" * 5000, 1, "nested too deeply"),
        ("\n" + "a." * 5000 + "b = 1", 2, "nested too deeply"),
        ("a = " + "{a=" * 5000, 1, "nested too deeply"),
        ("a = " + "1" * 5000, None, "too much for a reader of TOML"),
        ("#" * (MIB + 1), None, "the file has 1 MiB"),
    ],
)
def test_what_is_no_toml_is_told_where(text: str, line: int | None, wrong: str) -> None:
    mistake = only(text)
    assert (mistake.line, mistake.wrong) == (line, wrong)
    assert mistake.right
    assert mistake.place == ""


def test_nesting_the_scanner_could_not_see_is_refused_too() -> None:
    # the scanner stops at the lone brace; tomllib sees the same and complains
    assert only("} \na = " + "[" * 50_000).line == 1


def test_thousands_of_mistakes_are_counted_not_listed() -> None:
    lines = "\n".join(f"k{number} = 1" for number in range(3000))
    with pytest.raises(ConfigError) as caught:
        parse(f"{VALID}\n[daemon]\n{lines}")
    assert len(caught.value.mistakes) == 1000
    assert len(str(caught.value).splitlines()) == 201
    assert str(caught.value).endswith("800 more mistakes")


def test_values_are_shown_in_a_few_words() -> None:
    assert show(None) == "nothing"
    assert show(True) == "true"
    assert show({"a": 1}) == "a table"
    assert show(dt.date(2024, 1, 1)) == "2024-01-01"
    assert len(show("x" * 1000)) == 60
    assert show_place(("a b", 2, "x" * 100, "\n")) == f'"a b"[2]."{"x" * 57}..."."\\n"'


@settings(max_examples=examples(300))
@given(st.text(max_size=200))
def test_whatever_text_comes_only_our_own_error_does(text: str) -> None:
    attempt(text)


@settings(max_examples=examples(300))
@given(st.text(alphabet='[]{}.="\'\\\n #,a1-_"', max_size=60))
def test_whatever_looks_like_toml_only_our_own_error_comes(text: str) -> None:
    attempt(text)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 200),
    st.floats(width=32),
    st.text(max_size=8),
    st.sampled_from(["50%", "1G", "Tiny", "/home/{username}", "10 GiB", "queue"]),
)
VALUES = st.recursive(
    SCALARS.filter(lambda value: value is not None),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=4,
)


@settings(max_examples=examples(100))
@given(trees(), st.data())
def test_a_valid_document_with_anything_changed_in_it_is_valid_or_told_where(
    tree: dict[str, Any], data: st.DataObject
) -> None:
    for _ in range(data.draw(st.integers(1, 3))):
        mutate(tree, data)
    attempt(document(tree), tree)


def mutate(tree: dict[str, Any], data: st.DataObject) -> None:
    """Change, add or take away one key anywhere in the tree."""
    holder: Any = tree
    while True:
        inner = [one for one in holder.values() if isinstance(one, dict)]
        if not inner or data.draw(st.booleans()):
            break
        holder = data.draw(st.sampled_from(inner))
    known = sorted(holder) or ["a"]
    key = data.draw(st.sampled_from(known) | st.text(max_size=5))
    if data.draw(st.booleans()):
        holder[key] = data.draw(VALUES)
    else:
        holder.pop(key, None)


def attempt(text: str, tree: dict[str, Any] | None = None) -> None:
    """Parse it; if there are mistakes, all of them can be shown and most have a line."""
    error = failure(text)
    if error is None:
        return
    assert error.mistakes
    assert str(error).encode()
    for mistake in error.mistakes:
        assert mistake.wrong
        assert mistake.right
        if tree and mistake.place.split(".", maxsplit=1)[0] in tree:
            assert mistake.line is not None


def failure(text: str) -> ConfigError | None:
    try:
        parse_config(text, CAPACITY)
    except ConfigError as error:
        return error
    return None


def test_lone_surrogates_do_no_harm() -> None:
    attempt('a = "\ud800"')
    attempt(VALID.replace("/media/references", "/media/\ud800"))
    attempt(VALID.replace("Tiny", '"\ud800"'))
    only(VALID.replace("/media/references", "/media/\ud800"))


def test_what_is_no_table_is_told_once_and_may_still_be_named() -> None:
    profile = VALID.replace("[resource_profiles.Tiny]\ncpu_limit = 1\nmem_limit = 2\n", "")
    found = mistakes(f"resource_profiles.Tiny = 5\n{profile}")
    assert [one.place for one in found] == ["resource_profiles.Tiny"]
    found = mistakes(f"user_profiles.x = []\ngroup_profiles = 'x'\n{VALID}")
    assert [one.place for one in found] == ["user_profiles.x", "group_profiles"]
    assert [one.line for one in found] == [1, 2]


def test_what_is_no_text_in_a_list_does_not_hide_the_next_mistake() -> None:
    found = mistakes(VALID.replace('["Tiny", "Large"]', '["Tiny", 5, "Lrge"]'))
    assert [one.found for one in found] == ["5", "'Lrge'"]


def test_processes_are_bounded_by_the_machine() -> None:
    text = VALID.replace(TINY, f"{TINY}tasks_limit = 2000\n")
    mistake = only(f"machine.tasks = 1000\n{text}")
    assert mistake.place == "resource_profiles.Tiny.tasks_limit"
    assert mistake.right == "write at most 1000 tasks"


def test_a_larger_machine_makes_no_new_mistakes() -> None:
    parse_config(VALID, Capacity(cores=400, memory=Bytes(4096 * GIB)))
