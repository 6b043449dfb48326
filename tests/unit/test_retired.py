"""Profiles that a new configuration has no more: what runs in them is held to what they were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from enforcer.book import Terms
from enforcer.desired import desired
from enforcer.leases import Book
from enforcer.model import Claim, Config, Lease, Limits, ResourceProfile, Rights
from enforcer.names import ROOT, WORKLOAD, UnitName, ancestors, user_slice
from enforcer.policy import rights
from enforcer.quantities import Bytes
from enforcer.regrant import regrant
from enforcer.room import Amount, limited, profile_total
from enforcer.tree import Totals, totals_of
from tests.examples import examples
from tests.unit.worlds import config, cpus, gib, lease, observed, profile

NAMES: Final = ("p", "q", "r")
USERS: Final = ("ada", "bob")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload:
    """Two configurations of one machine, and the leases there are when the second one comes."""

    before: Config
    after: Config
    leases: tuple[Lease, ...]
    totals: Totals

    def rights_of(self, claim: Claim) -> Rights:
        cpu, memory = self.totals[claim.user]
        return Rights(
            user=claim.user,
            profiles=tuple(self.after.profiles),
            images=("base",),
            home=None,
            max_cpu_guarantee=cpus(3),
            max_mem_guarantee=gib(12),
            cpu_total=cpu,
            mem_total=memory,
            servers_max=None,
            admission=None,
        )

    def limits_before(self) -> Mapping[UnitName, Limits]:
        return self._limits(self.before, self.leases)

    def limits_after(self) -> Mapping[UnitName, Limits]:
        terms = Terms(config=self.after, rights_of=self.rights_of, containers=0)
        return self._limits(self.after, regrant(Book(self.leases), terms).book.leases)

    def _limits(self, its: Config, leases: tuple[Lease, ...]) -> Mapping[UnitName, Limits]:
        found = desired(its, leases, observed(), totals=self.totals).slices
        return {unit: one.limits for unit, one in found.items()}


amounts = st.integers(1, 8)


@st.composite
def profiles(draw: st.DrawFn, name: str) -> ResourceProfile:
    cores, memory = draw(amounts), draw(amounts)
    totals = draw(st.booleans())
    return replace(
        profile(name, cores / 2, memory),
        swap_limit=gib(draw(st.integers(0, 2))),
        mem_throttle=draw(st.none() | st.integers(1, memory).map(gib)),
        tasks_limit=draw(st.none() | st.integers(10, 20)),
        io_weight=draw(st.none() | st.integers(1, 1000)),
        cpu_total=cpus(cores / 2 + draw(amounts)) if totals else None,
        mem_total=gib(memory + draw(amounts)) if totals else None,
        tasks_total=draw(st.none() | st.integers(20, 40)),
    )


@st.composite
def reloads(draw: st.DrawFn) -> Reload:
    before = config(*[draw(profiles(name)) for name in NAMES[:2]])
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    after = config(*[draw(profiles(name)) for name in names])
    leases = []
    for server in range(draw(st.integers(1, 5))):
        one = draw(st.sampled_from(list(before.profiles.values())))
        made = lease(
            draw(st.sampled_from(USERS)),
            one.name,
            server=f"s{server}",
            limit=(one.cpu_limit / cpus(1), one.mem_limit / gib(1)),
            promised=(draw(st.sampled_from([0, 0.5])), draw(st.sampled_from([0, 0.5, 1]))),
        )
        leases.append(made)
    totals = {user: (cpus(draw(amounts)), gib(draw(amounts))) for user in USERS}
    complete = after.with_retired(before.all_profiles)
    return Reload(before=before, after=complete, leases=tuple(leases), totals=totals)


def lifted(before: Limits, after: Limits) -> set[str]:
    """Return which of a slice's ceilings are higher than they were, or gone."""
    pairs = {
        "cpu_quota": (before.cpu_quota, after.cpu_quota),
        "memory_high": (_throttled_from(before), _throttled_from(after)),
        "memory_max": (before.memory_max, after.memory_max),
        "swap_max": (before.swap_max, after.swap_max),
        "tasks_max": (before.tasks_max, after.tasks_max),
    }
    return {
        name for name, (old, new) in pairs.items() if old is not None and (new is None or new > old)
    }


def _throttled_from(limits: Limits) -> Bytes | None:
    """A throttle that a lower limit makes pointless is not lifted."""
    found = [one for one in (limits.memory_high, limits.memory_max) if one is not None]
    return min(found, default=None)


@settings(max_examples=examples(200))
@given(reloads())
def test_a_reload_lifts_no_limit_of_what_runs_unless_the_files_profile_says_so(one: Reload) -> None:
    was, is_now = one.limits_before(), one.limits_after()
    for held in one.leases:
        path = (held.unit, *ancestors(held.unit))
        of_file = one.after.profiles.get(held.profile)
        for unit in path if of_file is None else (WORKLOAD, ROOT):
            assert lifted(was[unit], is_now[unit]) == set(), unit
        leaf = is_now[held.unit]
        if of_file is None:
            assert leaf.io_weight == was[held.unit].io_weight
        else:
            assert leaf.tasks_max == of_file.tasks_limit
            assert leaf.swap_max == of_file.swap_limit


@settings(max_examples=examples(100))
@given(reloads())
def test_what_a_profile_had_in_all_bounds_what_may_be_promised_in_it_as_before(one: Reload) -> None:
    above = Amount(cpus(7), gib(60))
    for name in one.after.retired:
        assert profile_total(one.after, name, above) == profile_total(one.before, name, above)


@settings(max_examples=examples(100))
@given(reloads(), st.sets(st.sampled_from(NAMES[:2])))
def test_what_only_takes_profiles_away_lowers_no_servers_limits(
    one: Reload, gone: set[str]
) -> None:
    left = [its for name, its in one.before.profiles.items() if name not in gone]
    after = config(*left).with_retired(one.before.all_profiles)
    found = []
    for its in (one.before, after):

        def rights_of(claim: Claim, its: Config = its) -> Rights:
            return rights(its, claim.user, (), ())

        terms = Terms(config=its, rights_of=rights_of, containers=0)
        leases = regrant(Book(one.leases), terms).book.leases
        assert list(map(limited, leases)) == list(map(limited, one.leases))
        slices = desired(its, leases, observed(), totals=totals_of(leases, rights_of)).slices
        leaves = [slices[lease.unit].limits for lease in leases]
        found.append([(leaf.cpu_quota, leaf.memory_max) for leaf in leaves])
    assert found[0] == found[1]


def test_a_profile_of_the_file_is_the_files_and_no_other_is_forgotten() -> None:
    small, bigger = profile("small"), profile("small", 3, 8)
    known = {"small": small, "old": profile("old")}
    found = config(bigger).with_retired(known)
    assert found.retired == {"old": profile("old")}
    assert found.profile("small") is bigger
    assert found.profile("old") == profile("old")
    assert found.profile("unknown") is None
    assert found.all_profiles == {"small": bigger, "old": profile("old")}


def test_a_users_part_of_a_profile_stays_as_large_as_it_was() -> None:
    total = replace(profile("small"), cpu_total=cpus(3), mem_total=gib(5))
    before = config(total)
    after = config(profile("other")).with_retired(before.all_profiles)
    unit = user_slice("small", "ada")
    held = [
        desired(its, [lease("ada")], observed(), totals={}).slices[unit].limits
        for its in (before, after)
    ]
    assert held[0].cpu_quota == held[1].cpu_quota == cpus(3)
    assert held[0].memory_max == held[1].memory_max
