"""A start through the hub's own code: what is made of claim, policy and the admin's settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from enforcer.model import LEASE_LABEL, LeaseState
from enforcer.quantities import GIB
from tests.unit.spawner.lab import POLICY, a_lab
from tests.unit.spawner.starts import environment, refused

pytestmark = pytest.mark.asyncio


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


async def test_settings_that_docker_cannot_take_are_told_as_such(tmp_path: Path) -> None:
    traits = {"network_name": "host", "use_internal_ip": False}
    async with a_lab(tmp_path, POLICY, **traits) as lab:
        error = await refused(lab.user())
        assert "The hub's settings for containers do not do" in error.jupyterhub_message
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
