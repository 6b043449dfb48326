"""A start through the hub's own code: what is made, and that nothing is left where it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from jupyterhub.user import User

from enforcer.model import LEASE_LABEL, Claim, EndReason, LeaseState
from enforcer.quantities import GIB
from spawner.refusals import StartRefused
from spawner.spawner import NotStopped
from tests.unit.spawner.dockerd import Json
from tests.unit.spawner.lab import ONE_AT_A_TIME, POLICY, Lab, a_lab, until

pytestmark = pytest.mark.asyncio


async def refused(user: User, options: object = None, server: str = "") -> StartRefused:
    """Start a server, and return why it was refused."""
    with pytest.raises(StartRefused) as caught:
        await user.spawn(server, options=options)
    assert caught.value.jupyterhub_message
    assert 400 <= caught.value.status_code < 600
    return caught.value


async def cancelled(lab: Lab, user: User, reached: str, server: str = "") -> None:
    """Start a server; when Docker is asked for `reached`, cancel it as the hub's DELETE does."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def pause() -> None:
        begun.set()
        await go_on.wait()

    lab.docker.before[reached] = pause
    start = asyncio.create_task(user.spawn(server, options={}))
    await asyncio.wait_for(begun.wait(), 5)
    start.cancel()
    done, _ = await asyncio.wait([start], timeout=1)
    assert done, "the hub gives a cancelled start one second"
    del lab.docker.before[reached]
    go_on.set()
    await user.stop(server)


async def watch(user: User, say: Callable[[str], None]) -> None:
    """Watch a start's progress to its end."""
    async for event in user.spawner.progress():
        say(str(event["message"]))


def environment(container: Json) -> dict[str, str]:
    return dict(line.split("=", 1) for line in container["Config"]["Env"])


async def test_a_server_starts_where_the_daemon_put_it_and_stops_without_a_trace(
    tmp_path: Path,
) -> None:
    async with a_lab(tmp_path) as lab:
        user = lab.user()
        options = {"profile": "Large", "cpu_limit": 4, "mem_limit": 8.5, "mem_guarantee": 2}
        await user.spawn(options=options)
        container = lab.docker.only()
        host, config = container["HostConfig"], container["Config"]
        (lease,) = lab.api.operations.book.leases
        assert lease.state is LeaseState.BOUND
        assert host["CgroupParent"] == lease.unit
        assert config["Labels"][LEASE_LABEL] == lease.id
        assert host["NanoCpus"] == 4_000_000_000
        assert host["Memory"] == host["MemorySwap"] == 8.5 * GIB
        assert (config["Image"], config["Cmd"]) == ("lab/base:1", ["start-notebook.py"])
        told = environment(container)
        assert (told["MEM_LIMIT"], told["CPU_LIMIT"]) == (f"{round(8.5 * GIB)}", "4.0")
        assert told["MEM_GUARANTEE"] == f"{2 * GIB}"
        assert await user.spawner.poll() is None
        await user.stop()
        assert lab.nothing_is_left()
        assert user.spawner.get_state() == {}


async def test_a_start_without_options_has_limits_home_and_shared_directories(
    tmp_path: Path,
) -> None:
    async with a_lab(tmp_path) as lab:
        user = lab.user()
        await user.spawn()
        container = lab.docker.only()
        assert container["HostConfig"]["Memory"] == 4 * GIB
        assert container["HostConfig"]["NanoCpus"] == 2_000_000_000
        assert container["HostConfig"]["PidsLimit"] == 4096
        assert [(one["Target"], one["ReadOnly"]) for one in container["HostConfig"]["Mounts"]] == [
            ("/home/daemon", False),
            ("/media/references", True),
        ]
        assert container["Config"]["WorkingDir"] == "/home/daemon"
        assert container["Config"]["User"] == "1:1"
        told = environment(container)
        assert told["HOME"] == "/home/daemon"
        assert (told["NB_USER"], told["NB_UID"], told["NB_GID"]) == ("daemon", "1", "1")


