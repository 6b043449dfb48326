"""Who a peer is, and how long that is believed."""

from __future__ import annotations

import asyncio
import socket
import threading

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
    known = peers(FakeHost(users={"ada": 1000}), "hub")
    peer = await known.peer(1000)
    await known.close()
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


@pytest.mark.asyncio
async def test_a_hub_user_made_later_may_act_within_a_minute_and_after_a_reload_at_once() -> None:
    host, clock = FakeHost(users={"eve": 900}), FakeClock()
    hub_users = ["hub"]
    known = Peers(host, clock, lambda: tuple(hub_users))
    assert not (await known.peer(900)).privileged
    host.users = {"hub": 900, "other": 901}
    clock.advance(61)
    assert (await known.peer(900)).privileged
    hub_users[:] = ["other"]
    assert not (await known.peer(900)).privileged
    assert (await known.peer(901)).privileged


@pytest.mark.asyncio
async def test_whoever_has_the_uid_of_a_hub_user_that_is_gone_is_nobody_special() -> None:
    host, clock = FakeHost(users={"hub": 900}), FakeClock()
    known = peers(host, "hub", clock=clock)
    assert (await known.peer(900)).privileged
    host.users = {"eve": 900}
    clock.advance(61)
    assert not (await known.peer(900)).privileged


class HangingHost(FakeHost):
    """A host whose user database does not answer for `hanging`, and takes as long as it likes."""

    def __init__(self, users: dict[str, int], *hanging: str) -> None:
        super().__init__(users=users)
        self.hanging = set(hanging)
        self.asked: list[str] = []
        self.gives_up = threading.Event()

    def user_id(self, user: str) -> int | None:
        self.asked.append(user)
        if user in self.hanging:
            self.gives_up.wait(10)
            raise UnavailableError("host.users", f"who is {user}?")
        return super().user_id(user)


@pytest.mark.asyncio
async def test_a_user_database_that_hangs_leaves_the_hub_exempt_as_it_was() -> None:
    host, clock = HangingHost({"hub": 900}), FakeClock()
    host.gives_up.set()
    known = peers(host, "hub", clock=clock)
    await known.learn()
    assert known.exempt(900)
    host.hanging = {"hub"}
    clock.advance(61)
    await known.learn()
    assert known.exempt(900)
    unknown = peers(host, "hub")
    await unknown.learn()
    assert not unknown.exempt(900)


@pytest.mark.asyncio
async def test_a_hub_user_nobody_tells_of_leaves_the_others_theirs_and_is_asked_for_again_soon(
    caplog: pytest.LogCaptureFixture,
) -> None:
    host, clock = HangingHost({"hub": 900, "far": 901}, "far"), FakeClock()
    host.gives_up.set()
    known = peers(host, "hub", "far", clock=clock)
    await known.learn()
    assert (await known.peer(900)).privileged
    assert not (await known.peer(901)).privileged
    clock.advance(2)
    await known.learn()
    assert sorted(host.asked) == ["far", "far", "hub"]
    assert len(caplog.messages) == 1, "it is told once, not at each try"
    host.hanging.clear()
    clock.advance(2)
    assert (await known.peer(901)).privileged


@pytest.mark.asyncio
async def test_while_a_hub_user_is_looked_up_the_loop_goes_on_and_nobody_else_waits() -> None:
    host = HangingHost({"hub": 900, "far": 901, "ada": 1000}, "far")
    known = peers(host, "hub", "far")
    try:
        async with asyncio.timeout(1):
            assert not known.exempt(1000)
            assert not (await known.peer(1000)).privileged
            assert (await known.peer(900)).privileged
        waiting = asyncio.create_task(known.peer(901))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        host.hanging.clear()
    finally:
        host.gives_up.set()
    assert not (await waiting).privileged
    await known.close()


@pytest.mark.asyncio
async def test_a_look_up_under_way_ends_with_the_daemon() -> None:
    host = HangingHost({}, "far")
    known = peers(host, "far")
    known.exempt(1000)
    await asyncio.sleep(0.05)
    assert host.asked == ["far"]
    await known.close()
    host.gives_up.set()


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
