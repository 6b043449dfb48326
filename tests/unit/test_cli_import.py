"""`enforcer import` as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from enforcer import cli
from enforcer.__main__ import main as enforcer
from tests.unit.configs import parse
from tests.unit.test_ancestor import SEED

MACHINE = ("--cores", "40", "--memory", "128G", "--swap", "8G")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    file = tmp_path / "jupyterhub_config.py"
    file.write_text(SEED)
    return file


def test_the_configuration_goes_to_standard_output(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["import", str(old), *MACHINE]) == 0
    assert list(parse(capsys.readouterr().out).profiles)[-1] == "Extreme"
    assert cli.main(["import", str(old), "--json", *MACHINE]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["valid"] is True
    parse(told["configuration"])


def test_a_file_that_is_there_is_kept(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "enforcer.toml"
    words = ["import", str(old), "-o", str(target), *MACHINE]
    assert cli.main(words) == 0
    assert f"enforcer check {target}" in capsys.readouterr().err
    written = target.read_text()
    assert cli.main(words) == 0
    assert "as it was" in capsys.readouterr().err
    target.write_text("# mine\n")
    assert cli.main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"valid": True, "path": f"{target}.new", "fate": "beside"}
    assert target.read_text() == "# mine\n"
    assert cli.main(words) == 0
    assert "was kept" in capsys.readouterr().err
    assert cli.main([*words, "--force"]) == 0
    assert target.read_text() == written


def test_with_a_mistake_nothing_is_written(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old.write_text(SEED.replace('"cpu_limit": 1,', '"cpu_limit": cores,'))
    target = tmp_path / "enforcer.toml"
    assert cli.main(["import", str(old), "-o", str(target), *MACHINE]) == 1
    [head, mistake] = capsys.readouterr().out.splitlines()
    assert head == f"{old}: 1 mistake"
    assert mistake.startswith(f"  {old}:6: resource_profiles.Tiny.cpu_limit: cores (line 6)")
    assert not target.exists()
    assert cli.main(["import", str(old), "--json", *MACHINE]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["valid"] is False
    assert [one["line"] for one in told["mistakes"]] == [6]


def test_the_amounts_are_checked_for_the_machine_that_is_described(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["import", str(old), "--cores", "4", "--memory", "8G"]) == 1
    assert "is more than the containers have together" in capsys.readouterr().out


def test_a_file_that_is_not_there_is_said_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert enforcer(["import", str(tmp_path / "none.py")]) == 1
    assert "cannot read" in capsys.readouterr().err


def test_hostile_names_do_the_terminal_no_harm(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old.write_text(SEED.replace('"Small"  :', '"\\x1b]0;owned\\x07[red]"  :'))
    assert cli.main(["import", str(old), *MACHINE]) == 1
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x07" not in out
