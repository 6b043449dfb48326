"""A start that fails, is given up or finds an old container: nothing is left, and why is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from enforcer.model import Claim, EndReason, LeaseState
from enforcer.quantities import GIB
from spawner.spawner import NotStopped
from tests.unit.spawner.dockerd import Json
from tests.unit.spawner.lab import ONE_AT_A_TIME, a_lab, until
from tests.unit.spawner.starts import cancelled, environment, refused, watch

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("step", ["image", "inspect", "create", "start"])
@pytest.mark.parametrize("fault", [500, "hang"])
async def test_a_start_that_fails_at_docker_leaves_nothing(
    tmp_path: Path, step: str, fault: int | str
) -> None:
    async with a_lab(tmp_path, docker_timeout=0.3, poll_timeout=0.1) as lab:
        lab.docker.faults[step] = fault
        error = await refused(lab.user())
        assert error.status_code == 503
        assert "Docker" in error.jupyterhub_message
        assert lab.nothing_is_left()


async def test_a_start_that_lost_a_race_for_the_device_rules_is_made_once_more(
    tmp_path: Path,
) -> None:
    said = "error setting cgroup config: failed to call BPF_PROG_ATTACH: no such file or directory"
    async with a_lab(tmp_path) as lab:
        user = lab.user()
        lab.docker.refusals["start"] = [said]
        await user.spawn()
        assert lab.docker.asked["start"] == 2
        assert lab.docker.only()["State"]["Running"]
        await user.stop()
        lab.docker.refusals["start"] = [said, said]
        error = await refused(user)
        assert "BPF_PROG_ATTACH" in error.jupyterhub_message
        assert lab.nothing_is_left()


@pytest.mark.parametrize("step", ["image", "inspect", "create", "start"])
async def test_a_start_that_is_cancelled_anywhere_leaves_nothing(tmp_path: Path, step: str) -> None:
    async with a_lab(tmp_path) as lab:
        user = lab.user()
        await cancelled(lab, user, step)
        assert lab.nothing_is_left()
        await user.spawn()
        assert len(lab.docker.containers) == 1


async def test_a_start_that_is_cancelled_while_its_claim_is_decided_leaves_nothing(
    tmp_path: Path,
) -> None:
    async with a_lab(tmp_path) as lab:
        user = lab.user()
        lab.api.operations.claiming.clear()
        start = asyncio.create_task(user.spawn(options={}))
        await until(lambda: lab.docker.asked["inspect"])
        await asyncio.sleep(0.05)
        start.cancel()
        await asyncio.wait([start], timeout=1)
        lab.api.operations.claiming.set()
        await user.stop()
        assert lab.nothing_is_left()


async def test_a_start_that_takes_too_long_leaves_nothing(tmp_path: Path) -> None:
    async with a_lab(tmp_path, start_timeout=1, docker_timeout=3) as lab:
        user = lab.user()

        async def slowly() -> None:
            await asyncio.sleep(1.5)

        lab.docker.before["create"] = slowly
        with pytest.raises(TimeoutError):
            await user.spawn(options={})
        assert lab.nothing_is_left()


async def test_a_lease_stays_until_docker_has_removed_what_it_may_yet_start(
    tmp_path: Path,
) -> None:
    async with a_lab(tmp_path, docker_timeout=1, cleanup_timeout=0.2) as lab:
        go_on = asyncio.Event()
        lab.docker.before["start"] = go_on.wait
        lab.docker.faults["remove"] = 500
        await refused(lab.user())
        await until(lambda: lab.docker.asked["remove"], 10)
        await asyncio.sleep(0.1)
        assert lab.leases() == [LeaseState.PENDING]
        go_on.set()
        await until(lambda: lab.leases() == [LeaseState.BOUND], 10)
        lab.docker.faults.clear()
        await until(lab.nothing_is_left, 10)


async def test_a_lease_that_expired_during_a_slow_start_starts_nothing(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:

        async def expire() -> None:
            (lease,) = lab.api.operations.book.leases
            lab.api.operations.end(lease.id, EndReason.EXPIRED)

        lab.docker.before["start"] = expire
        error = await refused(lab.user())
        assert "took longer than its place was kept" in error.jupyterhub_message
        assert lab.nothing_is_left()


async def test_a_server_that_never_answers_leaves_nothing(tmp_path: Path) -> None:
    async with a_lab(tmp_path, http_timeout=1) as lab:
        user = lab.user()
        started = lab.docker.on_started

        def deaf(container: Json) -> None:
            started(container)
            container["NetworkSettings"]["Ports"]["8888/tcp"][0]["HostPort"] = "1"

        lab.docker.on_started = deaf
        with pytest.raises(TimeoutError):
            await user.spawn(options={})
        assert lab.nothing_is_left()


async def test_who_watches_a_server_that_ends_at_once_reads_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with a_lab(tmp_path, http_timeout=4) as lab:
        user = lab.user()
        started = lab.docker.on_started

        def end(container: Json) -> None:
            started(container)
            container["NetworkSettings"]["Ports"]["8888/tcp"][0]["HostPort"] = "1"
            asyncio.get_running_loop().call_later(0.5, lab.docker.die, container["Id"], 127)

        lab.docker.on_started = end
        lab.docker.on_gone = lambda _: None
        user.spawner.server = None
        start = asyncio.create_task(user.spawn(options={}))
        user.spawner._spawn_pending = True  # noqa: SLF001 - as the hub's handler does
        await until(lambda: lab.docker.asked["start"])
        lines: list[str] = []
        await watch(user, lines.append)
        assert "your server ended by itself (exit code 127)" in lines[-1]
        assert "no module named jupyterhub" in caplog.text
        with pytest.raises(TimeoutError):
            await start
        assert not lab.docker.containers


async def test_a_server_that_has_ended_before_its_start_has_is_refused_with_the_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with a_lab(tmp_path) as lab:
        started = lab.docker.on_started

        def end(container: Json) -> None:
            started(container)
            lab.docker.die(container["Id"], 137, oom=True)

        lab.docker.on_started = end
        error = await refused(lab.user())
        assert "4 GiB memory limit reached" in error.jupyterhub_message
        assert "no module named jupyterhub" in caplog.text
        assert lab.nothing_is_left()


async def test_a_server_that_ends_before_the_daemon_saw_it_is_refused_with_its_exit_code(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with a_lab(tmp_path) as lab:
        lab.docker.on_gone = lambda _: None
        lab.docker.on_started = lambda one: lab.docker.die(one["Id"], 127)
        error = await refused(lab.user())
        assert error.status_code == 409
        assert "Your server ended by itself (exit code 127)" in error.jupyterhub_message
        assert "no module named jupyterhub" in caplog.text
        assert lab.nothing_is_left()


async def test_a_network_without_a_port_is_the_admins_to_mend(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        lab.docker.on_started = lambda one: one["NetworkSettings"]["Ports"].clear()
        error = await refused(lab.user())
        assert "Docker has published no port of it. Tell the admin" in error.jupyterhub_message
        assert lab.nothing_is_left()


async def test_an_old_container_is_removed_and_never_started_with_its_old_limits(
    tmp_path: Path,
) -> None:
    async with a_lab(tmp_path, remove=False) as lab:
        user = lab.user()
        await user.spawn(options={"mem_limit": 1})
        await user.stop()
        assert lab.docker.only()["State"]["Status"] == "exited"
        await user.spawn(options={"mem_limit": 2})
        assert lab.docker.only()["HostConfig"]["Memory"] == 2 * GIB


async def test_a_start_right_after_an_end_leaves_the_reason_in_the_receipt(
    tmp_path: Path,
) -> None:
    async with a_lab(tmp_path) as lab:
        user = lab.user()
        await user.spawn(options={})
        lease = lab.api.operations.book.leases[0]
        lab.docker.on_gone = lambda one: lab.api.operations.gone(one["Id"])
        lab.docker.die(lab.docker.only()["Id"], 137, oom=True)
        await user.stop()
        start = asyncio.create_task(user.spawn(options={}))
        await until(lambda: not lab.docker.containers)
        await asyncio.sleep(0.2)
        assert not start.done()
        lab.api.operations.end(lease.id, EndReason.OOM_LIMIT)
        await start
        assert [one.reason for one in lab.api.operations.ended] == [EndReason.OOM_LIMIT]
        assert lab.leases() == [LeaseState.BOUND]


async def test_a_short_start_timeout_still_gives_a_reason(tmp_path: Path) -> None:
    async with a_lab(tmp_path, ONE_AT_A_TIME, start_timeout=1) as lab:
        await lab.user("daemon").spawn()
        error = await refused(lab.user("bin"))
        assert "nothing came free" in error.jupyterhub_message.lower()


async def test_ids_that_a_hook_set_are_the_ones_a_server_runs_with(tmp_path: Path) -> None:
    def hook(spawner: object, _state: object) -> None:
        spawner.user_id = 4711  # type: ignore[attr-defined]

    async with a_lab(tmp_path, auth_state_hook=hook) as lab:
        await lab.user("nobody-at-all").spawn()
        assert lab.docker.only()["Config"]["User"] == "4711"
        assert environment(lab.docker.only())["NB_UID"] == "4711"


async def test_a_running_container_that_the_hub_forgot_makes_way(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        user = lab.user()
        await user.spawn(options={"mem_limit": 1})
        forgotten = lab.docker.only()["Id"]
        user.spawner.server = None
        lab.db.commit()
        for container in lab.docker.containers.values():
            container["Name"] = "/under-another-name"
        lab.restart_hub()
        await lab.user().spawn(options={"mem_limit": 1})
        await lab.close_hubs()
        assert forgotten not in lab.docker.containers
        assert lab.leases() == [LeaseState.BOUND]


async def test_a_forgotten_container_that_cannot_be_removed_keeps_its_lease(
    tmp_path: Path,
) -> None:
    async with a_lab(tmp_path, cleanup_timeout=0.2) as lab:
        user = lab.user()
        await user.spawn(options={"mem_limit": 1})
        user.spawner.server = None
        lab.db.commit()
        lab.docker.only()["Name"] = "/under-another-name"
        lab.restart_hub()
        lab.docker.faults["remove"] = 500
        await refused(lab.user(), {"mem_limit": 1})
        assert len(lab.docker.containers) == 1
        assert lab.leases() == [LeaseState.BOUND]
        lab.docker.faults.clear()
        await until(lab.nothing_is_left, 10)


async def test_a_forgotten_server_with_another_claim_makes_way(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        lease, _ = await lab.api.operations.claim(Claim(user="daemon", profile="Large"))
        lab.api.operations.bind(lease.id, "c" * 64)
        await lab.user().spawn(options={"profile": "Small"})
        assert [one.profile for one in lab.api.operations.book.leases] == ["Small"]


async def test_nothing_starts_while_the_last_server_cannot_be_removed(tmp_path: Path) -> None:
    async with a_lab(tmp_path, cleanup_timeout=0.1, docker_timeout=2) as lab:
        user = lab.user()
        await user.spawn()
        lab.docker.faults.update(stop=500, remove=500)
        with pytest.raises(NotStopped):
            await user.stop()
        error = await refused(user)
        assert error.status_code == 503
        assert "Your last server could not be removed yet. Try again" in error.jupyterhub_message
        assert len(lab.docker.containers) == 1


async def test_nothing_starts_beside_a_container_that_is_still_being_removed(
    tmp_path: Path,
) -> None:
    async with a_lab(tmp_path) as lab:
        await lab.user().spawn()
        user = lab.user()
        lab.docker.faults["remove"] = 409
        error = await refused(user)
        assert "Your last server is still being removed. Try again" in error.jupyterhub_message
        assert lab.leases() == [LeaseState.BOUND]
        assert len(lab.docker.containers) == 1
