"""What holds for every test: nothing is left open, and no machine starts after a failure."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
import pytest_asyncio

from tests.examples import FEW, USUAL
from tests.run import HURRIED

# A slow machine is no failure, and a run that failed must fail again.
for _name, _examples in (("enforcer", USUAL), (HURRIED, FEW)):
    hypothesis.settings.register_profile(
        _name,
        max_examples=_examples,
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
        derandomize=True,
        print_blob=True,
        database=None,
    )
hypothesis.settings.load_profile("enforcer")

_HERE = Path(__file__).parent
_MARKED = {name: _HERE / name for name in ("machine", "browser", "hub")}
_MARKED["long"] = _HERE / "machine" / "hub"
"""Mark → folder: there a login takes seconds and a server half a minute."""
_LEAK_CHECK = "no_leaked_tasks"
_failed_on_the_host = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also the tests that take long")


def pytest_configure() -> None:
    # A worker process is told how wide the terminal is; what is tested here writes into files.
    os.environ.pop("COLUMNS", None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for name, folder in _MARKED.items():
            if item.path.is_relative_to(folder):
                item.add_marker(name)
        if isinstance(item, pytest.Function) and item.get_closest_marker("asyncio"):
            # First in, last out: what the test's own fixtures put away is no leak.
            item.fixturenames.insert(0, _LEAK_CHECK)
    _leave_out_long(config, items)


def _leave_out_long(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect, not skip: what nobody asked for is no news."""
    if config.getoption("--long"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    if long:
        items[:] = [item for item in items if item not in long]
        config.hook.pytest_deselected(items=long)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and item.get_closest_marker("machine") is None:
        item.session.stash[_failed_on_the_host] = True
    return report


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Minutes of machine tests tell little about code that fails in seconds."""
    if item.get_closest_marker("machine") and item.session.stash.get(_failed_on_the_host, False):
        pytest.skip("a test that needs no machine failed")


@pytest.fixture(autouse=True)
def _no_leaked_descriptors() -> Iterator[None]:
    before = _descriptors()
    yield
    deadline = time.monotonic() + 2  # a thread that was told to end does so a moment later
    while leaked := {
        number: to for number, to in _descriptors().items() if before.get(number) != to
    }:
        assert time.monotonic() < deadline, f"left open: {leaked}"
        time.sleep(0.02)


@pytest_asyncio.fixture
async def no_leaked_tasks() -> AsyncIterator[None]:
    yield
    current = asyncio.current_task()
    leaked = [task.get_name() for task in asyncio.all_tasks() if task is not current]
    assert not leaked, f"left running: {leaked}"


def _descriptors() -> dict[str, str]:
    """Number of each open descriptor, and what it is open to."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found[entry.name] = str(entry.readlink())
        except FileNotFoundError:
            continue  # the one that lists them
    return found
