"""Who a peer is, and how long that is believed."""

from __future__ import annotations

import socket

import pytest

from enforcer.adapters.fakes.clock import FakeClock
from enforcer.adapters.fakes.host import FakeHost
from enforcer.api.connections import Bounds, Register
from enforcer.api.peers import Peer, Peers, peer_uid
from enforcer.errors import ForbiddenError, UnavailableError


def peers(host: FakeHost, *hub_users: str, clock: FakeClock | None = None) -> Peers:
    return Peers(host, clock or FakeClock(), lambda: hub_users)


@pytest.mark.asyncio
async def test_root_is_known_without_a_user_database() -> None:
    peer = await peers(FakeHost(users={})).peer(0)
    assert peer == Peer(uid=0, name="root", privileged=True)
    assert peer.root


@pytest.mark.asyncio
async def test_a_hub_user_acts_for_anyone_and_is_not_root() -> None:
    peer = await peers(FakeHost(users={"hub": 900}), "hub").peer(900)
    assert peer.may_act_for("anyone")
    assert not peer.root


@pytest.mark.asyncio
async def test_a_user_called_like_a_hub_user_elsewhere_is_nobody_special() -> None:
    peer = await peers(FakeHost(users={"ada": 1000}), "hub").peer(1000)
    assert peer.may_act_for("ada")
    assert not peer.may_act_for("Ada")
    assert not peer.may_act_for("")


@pytest.mark.asyncio
async def test_a_uid_without_a_name_is_refused_and_asked_for_again() -> None:
    host = FakeHost(users={})
    known = peers(host)
    with pytest.raises(ForbiddenError):
        await known.peer(1000)
    host.users["ada"] = 1000
    assert (await known.peer(1000)).name == "ada"


@pytest.mark.asyncio
async def test_a_name_is_believed_for_a_minute() -> None:
    host, clock = FakeHost(users={"ada": 1000}), FakeClock()
    known = peers(host, clock=clock)
    await known.peer(1000)
    host.users = {"eve": 1000}
    clock.advance(59)
    assert (await known.peer(1000)).name == "ada"
    clock.advance(2)
    assert (await known.peer(1000)).name == "eve"


def test_a_hub_user_made_later_is_exempt_within_a_minute_and_a_reload_at_once() -> None:
    host, clock = FakeHost(users={}), FakeClock()
    hub_users = ["hub"]
    known = Peers(host, clock, lambda: tuple(hub_users))
    assert not known.exempt(900)
    host.users = {"hub": 900, "other": 901}
    clock.advance(61)
    assert known.exempt(900)
    hub_users[:] = ["other"]
    assert not known.exempt(900)
    assert known.exempt(901)


def test_a_user_database_that_hangs_leaves_the_hub_exempt_as_it_was() -> None:
    class Hanging(FakeHost):
        def user_id(self, user: str) -> int | None:
            if not self.users:
                raise UnavailableError("host.users", f"who is {user}?")
            return FakeHost.user_id(self, user)

    host, clock = Hanging(users={"hub": 900}), FakeClock()
    known = peers(host, "hub", clock=clock)
    assert known.exempt(900)
    host.users = {}
    clock.advance(61)
    assert known.exempt(900)
    assert not peers(Hanging(users={}), "hub").exempt(900)


def test_the_kernel_tells_the_uid() -> None:
    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there:
        assert peer_uid(here) == peer_uid(there)


def test_places_are_given_back() -> None:
    register = Register(Bounds(total=4, per_uid=2, reserved=1), lambda uid: uid == 0)
    assert [register.enter(5) for _ in range(3)] == [True, True, False]
    assert [register.enter(6) for _ in range(2)] == [True, False]
    assert [register.enter(0) for _ in range(2)] == [True, False]
    assert register.refused == 3
    register.leave(5)
    assert not register.enter(6)
    assert register.enter(0)
    assert register.total == 4
