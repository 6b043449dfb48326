"""Machines for the tests: built once, and each test has a clean one of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from enforcer import machine
from enforcer.bootstrap import Console
from tests.machine import ahead
from tests.machine.lab import SOURCE, Lab, open_lab


@pytest.fixture(scope="session")
def suite() -> str:
    """The guest's Debian. A test that is for others too parametrizes "suite"; see ON_BOTH."""
    return machine.DEFAULT_SUITE


@pytest.fixture
def layer(suite: str, request: pytest.FixtureRequest) -> machine.Layer:
    """A saved machine with dockerd up and idle."""
    return prepare(request, suite, None)


@pytest.fixture
def guest(layer: machine.Layer) -> Iterator[machine.Guest]:
    """A clean machine with dockerd up and idle."""
    with machine.start(layer) as started:
        yield started


@pytest.fixture
def lab(suite: str, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A clean machine with the enforcer installed and running, and nobody's container."""
    with open_lab(prepare(request, suite, SOURCE)) as opened:
        yield opened


_prepared = pytest.StashKey[dict[tuple[str, machine.Source | None], machine.Layer]]()


def prepare(
    request: pytest.FixtureRequest, suite: str, source: machine.Source | None
) -> machine.Layer:
    """A saved machine, looked for once in a session; who waits for its making sees why."""
    prepared = request.session.stash.setdefault(_prepared, {})
    if (suite, source) not in prepared:
        capture = request.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            prepared[suite, source] = ahead.build(suite, source, Console(sys.stderr).step)
    return prepared[suite, source]
