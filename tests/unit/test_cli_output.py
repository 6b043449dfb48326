"""What a command does that cannot write its answer."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.unit.configs import VALID
from tests.unit.test_ancestor import SEED

MACHINE = "--cores 40 --memory 128G --swap 8G"
ANSWERING = pytest.mark.parametrize(
    "words",
    [
        f"check enforcer.toml {MACHINE}",
        f"check enforcer.toml {MACHINE} --json",
        f"import jupyterhub_config.py {MACHINE}",
        "hub-config --defaults --hub-ip 172.17.0.1 -o -",
        "status --help",
        "install --help",
        "--version",
    ],
)


def answer_into(
    output: int, words: str, folder: Path, within: Sequence[str] = ()
) -> tuple[int, list[str]]:
    """Run a command that writes to a descriptor; its exit code, and what it says of errors.

    within: what is to run the command.
    """
    (folder / "enforcer.toml").write_text(VALID)
    (folder / "jupyterhub_config.py").write_text(SEED)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        [*within, sys.executable, "-m", "enforcer", *words.split()],
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
        env={**environment, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    return done.returncode, done.stderr.splitlines()


@ANSWERING
def test_an_answer_for_which_there_is_no_room_is_an_error_of_two_lines(
    words: str, tmp_path: Path
) -> None:
    with Path("/dev/full").open("w") as full:
        code, errors = answer_into(full.fileno(), words, tmp_path)
    command = words.partition(" ")[0]
    assert errors == [
        f"enforcer {command}: the answer could not be written: No space left on device",
        "  What to do: make room there, or have it written elsewhere",
    ]
    assert code == 1


def test_so_is_one_for_a_file_that_may_not_grow(tmp_path: Path) -> None:
    with (tmp_path / "answer").open("w") as answer:
        limited = ("prlimit", "--fsize=0")
        code, errors = answer_into(answer.fileno(), "status --help", tmp_path, limited)
    assert "the answer could not be written: File too large" in errors[0]
    assert (code, len(errors)) == (1, 2)


@ANSWERING
def test_an_answer_that_nobody_reads_is_no_failure_worth_a_message(
    words: str, tmp_path: Path
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert answer_into(writer, words, tmp_path) == (1, [])
    finally:
        os.close(writer)
