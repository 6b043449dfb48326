from __future__ import annotations

import re
import subprocess
from dataclasses import replace

import pytest

from enforcer.errors import InvalidError
from enforcer.machine import recipe
from enforcer.machine.contents import File

TRIXIE = recipe.recipe_for("trixie", "aiohttp==3\n")
FILES = recipe.HubFiles(
    hub="tornado==6\n",
    lab="jupyterlab==4\n",
    lab_config="c = get_config()\n",
    proxy_package="{}",
    proxy_lock="{}",
)
HUB = recipe.recipe_for("trixie", "aiohttp==3\n", FILES)
TCG = recipe.Hardware(accelerator="tcg", version="7.2", processor="a")


def test_the_same_recipe_has_the_same_key() -> None:
    assert recipe.disk_key(TRIXIE) == recipe.disk_key(recipe.recipe_for("trixie", "aiohttp==3\n"))


@pytest.mark.parametrize(
    "other",
    [
        recipe.recipe_for("bookworm", "aiohttp==3\n"),
        recipe.recipe_for("trixie", "aiohttp==4\n"),
        replace(TRIXIE, packages=(*TRIXIE.packages, "vim")),
        replace(TRIXIE, setup=TRIXIE.setup + "true\n"),
        replace(TRIXIE, files=(*TRIXIE.files, File("/etc/motd", "hello\n"))),
        replace(TRIXIE, disk_gib=20),
        HUB,
    ],
    ids=["suite", "requirements", "packages", "setup", "files", "disk", "hub"],
)
def test_whatever_changes_the_disk_changes_its_key(other: recipe.Recipe) -> None:
    assert recipe.disk_key(other) != recipe.disk_key(TRIXIE)


@pytest.mark.parametrize("file", ["hub", "lab", "lab_config", "proxy_package", "proxy_lock"])
def test_each_file_of_the_hub_is_part_of_the_key(file: str) -> None:
    changed = replace(FILES, **{file: "other==1\n"})
    other = recipe.recipe_for("trixie", "aiohttp==3\n", changed)
    assert recipe.disk_key(other) != recipe.disk_key(HUB)


def test_what_happens_after_the_boot_is_no_part_of_the_disk() -> None:
    later = replace(HUB, booted=(*HUB.booted, "true"), memory_mib=8192)
    assert recipe.disk_key(later) == recipe.disk_key(HUB)
    assert recipe.booted_key("disk", TCG, later.booted) != recipe.booted_key(
        "disk", TCG, HUB.booted
    )


def test_the_daemons_guest_has_nothing_of_the_hub() -> None:
    assert "nodejs" not in TRIXIE.packages
    assert [venv.path for venv in TRIXIE.venvs] == ["/opt/enforcer/venv"]
    assert not TRIXIE.node
    assert {venv.path for venv in HUB.venvs} > {venv.path for venv in TRIXIE.venvs}


def test_permissions_of_a_file_are_part_of_the_key() -> None:
    one = replace(TRIXIE, files=(File("/etc/motd", "hello\n", 0o600),))
    other = replace(TRIXIE, files=(File("/etc/motd", "hello\n", 0o644),))
    assert recipe.disk_key(one) != recipe.disk_key(other)


@pytest.mark.parametrize(
    "other",
    [
        replace(TCG, accelerator="kvm"),
        replace(TCG, version="8.2"),
        replace(TCG, processor="b"),
        replace(TCG, cpus=4),
        replace(TCG, memory_mib=8192),
        replace(TCG, kernel_arguments="quiet"),
    ],
    ids=["accelerator", "version", "processor", "cpus", "memory", "arguments"],
)
def test_a_state_saved_on_other_hardware_is_another_state(other: recipe.Hardware) -> None:
    assert recipe.booted_key("disk", other, []) != recipe.booted_key("disk", TCG, [])


def test_no_two_lists_of_commands_run_together() -> None:
    keys = {
        recipe.installed_key("booted", "source", commands)
        for commands in (["ab"], ["a", "b"], ["b", "a"], ["ab", ""], [])
    }
    assert len(keys) == 5


def test_the_order_in_which_files_are_found_does_not_matter() -> None:
    found = {"a": b"1", "b": b"2"}
    assert recipe.source_digest(found) == recipe.source_digest(dict(reversed(found.items())))


def test_a_source_is_its_paths_and_its_bytes() -> None:
    trees: list[dict[str, bytes]] = [{"a": b"1"}, {"b": b"1"}, {"a": b"2"}, {"a": b"", "1": b""}]
    assert len({recipe.source_digest(tree) for tree in trees}) == 4


def test_an_unknown_suite_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(InvalidError) as caught:
        recipe.recipe_for("buster", "")
    assert "buster" in caught.value.message
    assert "trixie" in caught.value.hint


def test_environments_are_made_side_by_side_and_one_that_fails_fails_the_whole() -> None:
    script = HUB.setup.partition("systemd-machine-id-setup")[0] + "echo made\n"
    for tool, does in (("python3", "true"), ("sha256sum", "echo x")):
        script = script.replace(f"{tool} ", f"{does} ")
    script = re.sub(r"/opt/\S+/pip install", "$INSTALL", script)
    script = re.sub(r"> /opt/\S+", "> /dev/null", script)
    for install, code in (("true", 0), ("false", 1)):
        words = ["env", f"INSTALL={install}", "sh", "-c", script]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
        assert done.returncode == code
        assert done.stdout == ("made\n" if code == 0 else "")
