"""What runs, what has ended and why; and what a hub finds that was restarted."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from jupyterhub import orm
from jupyterhub.user import User

from enforcer.model import Claim, EndReason, LeaseState, Resize
from enforcer.quantities import GIB, Bytes
from spawner.spawner import NotStopped
from tests.unit.spawner.lab import ONE_AT_A_TIME, POLICY, Lab, a_lab, until

pytestmark = pytest.mark.asyncio


def restarted(lab: Lab, name: str = "daemon") -> User:
    """Return a user as a hub knows them that was just restarted."""
    lab.db.commit()
    lab.restart_hub()
    return lab.user(name)


async def test_a_server_that_was_never_started_does_not_run(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        assert await lab.user().spawner.poll() == 0
        assert not lab.docker.asked


async def test_who_hit_their_own_limit_reads_so(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        user = lab.user()
        await user.spawn()
        lab.docker.die(lab.docker.only()["Id"], 137, oom=True)
        said = await user.spawner.poll()
        assert said == "your server was stopped: 4 GiB memory limit reached, peak 0 B"
        await user.stop()
        assert lab.nothing_is_left()
        assert [one.reason for one in lab.api.operations.ended] == [EndReason.OOM_LIMIT]


async def test_a_server_that_ended_by_itself_says_with_what_code(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        user = lab.user()
        await user.spawn()
        lab.docker.die(lab.docker.only()["Id"], 3)
        assert "ended by itself (exit code 3)" in str(await user.spawner.poll())


async def test_an_end_is_told_before_the_daemon_has_its_receipt(tmp_path: Path) -> None:
    async with a_lab(tmp_path, form_timeout=0.2) as lab:
        user = lab.user()
        await user.spawn()
        lab.docker.on_gone = lambda _: None
        lab.docker.die(lab.docker.only()["Id"], 137, oom=True)
        assert await user.spawner.poll() == "your server was stopped: it ran out of memory"
        await user.stop()
        # why it ended is the daemon's to say: a release by the hub would say that it was stopped
        assert lab.leases() == [LeaseState.BOUND]
        assert not lab.docker.containers


async def test_a_container_that_somebody_removed_has_ended(tmp_path: Path) -> None:
    async with a_lab(tmp_path, form_timeout=0.2) as lab:
        user = lab.user()
        await user.spawn()
        lab.docker.containers.clear()
        assert "its container was removed" in str(await user.spawner.poll())


@pytest.mark.parametrize("fault", [500, "hang"])
async def test_a_server_runs_on_while_docker_says_nothing(tmp_path: Path, fault: int | str) -> None:
    async with a_lab(tmp_path) as lab:
        user = lab.user()
        await user.spawn()
        lab.docker.faults["inspect"] = fault
        assert await user.spawner.poll() is None
        again = restarted(lab)
        assert again.spawner.server is not None
        assert await again.spawner.poll() is None
        assert await again.spawner.get_url() == again.spawner.server.url
        lab.docker.faults.clear()
        assert await again.spawner.poll() is None
        assert len(lab.docker.containers) == 1


async def test_the_daemon_knows_of_an_end_that_docker_cannot_tell(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        user = lab.user()
        await user.spawn()
        lab.docker.faults["inspect"] = 500
        lab.docker.die(lab.docker.only()["Id"], 137, oom=True)
        assert "memory limit reached" in str(await user.spawner.poll())


async def test_a_server_runs_on_while_neither_docker_nor_the_daemon_answers(
    tmp_path: Path,
) -> None:
    async with a_lab(tmp_path) as lab:
        user = lab.user()
        await user.spawn()
        lab.docker.faults["inspect"] = 500
        await lab.api.server.stop()
        assert await user.spawner.poll() is None
        assert user.spawner.get_state()["object_id"] == lab.docker.only()["Id"]


async def test_a_restarted_hub_finds_a_server_and_stops_it(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        user = lab.user()
        await user.spawn()
        lease_id = user.spawner.lease_id
        again = restarted(lab)
        assert await again.spawner.poll() is None
        assert again.spawner.lease_id == lease_id
        assert await again.spawner.get_url() == again.spawner.server.url
        await again.stop()
        assert lab.nothing_is_left()


async def test_a_daemon_that_restarts_finds_its_servers_with_the_hub(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        user = lab.user()
        await user.spawn()
        await lab.restart_daemon()
        assert await user.spawner.poll() is None
        await lab.user("bin").spawn()
        await user.stop()
        assert lab.leases() == [LeaseState.BOUND]


async def test_a_lease_is_released_when_the_daemon_is_back(tmp_path: Path) -> None:
    async with a_lab(tmp_path, cleanup_timeout=0.1) as lab:
        user = lab.user()
        await user.spawn()
        await lab.stop_daemon()
        await user.stop()
        assert not lab.docker.containers
        assert lab.leases() == [LeaseState.BOUND]
        await lab.start_daemon()
        await until(lab.nothing_is_left, 10)


async def test_after_a_restart_the_numbers_are_the_daemons(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        user = lab.user()
        await user.spawn()
        await user.spawner.resize(Resize(mem_limit=Bytes(2 * GIB), mem_guarantee=Bytes(0)))
        again = restarted(lab)
        lease = await again.spawner.lease_now()
        assert lease is not None
        assert lease.mem_limit == 2 * GIB


async def test_a_hub_killed_in_the_middle_of_a_start_finds_the_container(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        user = lab.user()
        await user.spawn()
        user.spawner.orm_spawner.state = {}
        again = restarted(lab)
        assert await again.spawner.poll() is None
        assert again.spawner.lease_id == lab.api.operations.book.leases[0].id
        await again.stop()
        assert lab.nothing_is_left()


async def test_a_hub_killed_while_a_start_waits_leaves_nothing_in_the_queue(
    tmp_path: Path,
) -> None:
    async with a_lab(tmp_path, ONE_AT_A_TIME) as lab:
        await lab.user("bin").spawn()
        await lab.api.operations.claim(Claim(user="daemon"))
        assert lab.leases() == [LeaseState.BOUND, LeaseState.QUEUED]
        lab.user().spawner.orm_spawner.server = orm.Server(base_url="/user/daemon/")
        again = restarted(lab)
        assert again.spawner.server is not None
        assert await again.spawner.poll() == 0
        await again.stop()
        assert lab.leases() == [LeaseState.BOUND]


async def test_a_stop_that_docker_does_not_do_is_done_when_it_can(tmp_path: Path) -> None:
    async with a_lab(tmp_path, cleanup_timeout=0.2, docker_timeout=2) as lab:
        user = lab.user()
        await user.spawn()
        spawner = user.spawner
        lab.docker.faults.update(stop=500, remove=500)
        with pytest.raises(NotStopped) as caught:
            await user.stop()
        assert caught.value.jupyterhub_message.startswith("Docker does not answer.")
        assert lab.leases() == [LeaseState.BOUND]
        assert spawner.orm_spawner.state["left"]["container"] == lab.docker.only()["Id"]
        again = restarted(lab)
        again.spawner.get_state()
        lab.docker.faults.clear()
        await until(lab.nothing_is_left, 10)


async def test_a_removal_under_way_keeps_the_lease_until_it_is_done(tmp_path: Path) -> None:
    async with a_lab(tmp_path, cleanup_timeout=0.2, docker_timeout=2) as lab:
        user = lab.user()
        await user.spawn()
        # as long as Docker cannot kill what runs, it says that it is at it
        lab.docker.faults["remove"] = 409
        await user.stop()
        assert lab.leases() == [LeaseState.BOUND]
        assert await user.spawner.poll() == 0
        assert user.spawner.orm_spawner.state["left"]["container"] == lab.docker.only()["Id"]
        lab.docker.faults.clear()
        await until(lab.nothing_is_left, 10)


async def test_a_new_start_waits_until_the_last_server_is_gone(tmp_path: Path) -> None:
    async with a_lab(tmp_path, cleanup_timeout=0.2, docker_timeout=5) as lab:
        user = lab.user()
        await user.spawn()
        lab.docker.faults.update(stop=500, remove=500)
        with pytest.raises(NotStopped):
            await user.stop()
        first = lab.docker.only()["Id"]
        start = asyncio.create_task(user.spawn(options={}))
        await asyncio.sleep(0.1)
        lab.docker.faults.clear()
        await start
        assert lab.docker.only()["Id"] != first
        assert lab.leases() == [LeaseState.BOUND]


async def test_a_server_stops_at_once_when_it_has_to(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        user = lab.user()
        await user.spawn()
        await user.spawner.stop(now=True)
        assert lab.docker.asked["stop"] == 0
        assert not lab.docker.containers


async def test_a_renamed_server_starts_under_its_new_name(tmp_path: Path) -> None:
    async with a_lab(tmp_path, remove=False) as lab:
        user = lab.user()
        await user.spawn("old")
        await user.stop("old")
        spawner = user.get_spawner("old")
        await spawner.rename("old", "new")
        assert not lab.docker.containers
        spawner.orm_spawner.name = "new"
        lab.db.commit()
        user.spawners.pop("old", None)
        await user.spawn("new")
        (lease,) = lab.api.operations.book.leases
        assert lease.server == "new"
        await user.stop("new")
        await user.get_spawner("new").delete_forever()
        assert lab.nothing_is_left()


async def test_a_renamed_user_keeps_their_running_server(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        user = lab.user()
        await user.spawn()
        lab.db.query(orm.User).filter_by(name="daemon").one().name = "bin"
        again = restarted(lab, "bin")
        assert await again.spawner.poll() is None
        await again.stop()
        assert lab.nothing_is_left()


async def test_two_servers_of_one_user_are_told_apart(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        user = lab.user()
        small = {"cpu_limit": 0.5, "mem_limit": 0.5}
        await user.spawn(options=small)
        await user.spawn("gpu", options=small)
        assert len(set(lab.docker.names())) == 2
        await user.stop("gpu")
        assert await user.spawner.poll() is None
        assert [one.server for one in lab.api.operations.book.leases] == [""]


async def test_the_options_form_says_so_when_the_daemon_is_down(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        spawner = lab.user().spawner
        assert "Small" in await spawner.get_options_form()
        await lab.api.server.stop()
        assert "resource service is down" in await spawner.get_options_form()


async def test_the_options_form_never_fails(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        spawner = lab.user().spawner
        spawner.user_options = {"profile": 5, "cpu_limit": 10**400, "mem_limit": True}
        assert "Small" in await spawner.get_options_form()


async def test_the_options_form_waits_for_a_hung_daemon_as_long_as_a_page_may(
    tmp_path: Path,
) -> None:
    listener = await asyncio.start_unix_server(_silent, tmp_path / "silent.sock")
    traits = {"socket_path": str(tmp_path / "silent.sock"), "form_timeout": 0.1}
    async with listener, a_lab(tmp_path, POLICY, **traits) as lab:
        async with asyncio.timeout(3):
            assert "resource service is down" in await lab.user().spawner.get_options_form()


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take everything and say nothing."""
    await reader.read()
    writer.close()
