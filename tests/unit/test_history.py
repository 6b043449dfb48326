"""Samples say what held a lease back, wherever the quota is."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from enforcer.history import History, held_back, of_leases
from enforcer.model import Sample
from enforcer.names import ROOT, UnitName, lease_slice, profile_slice
from enforcer.quantities import Bytes, Cpus
from enforcer.receipts import Account
from tests.unit.worlds import cpus, gib, lease, observed

LEAF = lease_slice("small", "ann", "")


def sample(throttled: float, waited: float) -> Sample:
    return Sample(
        at=1.0,
        cpu=Cpus(0),
        memory=Bytes(0),
        throttled=throttled,
        cpu_pressure=waited,
        memory_pressure=0.0,
        io_pressure=0.0,
        oom_kills=0,
    )


@pytest.mark.parametrize(
    ("own", "waited", "profile", "root", "told"),
    [
        (0.0, 0.0, 0.0, 0.0, 0.0),
        (0.4, 0.5, 0.1, 0.0, 0.4),
        (0.0, 0.9, 0.6, 0.2, 0.6),
        (0.0, 0.3, 0.6, 0.2, 0.3),  # it was idle for most of the time
        (0.0, 0.0, 1.0, 1.0, 0.0),  # and here for all of it
    ],
)
def test_a_quota_above_counts_for_as_long_as_one_had_to_wait(
    own: float, waited: float, profile: float, root: float, told: float
) -> None:
    rates = {
        LEAF: sample(own, waited),
        profile_slice("small"): sample(profile, 1.0),
        ROOT: sample(root, 1.0),
    }
    found = held_back(LEAF, rates)
    assert found is not None
    assert found.throttled == pytest.approx(told)


def test_a_leases_sample_is_its_leafs_but_for_the_kills_and_the_limits() -> None:
    ann = lease("ann")
    # none is at its default, and no two are alike
    numbers: dict[str, Any] = {one.name: 100 + place for place, one in enumerate(fields(Sample))}
    of_leaf = Sample(**numbers)
    accounts = {ann.id: Account(killed_own=2, killed_victim=3, limit_at_kill=gib(3))}
    found = of_leases({ann.unit: of_leaf}, [ann], observed(), {ann.id: Account()}, accounts)
    assert found[ann.unit] == replace(
        of_leaf, oom_kills=5, oom_own=2, cpu_limit=cpus(2), mem_limit=gib(3)
    )


def test_only_the_last_samples_are_kept_and_so_many_as_was_said_last() -> None:
    history = History()
    one, two, three = (sample(throttled, 0.0) for throttled in (0.1, 0.2, 0.3))
    history.keep_last(2)
    for each in (one, two, three):
        history.add({"a": each})
    assert history.get("a") == (two, three)
    history.keep_last(3)
    history.add({"a": one})
    assert history.get("a") == (two, three, one)
    history.keep_last(0)
    assert history.get("a") == (one,)


def test_a_slice_without_a_sample_has_none() -> None:
    assert held_back(UnitName("other.slice"), {}) is None
