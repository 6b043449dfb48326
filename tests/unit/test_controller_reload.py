"""What a new configuration changes while the controller runs."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from enforcer.api.routes import Api
from enforcer.api.types import BoundsReply, CatalogueReply, ExplainReply
from enforcer.controller import Controller
from enforcer.errors import EnforcerError, NotFoundError, RefusedError, UnavailableError
from enforcer.model import Claim, EndReason, Lease, LeaseHistory, LeaseState, Limits, Resize
from enforcer.names import UnitName, ancestors, profile_slice, user_slice
from enforcer.quantities import CORE, GIB, Bytes, Cpus
from enforcer.slices import KERNELS_OWN
from tests.unit.configs import VALID
from tests.unit.controllerlab import (
    HELD,
    LEAF,
    RENAMED,
    TINY,
    WITHOUT_LARGE,
    Lab,
    NoMetrics,
    call,
    placed,
    until,
)
from tests.unit.worlds import lease

LARGE = Claim(user="ann", profile="Large", mem_guarantee=Bytes(10 * GIB))
NOTHING_ALLOWED = f"{VALID}[user_profiles.ann]\nallowed_resources = []\n"
ONLY_TINY = NOTHING_ALLOWED.replace("= []", '= ["Tiny"]')

pytestmark = pytest.mark.asyncio


async def test_a_bad_file_changes_nothing_and_says_so() -> None:
    lab = Lab()
    async with lab.running() as controller:
        before = controller.config
        lab.text = "nonsense"
        with pytest.raises(EnforcerError):
            await controller.reload()
        assert controller.config is before
        assert controller.published().config_error


async def test_a_reload_cuts_running_leases_to_the_new_policy() -> None:
    lab = Lab()
    async with lab.running() as controller:
        await controller.claim(TINY)
        lab.text = VALID.replace("mem_limit = 2\n", 'mem_limit = "1 GiB"\n')
        changes = await controller.reload()
        assert changes
        assert lab.limits(LEAF).memory_max == GIB
        assert controller.published().config_error == ""


async def test_a_reload_changes_how_much_is_kept() -> None:
    kept = (
        "[daemon]\ntick_seconds = {tick}\nhistory_seconds = {history}\nreceipts_kept = {receipts}\n"
    )
    lab = Lab(text=VALID + kept.format(tick=2, history=4, receipts=5))
    async with lab.running() as controller:
        lease, _ = await controller.claim(TINY)
        await _sample(lab, controller, 6)
        assert len(controller.history(lease.id).samples) == 3
        lab.text = VALID + kept.format(tick=1, history=4, receipts=1)
        await controller.reload()
        await _sample(lab, controller, 6)
        assert len(controller.history(lease.id).samples) == 5
        for _ in range(2):
            await controller.release(lease.id, EndReason.STOPPED)
            lease, _ = await controller.claim(TINY)
        assert len(await controller.receipts("ann", 10)) == 1


async def test_ticks_that_come_early_do_not_shorten_the_history() -> None:
    """Events make them early, down to nine tenths of a tick."""
    lab = Lab(text=VALID + "[daemon]\ntick_seconds = 2\nhistory_seconds = 180\n")
    async with lab.running() as controller:
        lease, _ = await placed(lab, controller)
        for _ in range(150):
            lab.world.clock.advance(1.9)
            await controller.tick()
        kept = [at for at, _ in controller.history(lease.id).samples]
        assert 178 < kept[-1] - kept[0] <= 180


async def test_samples_of_an_ended_lease_are_kept_for_a_while() -> None:
    lab = Lab(text=VALID + "[daemon]\ntick_seconds = 2\nhistory_seconds = 4\n")
    async with lab.running() as controller:
        lease, _ = await controller.claim(TINY)
        assert controller.history(lease.id) == LeaseHistory(user="ann", ended=False, samples=())
        await _sample(lab, controller, 6)
        found = controller.history(lease.id)
        assert not found.ended
        await controller.release(lease.id, EndReason.STOPPED)
        assert controller.history(lease.id) == replace(found, ended=True)
        await _sample(lab, controller, 3)
        assert controller.history(lease.id) == replace(found, ended=True)
        await _sample(lab, controller, 1)
        with pytest.raises(NotFoundError):
            controller.history(lease.id)


async def test_a_reload_says_what_takes_a_restart() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lab.text = VALID + '[daemon]\nmetrics = "127.0.0.1:9800"\n'
        (change,) = await controller.reload()
        assert change == "daemon: metrics 127.0.0.1:9753 → 127.0.0.1:9800, at the next restart"


async def test_a_lowered_total_stops_nobody_and_is_told_as_long_as_servers_hold_more() -> None:
    lab = Lab()
    async with lab.running() as controller:
        leases = [
            (await controller.claim(replace(TINY, server=server)))[0] for server in ("a", "b")
        ]
        await controller.tick()
        assert not controller.published().open_drift
        ann = 'allowed_resources = ["Tiny"]\ncpu_total = 5\nmem_total = 3\n'
        lab.text = f"{VALID}[user_profiles.ann]\n{ann}"
        (planned,) = [one for one in controller.plan(lab.text) if one.what == "total"]
        assert (planned.subject, planned.before, planned.after) == ("ann", "40 GiB", "3 GiB")
        assert "ann: total 40 GiB → 3 GiB" in await controller.reload()
        await controller.tick()
        assert not any(one.what == "total" for one in controller.plan(lab.text))
        (told,) = controller.published().open_drift
        assert (told.what, told.subject) == ("total-exceeded", "ann")
        assert {one.grant for one in controller.published().leases} == {one.grant for one in leases}
        with pytest.raises(RefusedError):
            await controller.claim(replace(TINY, server="c"))
        await controller.release(leases[0].id, EndReason.CANCELLED)
        await controller.tick()
        assert not controller.published().open_drift


async def test_a_running_server_whose_image_is_no_longer_allowed_can_be_resized() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lease, _ = await controller.claim(Claim(user="ann", profile="Tiny"))
        assert lease.image == "SingleUser"
        lab.text = VALID.replace('allowed_docker = ["SingleUser", ', "allowed_docker = [")
        await controller.reload()
        resized = await controller.resize(lease.id, Resize(mem_limit=Bytes(GIB)))
        assert resized.grant.mem_limit == GIB


async def test_while_a_reload_is_carried_out_every_answer_is_of_the_new_configuration() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lease, _ = await controller.claim(TINY)
        api = Api(controller, NoMetrics())
        tiny = "cpu_limit = 1\nmem_limit = 2\n"
        lab.text = VALID.replace(tiny, 'cpu_limit = 3\nmem_limit = "1 GiB"\n')
        lab.text = lab.text.replace(
            "[docker_profiles]",
            "[resource_profiles.Brandnew]\ncpu_limit = 2\nmem_limit = 2\n\n"
            '[docker_profiles]\nNew = "new:1"',
        )
        lab.text = lab.text.replace('"Large"]', '"Large", "Brandnew"]')
        lab.text = lab.text.replace('"DataScience"]', '"DataScience", "New"]')
        await controller.tick()
        lab.world.systemd.trouble.hang(5)
        reloading = asyncio.create_task(controller.reload())
        await until(lambda: "Brandnew" in controller.config.profiles)
        offered = (await api.catalogue(call(user="ann"))).reply
        bounds = (await api.bounds(call(lease_id=lease.id))).reply
        told = (await api.explain(call(user="ann"))).reply
        assert not reloading.done()
        lab.world.systemd.trouble.recover()
        await reloading
    assert isinstance(offered, CatalogueReply)
    assert [one.name for one in offered.profiles] == ["Tiny", "Large", "Brandnew"]
    assert [one.name for one in offered.images] == ["SingleUser", "DataScience", "New"]
    assert isinstance(bounds, BoundsReply)
    assert bounds.cpu_limit == 3
    assert isinstance(told, ExplainReply)


async def test_a_profile_that_is_renamed_holds_what_runs_in_it_until_that_has_ended() -> None:
    lab = Lab(text=HELD)
    async with lab.running() as controller:
        lease, _ = await placed(lab, controller)
        before = _held(lab)
        assert (before[LEAF].tasks_max, before[LEAF].memory_high) == (100, Bytes(3 * GIB // 2))
        assert before[LEAF].io_weight == 300
        assert before[profile_slice("Tiny")].tasks_max == 300
        placement = controller.placement(lease)
        lab.text = RENAMED
        (planned,) = controller.plan(lab.text)
        assert (planned.subject, planned.what) == ("ann", "right to the profile")
        assert await controller.reload() == ["ann: right to the profile Tiny → none"]
        await controller.tick()
        assert _held(lab) == before
        assert lab.world.docker.updates == []
        assert controller.placement(lease) == placement
        with pytest.raises(NotFoundError, match="no profile 'Tiny'"):
            await controller.claim(replace(TINY, server="b"))
        # not even the next reload forgets it, and one that has it again decides anew
        await controller.reload()
        assert _held(lab) == before
        lab.text = HELD.replace("tasks_limit = 100", "tasks_limit = 200")
        await controller.reload()
        assert lab.limits(LEAF).tasks_max == 200
        lab.text = RENAMED
        await controller.reload()
        assert lab.limits(LEAF).tasks_max == 200


@pytest.mark.parametrize("text", [WITHOUT_LARGE, ONLY_TINY, NOTHING_ALLOWED])
async def test_who_loses_the_right_to_a_profile_keeps_what_runs_in_it_as_it_is(text: str) -> None:
    lab = Lab()
    async with lab.running() as controller:
        half = replace(LARGE, cpu_limit=Cpus(5 * CORE), mem_limit=Bytes(20 * GIB))
        leases = [
            (await controller.claim(replace(half, server=server)))[0] for server in ("a", "b")
        ]
        await controller.tick()
        before = _limits(lab, *leases)
        lab.text = text
        lost = {("ann/a", "right to the profile"), ("ann/b", "right to the profile")}
        assert {(one.subject, one.what) for one in controller.plan(text)} == lost
        assert len(await controller.reload()) == 2
        await controller.tick()
        assert _limits(lab, *leases) == before
        assert controller.published().leases == tuple(leases)
        assert not controller.published().open_drift
        told = (await Api(controller, NoMetrics()).explain(call(user="ann", server="a"))).reply
        assert isinstance(told, ExplainReply)
        assert "cannot be started again" in told.sentences[0]
        assert not any("in all" in one for one in told.sentences)
        for profile in ("Large", "Tiny"):
            with pytest.raises(EnforcerError):
                await controller.claim(Claim(user="ann", server="c", profile=profile))
        # as much as they held, no longer than they hold it
        await controller.release(leases[0].id, EndReason.CANCELLED)
        await controller.tick()
        assert lab.limits(user_slice("Large", "ann")).memory_max == 20 * GIB + KERNELS_OWN
        assert lab.limits(leases[1].unit).memory_max == 20 * GIB


async def test_a_total_that_is_written_down_cuts_what_runs_in_a_lost_profile_too() -> None:
    lab = Lab()
    async with lab.running() as controller:
        lease, _ = await controller.claim(LARGE)
        lab.text = f"{ONLY_TINY}mem_total = 3\n"
        await controller.reload()
        assert lab.limits(lease.unit).memory_max == 3 * GIB
        assert lab.limits(user_slice("Large", "ann")).memory_max == 3 * GIB + KERNELS_OWN
        assert lab.limits(lease.unit).cpu_quota == 10 * CORE
        assert lab.limits(user_slice("Large", "ann")).cpu_quota == 10 * CORE


async def test_a_lease_whose_users_name_is_refused_by_now_fails_no_start_and_no_reload() -> None:
    lab = Lab()
    old = replace(lease("ann\n", "Tiny", limit=(1, 2)), created_at=lab.world.clock.now())
    await lab.world.ledger.store([old])
    async with lab.running() as controller:
        assert lab.limits(old.unit).memory_max == 2 * GIB
        (planned,) = controller.plan(VALID)
        assert (planned.subject, planned.what) == ("ann\n", "right to the profile")
        lab.text = VALID.replace("mem_limit = 2\n", "mem_limit = 1\n")
        await controller.reload()
        assert lab.limits(old.unit).memory_max == GIB


async def test_who_waits_for_a_profile_that_is_taken_away_is_refused() -> None:
    lab = Lab(text=f'{HELD}[admission]\nmode = "queue"\n')
    async with lab.running() as controller:
        ask = replace(TINY, cpu_guarantee=None, mem_guarantee=Bytes(2 * GIB))
        await controller.claim(ask)
        queued, _ = await controller.claim(replace(ask, user="bob"))
        assert queued.state is LeaseState.QUEUED
        lab.text = RENAMED
        await controller.reload()
        assert lab.state(queued) is None
        (receipt,) = await controller.receipts("bob", 1)
        assert receipt.reason is EndReason.REFUSED


async def test_a_reload_that_cannot_be_written_down_changes_nothing() -> None:
    lab = Lab(text=HELD)
    async with lab.running() as controller:
        await controller.claim(TINY)
        before, config = _held(lab), controller.config
        lab.text = RENAMED
        lab.world.ledger.trouble.fail("unwritable")
        with pytest.raises(UnavailableError):
            await controller.reload()
        lab.world.ledger.trouble.recover()
        await controller.tick()
        assert controller.config is config
        assert _held(lab) == before


def _limits(lab: Lab, *leases: Lease) -> dict[UnitName, Limits]:
    units = (unit for lease in leases for unit in (lease.unit, *ancestors(lease.unit)))
    return {unit: lab.limits(unit) for unit in units}


def _held(lab: Lab) -> dict[UnitName, Limits]:
    units = (LEAF, user_slice("Tiny", "ann"), profile_slice("Tiny"))
    return {unit: lab.limits(unit) for unit in units}


async def _sample(lab: Lab, controller: Controller, times: int) -> None:
    for _ in range(times):
        lab.world.clock.advance(controller.config.daemon.tick_seconds)
        await controller.tick()
