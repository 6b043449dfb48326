"""The adapters to the kernel and PID 1 on a real machine: the contract, and PID 1 in trouble."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from enforcer import machine
from tests.contract import kernel_contract
from tests.contract.kernel_contract import CHECKS, REAL_CHECKS
from tests.machine.conftest import prepare

CODE = "/usr/local/src/enforcer"
PYTHON = "/opt/enforcer/venv/bin/python"
ENFORCER = Path(machine.__file__).parents[1]


def run_inside(guest: machine.Guest, program: Path) -> machine.Completed:
    """Run a program with the checkout's code and the daemon's interpreter."""
    guest.copy_in(program, f"/root/{program.name}")
    command = ["env", f"PYTHONPATH={CODE}", PYTHON, f"/root/{program.name}"]
    return guest.run(command, timeout_seconds=300)


@pytest.fixture(scope="module", params=["trixie", pytest.param("bookworm", marks=pytest.mark.long)])
def results(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Every check's outcome, from one machine: each cleans up before it begins."""
    with machine.start(prepare(request, request.param, None)) as guest:
        guest.copy_in(ENFORCER, f"{CODE}/enforcer")
        done = run_inside(guest, Path(kernel_contract.__file__))
        yield json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", [check.__name__ for check in CHECKS + REAL_CHECKS])
def test_the_kernel_and_pid_1_keep_the_contract(name: str, results: dict[str, str]) -> None:
    assert not results[name], results[name]
