"""Making a guest's disk: what is fetched for it together."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from enforcer.errors import UnavailableError
from enforcer.machine.image import run_together


def test_what_is_fetched_together_is_all_there_afterwards(tmp_path: Path) -> None:
    calls: list[None] = []
    names = [str(number) for number in range(7)]
    commands = [("sh", "-c", f"sleep 0.3; touch {tmp_path / name}") for name in names]
    run_together(commands, lambda: calls.append(None))
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert calls


def test_one_failure_ends_the_others_and_is_the_one_that_is_told(tmp_path: Path) -> None:
    begin = time.monotonic()
    late = ("sh", "-c", f"sleep 60; touch {tmp_path / 'late'}")
    with pytest.raises(UnavailableError, match="no such package"):
        run_together(
            [late, late, ("sh", "-c", "echo no such package; exit 3"), *[late] * 5], lambda: None
        )
    assert time.monotonic() - begin < 30
    assert not list(tmp_path.iterdir())


def test_who_interrupts_waits_for_nobody() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_together([("sleep", "60")] * 6, interrupt)
    assert time.monotonic() - begin < 30
