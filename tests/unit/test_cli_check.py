from __future__ import annotations

import json
import os
from argparse import Namespace
from pathlib import Path

import pytest

from enforcer import cli
from enforcer.cli.check import described_capacity
from enforcer.errors import EnforcerError
from tests.unit.configs import VALID

MACHINE = ("--cores", "40", "--memory", "128G", "--swap", "8G")


def test_a_right_file_shows_what_it_comes_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _file(tmp_path, VALID)
    assert cli.main(["check", file, *MACHINE]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        f"{file} is right. On a machine of 40 cores, 128G of memory, 8G of swap it means:"
    )
    large = next(line for line in lines if line.startswith("Large"))
    assert large.split()[:3] == ["Large", "10", "40G"]


def test_a_described_machine_has_the_cpus_it_is_said_to_have() -> None:
    described = described_capacity(Namespace(cores=40, memory=None, swap=None))
    assert described.last_cpus(2) == (38, 39)


@pytest.mark.parametrize(("flag", "value"), [("cores", "0"), ("memory", "0"), ("memory", "1 B")])
def test_a_machine_with_nothing_in_it_is_refused(tmp_path: Path, flag: str, value: str) -> None:
    with pytest.raises(EnforcerError, match=f"--{flag} {value} is no machine"):
        cli.main(["check", _file(tmp_path, VALID), f"--{flag}", value])


def test_all_mistakes_come_at_once_with_their_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _file(tmp_path, VALID.replace("cpu_limit = 1\n", "cpu_limit = -1\ncpu_limti = 1\n"))
    assert cli.main(["check", file, *MACHINE]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{file}: 2 mistakes"
    assert f"  {file}:4: resource_profiles.Tiny.cpu_limit" in lines[1]
    assert "did you mean 'cpu_limit'?" in lines[2]


def test_json_of_a_right_file_has_cores_and_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["check", _file(tmp_path, VALID), "--json", *MACHINE]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["valid"] is True
    assert told["capacity"] == {"cpu": 40, "memory": 128 * 2**30, "swap": 8 * 2**30}
    assert told["resource_profiles"]["Large"]["cpu_limit"] == 10
    assert told["resource_profiles"]["Large"]["mem_limit"] == 40 * 2**30
    assert told["user_profiles"]["default"]["max_cpu_guarantee"] == 5


def test_json_of_a_wrong_file_has_the_mistakes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["check", _file(tmp_path, "x = 1"), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["valid"] is False
    assert {"place": "x", "line": 1} in [
        {key: one[key] for key in ("place", "line")} for one in told["mistakes"]
    ]


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(EnforcerError) as raised:
        cli.main(["check", str(tmp_path / "none.toml")])
    assert raised.value.code == "file.unreadable"


def test_what_is_no_text_is_no_configuration(tmp_path: Path) -> None:
    file = tmp_path / "some.toml"
    file.write_bytes(b"a = '\xff'")
    with pytest.raises(EnforcerError) as raised:
        cli.main(["check", str(file)])
    assert raised.value.code == "file.not-utf8"
    assert "byte 5 is 0xff" in raised.value.message


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "huge.toml"
    with file.open("wb") as opened:
        os.truncate(opened.fileno(), 2**40)
    with pytest.raises(EnforcerError) as raised:
        cli.main(["check", str(file)])
    assert raised.value.code == "file.too-large"


def test_hostile_names_in_a_file_are_shown_harmless(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _file(tmp_path, '["[red]\\u001b]0;owned\\u0007"]\n')
    assert cli.main(["check", file]) == 1
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "[red]" in out


def _file(folder: Path, text: str) -> str:
    file = folder / "enforcer.toml"
    file.write_text(text)
    return str(file)