async def test_stored_options_are_used_again_and_refused_ones_are_not_kept(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        user = lab.user()
        await user.spawn(options={"mem_limit": 2})
        await user.stop()
        await user.spawn()
        assert lab.docker.only()["HostConfig"]["Memory"] == 2 * GIB
        await user.stop()
        error = await refused(user, {"profile": "Secret"})
        assert error.status_code == 404
        await user.spawn()
        assert lab.docker.only()["HostConfig"]["Memory"] == 4 * GIB


REFUSED: list[tuple[object, int, str]] = [
    ({"cpu_limit": 0}, 400, "would stop everything"),
    ({"mem_limit": -1}, 400, "would stop everything"),
    ({"cpu_limit": "2"}, 400, "must be a number"),
    ({"mem_limit": float("nan")}, 400, "must be a number, not 'nan'"),
    ({"mem_limit": 1e300}, 403, "more than the profile 'Small' has"),
    ({"profile": "Secret"}, 404, "have no profile named 'Secret'"),
    ({"image": "lab/private:1"}, 404, "no image named"),
    ({"image": ["Base"]}, 400, "must be a name"),
    ({"volumes": {"/": "/host"}}, 400, "is no option 'volumes'"),
    ({"mem_guarantee": 5}, 400, "with a limit of 4 GiB"),
]


async def test_what_policy_does_not_allow_is_refused_with_a_sentence(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        user = lab.user()
        for options, status, said in REFUSED:
            error = await refused(user, options)
            assert said in error.jupyterhub_message
            assert error.status_code == status
        assert lab.nothing_is_left()
        assert lab.docker.asked["create"] == 0


async def test_options_that_would_break_the_hubs_pages_do_not(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        user = lab.user()
        user.spawner.orm_spawner.user_options = {"__jupyterhub_bytes__": True, "data": "eA=="}
        lab.db.commit()
        lab.db.expire_all()
        again = lab.user()
        assert again.spawner.user_options == {"options": "a file"}
        assert "no option" in (await refused(again)).jupyterhub_message
        await again.spawn()


async def test_the_admins_settings_hold_but_for_limits(tmp_path: Path) -> None:
    traits = {
        "environment": {"NB_USER": "somebody", "LAB": "53"},
        "extra_host_config": {
            "mem_limit": "500g",
            "cpu_quota": 3_600_000,
            "cpu_period": 100_000,
            "cgroup_parent": "/",
            "pids_limit": -1,
            "oom_kill_disable": True,
            "cap_add": ["SYS_PTRACE"],
        },
        "extra_create_kwargs": {"image": "lab/private:1", "hostname": "lab", "labels": {"a": "b"}},
        "cmd": ["jupyterhub-singleuser"],
        "args": ["--debug"],
        "allowed_images": {"Base": "another:1"},
        "image": "another:1",
        "mem_limit": "400G",
        "default_url": "/lab",
    }
    async with a_lab(tmp_path, POLICY, **traits) as lab:
        user = lab.user()
        await user.spawn(options={"image": "Science"})
        container = lab.docker.only()
        host, config = container["HostConfig"], container["Config"]
        assert host["Memory"] == 4 * GIB
        assert host["NanoCpus"] == 2_000_000_000
        assert not {"CpuQuota", "CpuPeriod", "OomKillDisable"} & host.keys()
        assert host["PidsLimit"] == 4096
        assert host["CgroupParent"] == "jupyter-workload-Small-daemon-default.slice"
        assert host["CapAdd"] == ["SYS_PTRACE"]
        assert config["Image"] == "lab/science:2"
        assert config["Hostname"] == "lab"
        assert config["Labels"]["a"] == "b"
        assert config["Cmd"] == ["jupyterhub-singleuser", "--debug"]
        told = environment(container)
        assert (told["NB_USER"], told["LAB"], told["NB_UID"]) == ("somebody", "53", "1")
        assert told["JUPYTERHUB_DEFAULT_URL"] == "/lab"


async def test_the_admins_own_hooks_run_and_what_they_ask_for_is_checked(tmp_path: Path) -> None:
    ran = []

    def before(spawner: object) -> None:
        ran.append("before")
        spawner.user_options = {"profile": "Secret"}  # type: ignore[attr-defined]

    async def after(_spawner: object) -> None:
        ran.append("after")

    async with a_lab(tmp_path, pre_spawn_hook=before, post_stop_hook=after) as lab:
        error = await refused(lab.user(), {})
        assert "no profile named 'Secret'" in error.jupyterhub_message
        assert ran == ["before", "after"]
        assert lab.nothing_is_left()


async def test_an_image_with_an_entry_point_only_starts(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        lab.docker.add_image("lab/base:1", None)
        await lab.user().spawn()
        assert lab.docker.only()["Config"].get("Cmd") is None


async def test_an_admins_own_name_for_containers_is_respected(tmp_path: Path) -> None:
    async with a_lab(tmp_path, name_template="lab-{username}-{imagename}") as lab:
        user = lab.user()
        await user.spawn(options={"image": "Science"})
        assert lab.docker.names() == ["lab-daemon-lab-science-2"]
        await user.stop()
        assert lab.nothing_is_left()


async def test_a_dockerd_that_was_restarted_is_found_again(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        user = lab.user()
        await user.spawn()
        await lab.stop_docker()
        assert await user.spawner.poll() is None
        assert (await refused(lab.user("bin"))).status_code == 503
        await lab.start_docker()
        assert await user.spawner.poll() is None
        await lab.user("bin").spawn()
        await user.stop()
        assert len(lab.docker.containers) == 1


async def test_named_servers_share_one_users_total(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        user = lab.user()
        asked = {"profile": "Large", "cpu_guarantee": 0, "mem_guarantee": 0}
        await user.spawn("one", options=asked)
        await user.spawn("two", options=asked)
        error = await refused(user, asked, "three")
        assert error.status_code == 409
        assert len({*lab.docker.names()}) == 2
        await user.stop("one")
        await user.spawn("three", options=asked)


async def test_the_hubs_groups_count(tmp_path: Path) -> None:
    policy = POLICY + '[group_profiles.privileged]\nallowed_resources = ["Secret"]\n'
    policy += "cpu_total = 30\nmem_total = 100\n"
    async with a_lab(tmp_path, policy) as lab:
        await refused(lab.user("bin"), {"profile": "Secret"})
        user = lab.user("daemon", ("privileged",))
        await user.spawn(options={"profile": "Secret"})
        assert lab.docker.only()["HostConfig"]["Memory"] == 100 * GIB


async def test_a_missing_home_is_told_to_the_user_and_made_by_nobody(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        lab.docker.folders = {"/media/references"}
        user = lab.user()
        error = await refused(user)
        assert error.jupyterhub_message.startswith("Your home directory /home/daemon is not there")
        assert "host_homedir_format_string" in error.log_message
        assert lab.nothing_is_left()
        lab.docker.folders = {"/home/daemon"}
        error = await refused(user)
        assert "shared directory /media/references is not there" in error.jupyterhub_message
        assert lab.nothing_is_left()


async def test_who_has_no_account_or_is_root_has_no_server(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        error = await refused(lab.user("no\x00body"))
        assert error.status_code in {400, 404}
        error = await refused(lab.user("nobody-at-all"))
        assert "no account named 'nobody-at-all'" in error.jupyterhub_message
        error = await refused(lab.user("root"))
        assert error.jupyterhub_message.startswith("Servers do not run as root.")
        assert lab.nothing_is_left()


async def test_without_a_home_in_the_policy_no_account_is_needed(tmp_path: Path) -> None:
    policy = POLICY.replace('host_homedir_format_string = "/home/{username}"\n', "")
    async with a_lab(tmp_path, policy) as lab:
        await lab.user("nobody-at-all").spawn()
        config = lab.docker.only()["Config"]
        assert "User" not in config or not config["User"]
        assert environment(lab.docker.only())["NB_USER"] == "nobody-at-all"


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
            lab.docker.die(container["Id"], 127)

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


async def test_a_forgotten_server_with_another_claim_makes_way(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        lease, _ = await lab.api.operations.claim(Claim(user="daemon", profile="Large"))
        lab.api.operations.bind(lease.id, "c" * 64)
        await lab.user().spawn(options={"profile": "Small"})
        assert [one.profile for one in lab.api.operations.book.leases] == ["Small"]


async def test_with_the_daemon_down_nothing_starts_and_the_user_is_told(tmp_path: Path) -> None:
    async with a_lab(tmp_path, socket_path=str(tmp_path / "nobody.sock")) as lab:
        error = await refused(lab.user())
        assert error.status_code == 503
        assert error.jupyterhub_message.startswith("The machine's resource service is down")
        assert "nobody.sock" in error.log_message
        assert lab.nothing_is_left()


async def test_a_start_tells_what_it_waits_for_in_the_queue(tmp_path: Path) -> None:
    async with a_lab(tmp_path, ONE_AT_A_TIME) as lab:
        first, second = lab.user("daemon"), lab.user("bin")
        await first.spawn()
        start = asyncio.create_task(second.spawn(options={}))
        await until(lambda: LeaseState.QUEUED in lab.leases())
        lines: list[str] = []
        watching = asyncio.create_task(watch(second, lines.append))
        await until(lambda: any("number 1 in line" in line for line in lines))
        assert not start.done()
        await first.stop()
        await start
        await watching
        assert any("Starting the container" in line for line in lines)
        assert len(lab.docker.containers) == 1


async def test_a_start_that_waits_in_the_queue_can_be_cancelled(tmp_path: Path) -> None:
    async with a_lab(tmp_path, ONE_AT_A_TIME) as lab:
        first, second = lab.user("daemon"), lab.user("bin")
        await first.spawn()
        start = asyncio.create_task(second.spawn(options={}))
        await until(lambda: LeaseState.QUEUED in lab.leases())
        start.cancel()
        await asyncio.wait([start], timeout=1)
        await second.stop()
        assert lab.leases() == [LeaseState.BOUND]


async def test_a_start_does_not_wait_in_the_queue_for_ever(tmp_path: Path) -> None:
    async with a_lab(tmp_path, ONE_AT_A_TIME, queue_timeout=0.3) as lab:
        await lab.user("daemon").spawn()
        error = await refused(lab.user("bin"))
        assert error.status_code == 409
        assert "nothing came free" in error.jupyterhub_message.lower()
        assert lab.leases() == [LeaseState.BOUND]


async def test_a_daemon_that_restarts_loses_nobodys_place_in_the_queue(tmp_path: Path) -> None:
    async with a_lab(tmp_path, ONE_AT_A_TIME) as lab:
        first = lab.user("daemon")
        await first.spawn()
        start = asyncio.create_task(lab.user("bin").spawn(options={}))
        await until(lambda: LeaseState.QUEUED in lab.leases())
        await lab.stop_daemon()
        await asyncio.sleep(0.1)
        await lab.start_daemon()
        await first.stop()
        await start
        assert lab.leases() == [LeaseState.BOUND]


async def test_a_daemon_that_goes_away_after_its_grant_stops_no_start(tmp_path: Path) -> None:
    async with a_lab(tmp_path, daemon_timeout=1.0) as lab:
        lab.docker.before["start"] = lab.stop_daemon
        user = lab.user()
        await user.spawn()
        assert lab.docker.only()["HostConfig"]["Memory"] == 4 * GIB


async def test_a_daemon_that_goes_away_during_a_claim_keeps_no_lease(tmp_path: Path) -> None:
    async with a_lab(tmp_path, daemon_timeout=0.3, cleanup_timeout=0.1) as lab:
        lab.api.operations.claiming.clear()
        error = await refused(lab.user())
        assert error.status_code == 503
        lab.api.operations.claiming.set()
        await until(lambda: not lab.docker.containers and not lab.leases(), 10)


async def test_nothing_starts_while_the_last_server_cannot_be_removed(tmp_path: Path) -> None:
    async with a_lab(tmp_path, cleanup_timeout=0.1, docker_timeout=0.3) as lab:
        user = lab.user()
        await user.spawn()
        lab.docker.faults.update(stop=500, remove=500)
        with pytest.raises(NotStopped):
            await user.stop()
        error = await refused(user)
        assert error.status_code == 503
        assert "last server could not be removed yet" in error.log_message
        assert len(lab.docker.containers) == 1


async def test_who_loses_their_place_in_the_queue_reads_why(tmp_path: Path) -> None:
    async with a_lab(tmp_path, ONE_AT_A_TIME) as lab:
        await lab.user("daemon").spawn()
        start = asyncio.create_task(refused(lab.user("bin")))
        await until(lambda: LeaseState.QUEUED in lab.leases())
        lab.api.operations.end(lab.api.operations.book.queued[0].id, EndReason.EXPIRED)
        assert "your turn did not come in time" in (await start).jupyterhub_message.lower()


async def test_a_slow_pull_holds_up_nobody_else(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        del lab.docker.images["lab/science:2"]
        layer = {"status": "Downloading", "progressDetail": {"current": 1, "total": 4}, "id": "a"}
        lab.docker.pulls["lab/science:2"] = [layer]
        lab.docker.gate.clear()
        slow = [lab.user("daemon"), lab.user("bin")]
        starts = [asyncio.create_task(one.spawn(options={"image": "Science"})) for one in slow]
        await until(lambda: lab.docker.asked["pull"])
        quick = lab.user("man")
        await quick.spawn(options={"image": "Base"})
        assert await quick.spawner.poll() is None
        assert not any(start.done() for start in starts)
        lines: list[str] = []
        watching = asyncio.create_task(watch(slow[0], lines.append))
        await until(lambda: any("1 layers" in line for line in lines))
        lab.docker.gate.set()
        await asyncio.gather(*starts, watching)
        assert lab.docker.asked["pull"] == 1
        assert len(lab.docker.containers) == 3


async def test_an_image_that_cannot_be_fetched_is_told(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        del lab.docker.images["lab/base:1"]
        error = await refused(lab.user())
        assert "could not be fetched" in error.jupyterhub_message
        assert "manifest for lab/base:1 not found" in error.jupyterhub_message
        lab.docker.pulls["lab/base:1"] = [{"error": "no space left on device"}]
        error = await refused(lab.user("bin"))
        assert "no space left on device" in error.jupyterhub_message
        assert lab.nothing_is_left()


async def test_a_pull_has_its_time(tmp_path: Path) -> None:
    async with a_lab(tmp_path, pull_timeout=1.0) as lab:
        del lab.docker.images["lab/base:1"]
        lab.docker.pulls["lab/base:1"] = []
        lab.docker.gate.clear()
        error = await refused(lab.user())
        assert "takes longer than" in error.jupyterhub_message
        assert lab.nothing_is_left()


async def test_a_pull_that_nobody_waits_for_any_more_ends(tmp_path: Path) -> None:
    async with a_lab(tmp_path) as lab:
        del lab.docker.images["lab/base:1"]
        lab.docker.pulls["lab/base:1"] = []
        lab.docker.gate.clear()
        user = lab.user()
        start = asyncio.create_task(user.spawn(options={}))
        await until(lambda: lab.docker.asked["pull"])
        start.cancel()
        await asyncio.wait([start], timeout=1)
        await user.stop()
        assert lab.nothing_is_left()


async def test_an_image_may_not_be_fetched_where_the_admin_said_never(tmp_path: Path) -> None:
    async with a_lab(tmp_path, pull_policy="never") as lab:
        del lab.docker.images["lab/base:1"]
        error = await refused(lab.user())
        assert "the admin has to fetch it first" in error.jupyterhub_message.lower()
        assert lab.docker.asked["pull"] == 0


async def test_many_users_start_at_once(tmp_path: Path) -> None:
    names = ["daemon", "bin", "sys", "sync", "games", "man", "lp", "mail", "news", "uucp", "proxy"]
    async with a_lab(tmp_path) as lab:
        users = [lab.user(name) for name in names]
        found = await asyncio.gather(
            *(user.spawn(options={}) for user in users), return_exceptions=True
        )
        refusals = [one for one in found if isinstance(one, BaseException)]
        assert all(isinstance(one, StartRefused) for one in refusals)
        assert len(lab.docker.containers) == len(names) - len(refusals)
        assert len(lab.leases()) == len(lab.docker.containers)
        for user in users:
            if user.spawner.server is not None:
                await user.stop()
        assert lab.nothing_is_left()
