"""Leases walked at random through their lives; after each step every promise is added up."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from types import MappingProxyType

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from enforcer import book as transitions
from enforcer.admission import Wait, decide, free
from enforcer.book import BindRefusal, Book, Change, Terms
from enforcer.errors import ConflictError, EnforcerError
from enforcer.model import (
    AdmissionMode,
    Claim,
    Config,
    EndReason,
    GlobalQuota,
    Lease,
    LeaseState,
    Resize,
    ResourceProfile,
    Rights,
)
from enforcer.policy import check_claim
from enforcer.quantities import PAGE, Bytes, Cpus
from enforcer.regrant import regrant
from enforcer.room import NOTHING, Amount, guarantees, limits, profile_total, promised, workload
from tests.examples import examples
from tests.unit.lab import a_config, cores, gib, some_rights

USERS = ("ada", "bob", "carol")
SERVERS = ("", "x", "y")
PROFILES = ("Large", "Small")
CONTAINERS = ("box 1", "box 2", "box 3", "box 4")

few_cores = st.integers(0, 10).map(lambda halves: cores(halves / 2))
some_cores = st.integers(1, 8).map(lambda halves: cores(halves / 2))
few_gib = st.integers(0, 16).map(gib)
some_gib = st.integers(1, 12).map(gib)
# Waiting has the most to go wrong.
MODES = (*AdmissionMode, AdmissionMode.QUEUE, AdmissionMode.QUEUE)


@st.composite
def profiles(draw: st.DrawFn, name: str) -> ResourceProfile:
    cpu, memory = Cpus(cores(3) + draw(few_cores)), Bytes(gib(8) + draw(few_gib))
    totals = draw(st.booleans())
    return ResourceProfile(
        name=name,
        cpu_limit=cpu,
        mem_limit=memory,
        cpu_total=Cpus(cpu + draw(few_cores)) if totals else None,
        mem_total=Bytes(memory + draw(few_gib)) if totals else None,
        admission=draw(st.sampled_from([None, None, *AdmissionMode])),
    )


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """Return a configuration in which two or three guarantees fill a level."""
    config = a_config(
        *[draw(profiles(name)) for name in PROFILES],
        mode=draw(st.sampled_from(MODES)),
        per_container=draw(st.sampled_from([0, 0.25, 2])),
        queue_length=draw(st.integers(0, 6)),
    )
    return replace(config, quota=draw(quotas()))


@st.composite
def quotas(draw: st.DrawFn) -> GlobalQuota:
    return GlobalQuota(
        cpu=Cpus(cores(4) + draw(few_cores)),
        memory=Bytes(gib(14) + draw(few_gib)),
        swap=Bytes(0),
    )


@st.composite
def everybodys_rights(draw: st.DrawFn, config: Config) -> dict[str, Rights]:
    """Return rights as policy makes them: the total defaults to the largest profile's limit."""
    largest = limits_of(config.profiles.values())
    return {
        user: replace(
            some_rights(user),
            profiles=draw(st.sampled_from([PROFILES, PROFILES[::-1], PROFILES[:1]])),
            max_cpu_guarantee=Cpus(cores(1) + draw(few_cores)),
            max_mem_guarantee=Bytes(gib(2) + draw(few_gib)),
            cpu_total=Cpus(largest.cpu + draw(few_cores)),
            mem_total=Bytes(largest.memory + draw(few_gib)),
            servers_max=draw(st.sampled_from([None, None, 1, 3])),
            admission=draw(st.sampled_from([None, None, *AdmissionMode])),
        )
        for user in USERS
    }


@st.composite
def claims(draw: st.DrawFn) -> Claim:
    cpu, memory = draw(st.none() | some_cores), draw(st.none() | some_gib)
    cpu_floor = draw(st.none() | some_cores)
    mem_floor = draw(st.none() | st.just(gib(0)) | some_gib)
    return Claim(
        user=draw(st.sampled_from(USERS)),
        server=draw(st.sampled_from(SERVERS)),
        profile=draw(st.sampled_from([None, *PROFILES])),
        cpu_limit=cpu,
        mem_limit=memory,
        cpu_guarantee=cpu_floor if cpu is None or cpu_floor is None else min(cpu, cpu_floor),
        mem_guarantee=mem_floor if memory is None or mem_floor is None else min(memory, mem_floor),
    )


