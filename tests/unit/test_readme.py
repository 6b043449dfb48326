"""What README.org shows must work: its configuration, its commands."""

from __future__ import annotations

import re
from pathlib import Path

from enforcer.__main__ import COMMANDS
from enforcer.model import AdmissionMode
from tests.unit.configs import parse

README = (Path(__file__).parents[2] / "README.org").read_text()


def block(language: str) -> str:
    """Take the first block of that language."""
    found = re.search(
        rf"^#\+begin_src {language}\n(.*?)^#\+end_src", README, re.DOTALL | re.MULTILINE
    )
    assert found
    return found[1]


def test_its_configuration_is_right() -> None:
    config = parse(block("toml"))
    assert config.profiles["Large"].admission is AdmissionMode.QUEUE
    assert config.daemon.hub_users == ("jupyterhub", "enforcer-pages")


def test_it_names_every_command() -> None:
    named = set(re.findall(r"=(?:enforcer )?([a-z-]+)(?: [^=]*)?=", README))
    assert named >= COMMANDS.keys()


def test_it_names_no_command_that_there_is_not() -> None:
    typed = re.findall(r"^(?:sudo )?(?:python3 -m )?enforcer ([a-z-]+)", README, re.MULTILINE)
    assert typed
    assert set(typed) <= COMMANDS.keys()


def test_the_file_for_an_image_is_there_and_is_what_is_said_of_it() -> None:
    (name,) = set(re.findall(r"file:([^]]*jupyter_server_config\.py)", README))
    text = (Path(__file__).parents[2] / name).read_text()
    found = re.search(r"=mem_warning_threshold= [^:]*: ([0-9.]+)\.\n", README)
    assert found
    assert f"mem_warning_threshold = {found[1]}\n" in text
    assert f"COPY {Path(name).name} " in block("dockerfile")
