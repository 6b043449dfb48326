"""Samples say what held a lease back, wherever the quota is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from enforcer.history import History, Sampler, held_back
from enforcer.history import sample as sample_of
from enforcer.model import Cgroup, Limits, Observed, Sample, Usage
from enforcer.names import ROOT, UnitName, lease_slice, profile_slice
from enforcer.quantities import Bytes, Cpus
from enforcer.receipts import Account
from tests.unit.worlds import cpus, gib, lease, observed

LEAF = lease_slice("small", "ann", "")


def sample(throttled: float, waited: float) -> Sample:
    return Sample(
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
    ann, before, now = lease("ann"), world(100_000), world(400_000, seconds=2.0)
    sampler = Sampler()
    sampler.take(None, before, [ann], {ann.id: Account()})
    accounts = {ann.id: Account(killed_own=2, killed_victim=3, limit_at_kill=gib(3))}
    found = sampler.take(before, now, [ann], accounts)
    expected = sample_of(ann.unit, before, now)
    assert expected is not None
    assert expected.cpu == cpus(0.15)
    assert found[ann.unit] == replace(
        expected, oom_kills=5, oom_own=2, cpu_limit=cpus(2), mem_limit=gib(3)
    )


def test_who_does_nothing_has_one_sample_until_something_is_another() -> None:
    ann, accounts = lease("ann"), {lease("ann").id: Account()}
    first = world(100_000)
    second, third, fourth = (replace(first, taken_at=first.taken_at + n) for n in (1, 2, 3))
    sampler = Sampler()
    one = sampler.take(first, second, [ann], accounts)[ann.unit]
    assert (one.cpu, one.cpu_limit, one.mem_limit) == (0, cpus(2), gib(4))
    assert sampler.take(second, third, [ann], accounts)[ann.unit] is one
    resized = replace(ann, grant=replace(ann.grant, cpu_limit=cpus(1)))
    smaller = sampler.take(third, fourth, [resized], accounts)[ann.unit]
    assert smaller == replace(one, cpu_limit=cpus(1))
    killed = {ann.id: Account(killed_victim=1)}
    assert sampler.take(third, fourth, [resized], killed)[ann.unit].oom_kills == 1
    assert sampler.take(third, fourth, [resized], killed)[ann.unit] == smaller
    fifth = world(300_000, seconds=4.0)
    assert sampler.take(fourth, fifth, [resized], killed)[ann.unit].cpu == cpus(0.2)


def world(cpu_usec: int, *, seconds: float = 0.0) -> Observed:
    leaf = Cgroup(
        unit=lease("ann").unit,
        limits=Limits(memory_max=gib(4)),
        usage=Usage(cpu_usec=cpu_usec, memory_current=gib(1)),
        populated=True,
    )
    return observed([leaf], at=100.0 + seconds)


def test_samples_are_kept_for_as_long_as_was_said_last() -> None:
    history, one = History(), sample(0.1, 0.0)

    def told() -> list[float]:
        return [at for at, _ in history.get("a")]

    history.keep_last(900.0, 2000)
    for at in range(0, 1000, 9):
        history.add(at / 10, {"a": one})
    assert told() == [at / 10 for at in range(0, 1000, 9)], "however often there was one"
    history.add(930.0, {"a": one})
    assert told()[0] == 30.6, "900 seconds and no more"
    history.keep_last(10.0, 2000)
    history.add(939.0, {"a": one})
    assert told() == [930.0, 939.0]
    history.keep_last(0.0, 2)
    history.add(940.0, {"a": one})
    assert told() == [940.0]


def test_a_clock_that_was_set_back_makes_no_more_samples_than_were_to_be_kept() -> None:
    history, one = History(), sample(0.1, 0.0)
    history.keep_last(100.0, 3)
    for at in (5000.0, 1.0, 2.0, 3.0):
        history.add(at, {"a": one})
    assert [at for at, _ in history.get("a")] == [1.0, 2.0, 3.0]
    history.keep_last(100.0, 2)
    assert [at for at, _ in history.get("a")] == [2.0, 3.0]


def test_a_slice_without_a_sample_has_none() -> None:
    assert held_back(UnitName("other.slice"), {}) is None