def limits_of(found: Iterable[ResourceProfile]) -> Amount:
    most = NOTHING
    for profile in found:
        most = most.most(Amount(profile.cpu_limit, profile.mem_limit))
    return most


class Lives(RuleBasedStateMachine):
    """The book, and beside it what a plain account of every lease's fate says."""

    reloads = True

    @initialize(draw=st.data(), others=st.integers(0, 3))
    def open(self, draw: st.DataObject, others: int) -> None:
        self.config, self.rights = self.world(draw)
        self.others = others
        self.book = Book()
        self.now = 1000.0
        self.ids = itertools.count()
        self.stored: dict[str, Lease] = {}
        self.ended: dict[str, Lease] = {}
        self.tightened = False

    def world(self, draw: st.DataObject) -> tuple[Config, dict[str, Rights]]:
        config = draw.draw(configs())
        return config, draw.draw(everybodys_rights(config))

    @property
    def terms(self) -> Terms:
        return Terms(
            config=self.config,
            rights_of=lambda claim: self.rights[claim.user],
            containers=self.others,
        )

    def take(self, book: Book, changes: Iterable[Change]) -> None:
        """Keep the ledger by the changes alone: it must say the same as the book."""
        before = self.book
        for change in changes:
            assert change.before == self.stored.get(change.after.id)
            assert change.before != change.after
            if change.after.state is LeaseState.RELEASED:
                assert change.after.end_reason is not None
                gone_at = None if change.before is None else change.before.ended_at
                assert change.after.ended_at == (self.now if gone_at is None else gone_at)
                self.ended[change.after.id] = change.after
                del self.stored[change.after.id]
            else:
                assert change.after.id not in self.ended
                self.stored[change.after.id] = change.after
        self.book = book
        self.check_nobody_was_overtaken(before)

    def check_nobody_was_overtaken(self, before: Book) -> None:
        """Whoever was promised something left what those before it in its profile wait for."""
        may_use = workload(self.config, self.others + len(self.book.live) + 1)
        for lease in self.book.live:
            was = before.get(lease.id)
            if was is not None and was.live:
                continue
            in_profile = sum_of(one for one in self.book.live if one.profile == lease.profile)
            waiting = sum_of(
                one
                for one in self.book.queued
                if one.profile == lease.profile and one.created_at < lease.created_at
            )
            total, got = profile_total(self.config, lease.profile, may_use), promised(lease)
            needed = in_profile + waiting
            assert got.cpu == 0 or waiting.cpu == 0 or needed.cpu <= total.cpu
            assert got.memory == 0 or waiting.memory == 0 or needed.memory <= total.memory

    def pick(self, draw: st.DataObject) -> Lease:
        return draw.draw(st.sampled_from(self.book.leases))

    @rule(asked=st.lists(claims(), min_size=1, max_size=4))
    def claim(self, asked: list[Claim]) -> None:
        for one in asked:
            self.claim_one(one)

    def claim_one(self, asked: Claim) -> None:
        user, server = asked.user, asked.server
        there = self.book.of(user, server)
        try:
            asked = check_claim(self.config, self.rights[user], asked)
            claimed = transitions.claim(
                self.book, self.terms, asked, self.now, f"lease {next(self.ids)}"
            )
        except ConflictError:
            assert there is not None
            assert there.state is LeaseState.BOUND
            return
        except EnforcerError:
            return
        self.take(claimed.book, claimed.changes)
        assert self.book.of(user, server) == claimed.lease
        queue = self.book.queued
        if claimed.new and claimed.lease in queue:
            assert queue[-1] == claimed.lease
            assert len(queue) <= self.config.admission.queue_length

    @precondition(lambda self: self.book.leases)
    @rule(draw=st.data())
    def claim_again(self, draw: st.DataObject) -> None:
        lease = self.pick(draw)
        again = transitions.claim(self.book, self.terms, lease.claim, self.now, "never used")
        assert not again.new
        assert (again.lease.id, again.lease.grant) == (lease.id, lease.grant)
        self.take(again.book, again.changes)

    @precondition(lambda self: self.book.leases)
    @rule(draw=st.data(), container=st.sampled_from(CONTAINERS))
    def bind(self, draw: st.DataObject, container: str) -> None:
        lease = self.pick(draw)
        found = transitions.bind(self.book, lease.id, container, self.now)
        if isinstance(found, BindRefusal):
            taken = self.book.bound_to(container)
            assert lease.state is not LeaseState.PENDING or taken is not None
            return
        self.take(*found)
        after = self.book.get(lease.id)
        assert after is not None
        assert (after.state, after.container_id) == (LeaseState.BOUND, container)

    @rule(container=st.sampled_from(CONTAINERS), stopped=st.booleans())
    def container_goes(self, container: str, *, stopped: bool) -> None:
        rules = self.config.admission
        step = transitions.container_gone(self.book, container, rules, self.now, stopped=stopped)
        self.take(*step)

    @precondition(lambda self: self.book.leases)
    @rule(draw=st.data(), tick=st.booleans())
    def release(self, draw: st.DataObject, *, tick: bool) -> None:
        lease = self.pick(draw)
        self.take(*transitions.release(self.book, lease.id, EndReason.STOPPED, self.now))
        assert self.ended[lease.id].end_reason is EndReason.STOPPED
        if tick:
            self.promote()

    @precondition(lambda self: self.book.live)
    @rule(
        draw=st.data(),
        change=st.builds(
            Resize,
            cpu_limit=st.none() | some_cores,
            mem_limit=st.none() | some_gib,
            cpu_guarantee=st.none() | few_cores,
            mem_guarantee=st.none() | few_gib,
            seconds=st.none() | st.integers(1, 400).map(float),
        ),
    )
    def resize(self, draw: st.DataObject, change: Resize) -> None:
        lease = draw.draw(st.sampled_from(self.book.live))
        try:
            step = transitions.resize(self.book, self.terms, lease.id, change, self.now)
        except EnforcerError:
            return
        self.take(*step)

    @rule(seconds=st.sampled_from([1.0, 11.0, 90.0, 500.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.take(*transitions.expire(self.book, self.now))
        assert transitions.expire(self.book, self.now).changes == ()

    @rule()
    def promote(self) -> None:
        self.take(*transitions.promote(self.book, self.terms, self.now))
        assert transitions.promote(self.book, self.terms, self.now).changes == ()
        for place, lease in enumerate(self.book.queued, start=1):
            assert transitions.place(self.book, lease.id) == place
        if self.book.queued:
            self.check_the_next_one_waits_for_a_reason(self.book.queued[0])

    def check_the_next_one_waits_for_a_reason(self, head: Lease) -> None:
        decision = decide(
            self.config,
            self.rights[head.user],
            check_claim(self.config, self.rights[head.user], head.claim),
            self.book.leases,
            self.others,
            without=head.id,
        )
        assert isinstance(decision, Wait)
        room = free(
            self.config,
            self.book.live,
            self.others,
            head.profile,
            self.rights[head.user],
        )
        fits = promised(head).fits(room.workload.free.least(room.profile.free))
        assert room.crowded or not fits

    @precondition(lambda self: self.reloads)
    @rule(draw=st.data())
    def reload(self, draw: st.DataObject) -> None:
        self.config = replace(
            self.config,
            profiles=MappingProxyType({name: draw.draw(profiles(name)) for name in PROFILES}),
            quota=draw.draw(quotas()),
        )
        self.rights = draw.draw(everybodys_rights(self.config))
        self.tightened = True
        before = self.book
        step = regrant(self.book, self.terms)
        self.take(*step)
        assert [lease.id for lease in self.book.leases] == [lease.id for lease in before.leases]
        assert regrant(self.book, self.terms).changes == ()
        for was, now in zip(before.leases, self.book.leases, strict=True):
            assert guarantees(now.grant).fits(guarantees(was.grant))
            assert limits(now.grant).fits(limits(was.grant))

    @rule(draw=st.data())
    def restart_of_the_daemon(self, draw: st.DataObject) -> None:
        step = transitions.recover(draw.draw(st.permutations(list(self.stored.values()))))
        assert (step.book, step.changes) == (self.book, ())

    @invariant()
    def the_changes_tell_all(self) -> None:
        assert tuple(self.stored.values()) == self.book.leases
        assert not self.stored.keys() & self.ended.keys()

    @invariant()
    def only_what_lost_its_container_has_ended_before_its_release(self) -> None:
        for lease in self.book.leases:
            gone = lease.state is LeaseState.BOUND and lease.deadline is not None
            assert (lease.ended_at is not None) == gone

    @invariant()
    def every_server_has_one_lease_and_every_container_too(self) -> None:
        servers = Counter((lease.user, lease.server) for lease in self.book.leases)
        boxes = Counter(lease.container_id for lease in self.book.leases if lease.container_id)
        assert all(number == 1 for number in (*servers.values(), *boxes.values()))

    @invariant()
    def guarantees_fit_at_every_level(self) -> None:
        live = self.book.live
        may_use = workload(self.config, self.others + len(live)).most(NOTHING)
        assert sum_of(live).fits(may_use)
        for name in PROFILES:
            in_profile = sum_of(lease for lease in live if lease.profile == name)
            assert in_profile.fits(profile_total(self.config, name, may_use))
        for user, rights in self.rights.items():
            may = Amount(rights.max_cpu_guarantee, rights.max_mem_guarantee)
            assert sum_of(lease for lease in live if lease.user == user).fits(may)

    @invariant()
    def limits_fit_in_the_users_total_unless_it_was_lowered(self) -> None:
        for user, rights in self.rights.items():
            mine = [lease for lease in self.book.leases if lease.user == user]
            may = Amount(rights.cpu_total, rights.mem_total)
            for lease in mine:
                assert not lease.live or limits(lease.grant).fits(may)
            if not self.tightened:
                used = NOTHING
                for lease in mine:
                    used += limits(lease.grant)
                assert used.fits(may)

    @invariant()
    def every_grant_is_within_its_profile(self) -> None:
        for lease in self.book.live:
            profile = self.config.profiles[lease.profile]
            most = Amount(profile.cpu_limit, profile.mem_limit)
            for grant in (lease.grant, lease.grant_before or lease.grant):
                floor, ceiling = guarantees(grant), limits(grant)
                assert NOTHING.most(floor) == floor
                assert floor.fits(ceiling)
                assert ceiling.fits(most)
                assert grant.mem_guarantee % PAGE == 0

    @invariant()
    def the_book_is_in_the_order_of_creation(self) -> None:
        times = [lease.created_at for lease in self.book.leases]
        assert times == sorted(set(times))

    @invariant()
    def the_order_of_live_leases_changes_no_sum(self) -> None:
        live = self.book.live
        rights = self.rights["ada"]
        queued = self.book.queued
        forwards = free(self.config, (*live, *queued), self.others, "Large", rights)
        backwards = free(self.config, (*queued, *reversed(live)), self.others, "Large", rights)
        assert forwards == backwards


def sum_of(leases: Iterable[Lease]) -> Amount:
    total = NOTHING
    for lease in leases:
        total += promised(lease)
    return total


class Queueing(Lives):
    """Everybody may have everything and nobody is turned away: the queue is always long."""

    reloads = False

    def world(self, draw: st.DataObject) -> tuple[Config, dict[str, Rights]]:
        profile = ResourceProfile(name="Large", cpu_limit=cores(4), mem_limit=gib(14))
        bounded = replace(profile, name="Small", cpu_total=cores(4), mem_total=gib(14))
        config = a_config(
            profile,
            bounded,
            mode=AdmissionMode.QUEUE,
            per_container=draw.draw(st.sampled_from([0, 0.25])),
            queue_length=6,
        )
        config = replace(config, quota=draw.draw(quotas()))
        much = (99.0, 999.0)
        return config, {user: some_rights(user, guarantee=much, total=much) for user in USERS}


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=examples(60), stateful_step_count=40)
TestQueueing = Queueing.TestCase
TestQueueing.settings = settings(max_examples=examples(60), stateful_step_count=40)
