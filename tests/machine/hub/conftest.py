"""Machines with the hub: a clean one for a test that changes it, one for those that do not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from enforcer import machine
from tests.machine.conftest import prepare
from tests.machine.hub.hublab import SOURCE, HubLab, open_hub


@pytest.fixture
def clean_hub(request: pytest.FixtureRequest) -> Iterator[HubLab]:
    """A clean machine with the hub up, for this test alone."""
    with open_hub(_layer(request)) as opened:
        yield opened


@pytest.fixture(scope="module")
def shared_hub(request: pytest.FixtureRequest) -> Iterator[HubLab]:
    """One machine for all tests of a module; they take `hub`."""
    with open_hub(_layer(request)) as opened:
        yield opened


@pytest.fixture
def hub(shared_hub: HubLab) -> Iterator[HubLab]:
    """The module's machine; each of its tests has users of its own."""
    yield shared_hub
    shared_hub.hang_up()


def _layer(request: pytest.FixtureRequest) -> machine.Layer:
    return prepare(request, machine.DEFAULT_SUITE, SOURCE)
