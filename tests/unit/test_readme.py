"""What README.org shows must work: its configuration, its commands."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from enforcer.__main__ import COMMANDS, main
from enforcer.metrics import Metrics
from enforcer.model import AdmissionMode, Usage
from tests.fakes_operations import FakeOperations
from tests.unit.configs import parse
from tests.unit.worlds import config, lease

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


def test_its_queries_are_of_metrics_that_there_are() -> None:
    operations = FakeOperations(config())
    one = lease("ada", "small", promised=(1, 2))
    operations.book = replace(operations.book, leases=(one,))
    operations.usage[one.unit] = Usage(cpu_usec=1)
    operations.tick()
    text = Metrics(operations.published).render().decode()
    asked = set(re.findall(r"enforcer_\w+", block("promql")))
    assert asked
    assert asked <= set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))


def test_it_names_every_command() -> None:
    named = set(re.findall(r"=(?:enforcer )?([a-z-]+)(?: [^=]*)?=", README))
    assert named >= COMMANDS.keys()


def test_it_names_no_command_that_there_is_not() -> None:
    typed = re.findall(r"^(?:sudo )?(?:python3 -m )?enforcer ([a-z-]+)", README, re.MULTILINE)
    assert typed
    assert set(typed) <= COMMANDS.keys()


def test_its_options_are_the_commands_own(capsys: pytest.CaptureFixture[str]) -> None:
    lines = README.replace("\\\n", " ")
    typed = r"(?:^|=)(?:sudo )?(?:python3 -m )?enforcer ([a-z-]+)([^#=\n]*)"
    shown = 0
    for command, words in re.findall(typed, lines, re.MULTILINE):
        with suppress(SystemExit):  # argparse's
            main([command, "--help"])
        known = capsys.readouterr().out
        for option in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", words):
            assert re.search(rf"^ +(?:-\w\b.*)?{option}\b", known, re.MULTILINE), (command, option)
            shown += 1
    assert shown > 10


def test_the_file_for_an_image_is_there_and_is_what_is_said_of_it() -> None:
    (name,) = set(re.findall(r"file:([^]]*jupyter_server_config\.py)", README))
    text = (Path(__file__).parents[2] / name).read_text()
    found = re.search(r"=mem_warning_threshold= [^:]*: ([0-9.]+)\.\n", README)
    assert found
    assert f"mem_warning_threshold = {found[1]}\n" in text
    assert f"COPY {Path(name).name} " in block("dockerfile")
