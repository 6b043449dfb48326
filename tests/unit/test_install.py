from __future__ import annotations

import configparser
import importlib.metadata
import json
import os
import sys
import tomllib
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from enforcer.bootstrap import Finished
from enforcer.config import parse_config
from enforcer.errors import ForbiddenError, InvalidError, UnavailableError
from enforcer.install import engine, hub, main
from enforcer.install.files import (
    CONFIGURATION,
    FIRST_CAP,
    HUB_USERS,
    PROXY,
    UNIT_FOLDER,
    ManagedFile,
    Step,
    decide_install,
    decide_uninstall,
    digest,
    distribution,
    managed_files,
    with_hub_users,
)
from enforcer.install.host import Host, Manifest
from enforcer.install.hub import Offline
from enforcer.model import Capacity
from enforcer.quantities import CORE, GIB, Bytes
from tests.unit.installs import (
    CHECKOUT,
    EXAMPLE,
    NODE,
    RecordingRunner,
    files_of,
    host_at,
    install,
    modules,
    small_checkout,
)

UNIT = PurePosixPath("usr/local/lib/systemd/system/jupyter.slice")
OURS = ManagedFile(path=UNIT, content=b"[Slice]\n")
THEIRS = ManagedFile(path=CONFIGURATION, content=b"# example\n", theirs=True)


def test_a_missing_file_is_written() -> None:
    assert decide_install([OURS], {}, {}) == [(UNIT, Step.WRITE)]


def test_a_file_of_an_earlier_version_that_nobody_touched_is_replaced() -> None:
    old = digest(b"old")
    assert decide_install([OURS], {str(UNIT): [old]}, {str(UNIT): old}) == [(UNIT, Step.WRITE)]


def test_a_file_that_an_admin_changed_is_kept() -> None:
    ours, present = {str(UNIT): [digest(b"old")]}, {str(UNIT): digest(b"edited")}
    assert decide_install([OURS], ours, present) == [(UNIT, Step.KEEP)]


def test_a_file_that_was_there_before_us_is_kept() -> None:
    assert decide_install([OURS], {}, {str(UNIT): digest(b"theirs")}) == [(UNIT, Step.KEEP)]


def test_the_configuration_is_never_replaced_even_where_it_is_still_the_old_example() -> None:
    old = digest(b"# old example\n")
    name = str(CONFIGURATION)
    assert decide_install([THEIRS], {name: [old]}, {name: old}) == [(CONFIGURATION, Step.KEEP)]


def test_what_is_there_already_is_left_alone() -> None:
    assert decide_install([OURS], {}, {str(UNIT): OURS.digest}) == [(UNIT, Step.UNCHANGED)]


def test_a_file_that_this_version_no_longer_has_goes_unless_it_was_changed() -> None:
    gone, changed = "usr/local/lib/a", "usr/local/lib/b"
    ours = {gone: [digest(b"a")], changed: [digest(b"b")], "usr/local/lib/c": [digest(b"c")]}
    present = {gone: digest(b"a"), changed: digest(b"edited")}
    assert decide_uninstall(ours, present) == [
        (PurePosixPath(gone), Step.REMOVE),
        (PurePosixPath(changed), Step.KEEP),
    ]


def test_every_unit_of_the_checkout_has_its_place() -> None:
    paths = {file.path for file in managed_files(CHECKOUT, cores=2)}
    for name in ("enforcer.service", "enforcer.socket", "jupyter.slice", "jupyter-engine.slice"):
        assert UNIT_FOLDER / name in paths
    assert UNIT_FOLDER / "docker.service.d/50-enforcer.conf" in paths
    assert PurePosixPath("usr/local/lib/sysusers.d/enforcer.conf") in paths
    assert CONFIGURATION in paths


def test_daemon_json_keeps_what_an_admin_wrote() -> None:
    merged = engine.merge('{"data-root": "/big", "live-restore": true}')
    assert merged.text is not None
    assert json.loads(merged.text) == {
        "data-root": "/big",
        "live-restore": True,
        "cgroup-parent": "jupyter-workload-adopted.slice",
    }
    assert engine.merge(merged.text).text is None
    taken_out = engine.unmerge(merged.text, merged.added, None)
    assert taken_out is not None
    assert json.loads(taken_out) == {"data-root": "/big", "live-restore": True}


def test_daemon_json_comes_back_word_for_word_where_nobody_else_wrote_in_it() -> None:
    before = '{"debug":true}'
    merged = engine.merge(before)
    assert engine.unmerge(merged.text, merged.added, before) == before
    assert engine.unmerge(before, merged.added, before) is None
    assert merged.text is not None
    edited = merged.text.replace("true", "false", 1)
    for there in (before, "{}", "broken"):
        left = engine.unmerge(edited, merged.added, there)
        assert left is not None
        assert json.loads(left) == {"debug": False}
    alone = engine.merge(None)
    assert engine.unmerge(alone.text, alone.added, None) == "", "there was none"


def test_a_key_that_an_admin_set_otherwise_is_reported_and_left() -> None:
    merged = engine.merge('{"cgroup-parent": "lab.slice", "live-restore": true}')
    assert merged.text is None
    assert merged.conflicts == {"cgroup-parent": "lab.slice"}


@pytest.mark.parametrize("text", ["{", "[]", '"x"'])
def test_a_daemon_json_that_is_none_is_refused_with_its_name(text: str) -> None:
    with pytest.raises(InvalidError, match=r"daemon\.json"):
        engine.merge(text)


@pytest.mark.parametrize("name", ["daemon.json", "daemon.json.before-enforcer"])
def test_a_daemon_json_that_is_not_utf_8_is_refused_with_its_name(
    tmp_path: Path, name: str
) -> None:
    host, checkout = host_at(tmp_path / "host"), small_checkout(tmp_path / "checkout")
    install(host, checkout)
    (host.root / "etc/docker" / name).write_bytes('{"proxies": "Müller"}'.encode("latin-1"))
    with pytest.raises(InvalidError, match=rf"/etc/docker/{name} is not UTF-8: .* at byte 14"):
        main(["uninstall"], host)
    (host.root / "etc/docker" / name).unlink()
    assert main(["uninstall"], host) == 0


def test_a_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runner = RecordingRunner()
    host = host_at(tmp_path, runner, dry=True)
    host.write(OURS)
    host.store_manifest(Manifest())
    host.write_docker_config("{}")
    host.read_units("enforcer.conf")
    host.activate(start=True, units=("enforcer.service",))
    assert main(["install", "--dry-run", "--hub"], host) == 0
    assert "is yours" not in capsys.readouterr().err  # there is nothing that could be
    assert main(["uninstall", "--dry-run", "--purge"], host) == 0
    assert files_of(host).keys() == {"sys/fs/cgroup/cgroup.controllers"}
    assert not _changing(runner)


def _changing(runner: RecordingRunner) -> list[str]:
    """Return the commands that ask for more than how things are."""
    asked = ("systemctl show ", "docker ps ")
    return [words for words in runner.commands if not words.startswith(asked)]


def test_the_first_daemon_json_stays_beside_ours(tmp_path: Path) -> None:
    docker = tmp_path / "etc/docker"
    docker.mkdir(parents=True)
    (docker / "daemon.json").write_text("{}")
    host = host_at(tmp_path, RecordingRunner())
    host.write_docker_config('{"a": 1}')
    host.write_docker_config('{"a": 2}')
    assert (docker / "daemon.json.before-enforcer").read_text() == "{}"
    assert host.read_docker_config() == '{"a": 2}'


def test_a_daemon_json_that_others_could_not_read_stays_so(tmp_path: Path) -> None:
    docker = tmp_path / "etc/docker"
    docker.mkdir(parents=True)
    (docker / "daemon.json").touch(mode=0o600)
    host_at(tmp_path, RecordingRunner()).write_docker_config("{}")
    assert {path.stat().st_mode & 0o777 for path in docker.iterdir()} == {0o600}


def test_a_daemon_json_that_says_something_else_than_before_leaves_that_beside_it(
    tmp_path: Path,
) -> None:
    docker = tmp_path / "etc/docker"
    docker.mkdir(parents=True)
    (docker / "daemon.json").write_text("{}")
    host = host_at(tmp_path)
    host.write_docker_config('{"a": 1}')
    host.drop_docker_backup()
    assert (docker / "daemon.json.before-enforcer").read_text() == "{}"
    host.restore_docker_config("{}")
    host.drop_docker_backup()
    assert [path.name for path in docker.iterdir()] == ["daemon.json"]


def test_what_was_copied_from_a_folder_open_to_all_is_for_root_alone_to_write(
    tmp_path: Path,
) -> None:
    outside, new = tmp_path / "outside", tmp_path / "new"
    (new / "package").mkdir(parents=True)
    outside.touch()
    (new / "link").symlink_to(outside)
    (new / "package/module.py").touch()
    for path in (outside, new, new / "package", new / "package/module.py"):
        path.chmod(0o777)
    host_at(tmp_path, RecordingRunner()).swap(new, tmp_path / "lib")
    placed = ("lib", "lib/package", "lib/package/module.py")
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in placed} == {0o755}
    assert outside.stat().st_mode & 0o777 == 0o777


def test_a_manifest_that_cannot_be_read_is_an_error_with_a_hint(tmp_path: Path) -> None:
    host = host_at(tmp_path, RecordingRunner())
    manifest = Manifest(files={"a": "b"}, begun={"a": ["c"], "d": ["e"]}, making="f")
    host.store_manifest(manifest)
    assert host.load_manifest() == manifest
    assert manifest.ours == {"a": {"b", "c"}, "d": {"e"}}
    (tmp_path / "var/lib/enforcer/installed.json").write_text("{")
    with pytest.raises(UnavailableError, match=r"installed\.json"):
        host.load_manifest()


def test_an_engine_in_another_slice_is_named(tmp_path: Path) -> None:
    show = "systemctl show --property=ControlGroup --value"
    inside = "/jupyter.slice/jupyter-engine.slice/docker.service"
    runner = RecordingRunner(
        {
            f"{show} docker": Finished(0, inside),
            f"{show} containerd": Finished(0, "/system.slice/containerd.service"),
        }
    )
    assert host_at(tmp_path, runner).engine_outside() == ["containerd"]


def test_a_failed_step_says_what_failed(tmp_path: Path) -> None:
    runner = RecordingRunner({"systemctl daemon-reload": Finished(1, "no bus")})
    with pytest.raises(UnavailableError, match="no bus"):
        host_at(tmp_path, runner).read_units("enforcer.conf")


# --- from the words to the host ---


@pytest.mark.parametrize("cores", [1, 2, 3, 7, 12, 64, 256])
def test_before_the_daemon_has_run_the_cpu_cap_is_the_one_of_a_configuration_that_names_none(
    cores: int,
) -> None:
    [cap] = [one for one in managed_files(CHECKOUT, cores=cores) if one.path == FIRST_CAP]
    capacity = Capacity(cores=cores, memory=Bytes(64 * GIB))
    text = EXAMPLE.replace("cpu_limit = 1\n", "cpu_limit = 0.5\n")  # it fits one core then
    quota = parse_config(text, capacity).quota.cpu
    assert f"\n[Slice]\nCPUQuota={quota * 100 // CORE}%\n" in cap.content.decode()
    # systemd.unit(5): drop-ins are read by their names' order, whatever folder they are in
    assert FIRST_CAP.parent == UNIT_FOLDER / "jupyter.slice.d"
    assert FIRST_CAP.name < "50-CPUQuota.conf"


@pytest.mark.parametrize(
    ("missing", "code", "hint"),
    [
        ("run/systemd/system", "install.no-systemd", "python3 -m enforcer demo"),
        (
            "sys/fs/cgroup/cgroup.controllers",
            "install.no-cgroup2",
            "systemd.unified_cgroup_hierarchy=1",
        ),
    ],
)
@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_a_host_on_which_it_cannot_work_is_left_as_it_is(
    tmp_path: Path, missing: str, code: str, hint: str, words: tuple[str, ...]
) -> None:
    runner = RecordingRunner()
    host = host_at(tmp_path, runner)
    path = tmp_path / missing
    path.rename(tmp_path / "elsewhere")
    before = files_of(host)
    with pytest.raises(UnavailableError) as caught:
        main(["install", *words], host)
    assert caught.value.code == code
    assert hint in caught.value.hint
    assert (files_of(host), runner.commands) == (before, [])


@pytest.mark.parametrize("command", ["install", "uninstall"])
def test_who_is_not_root_may_look_what_would_be_done_and_do_nothing(
    tmp_path: Path, command: str
) -> None:
    runner = RecordingRunner()
    host = replace(host_at(tmp_path, runner), privileged=False)
    before = files_of(host)
    with pytest.raises(ForbiddenError) as caught:
        main([command], host)
    assert caught.value.code == "install.not-root"
    assert caught.value.hint == f"type: sudo python3 -m enforcer {command}"
    assert main([command, "--dry-run"], host) == 0
    assert files_of(host) == before
    assert not _changing(runner)
    assert Host(console=host.console).privileged == (os.geteuid() == 0)


def test_what_is_left_to_the_admin_is_said_and_is_no_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = host_at(tmp_path)
    (tmp_path / "etc/docker").mkdir(parents=True)
    (tmp_path / "etc/docker/daemon.json").write_text('{"cgroup-parent": "lab.slice"}')
    assert install(host, small_checkout(tmp_path / "checkout")) == 0
    said = capsys.readouterr().err
    assert "left for you: /etc/docker/daemon.json has cgroup-parent = 'lab.slice'" in said
    assert "The Enforcer is installed." in said


def _installed(root: Path) -> Host:
    """A host with the hub, on which the daemon has run."""
    host = host_at(root / "host")
    install(host, small_checkout(root / "checkout"), "--hub")
    (host.root / "var/lib/enforcer/enforcer.db").touch()
    (host.root / "etc/enforcer/enforcer.toml").write_text("# mine\n")
    for control in ("etc/systemd", "run/systemd"):
        folder = host.root / control / "system.control/jupyter.slice.d"
        folder.mkdir(parents=True)
        (folder / "50-CPUQuota.conf").touch()
    leaf = host.root / _LEAF
    leaf.parent.mkdir(parents=True)
    leaf.touch()
    return host


_LEAF = "run/systemd/system.control/jupyter-workload-a-b-c.slice.d/50-MemoryMax.conf"
"""What a running container is held to."""


KEPT = {
    _LEAF,
    "etc/enforcer/enforcer.toml",
    "etc/jupyterhub/jupyterhub_config.py",
    "sys/fs/cgroup/cgroup.controllers",
    "var/lib/enforcer/enforcer.db",
    "var/lib/jupyterhub/pages.token",
    "var/lib/jupyterhub/proxy.token",
}


def test_removed_it_leaves_configurations_and_state_until_they_are_purged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host = _installed(tmp_path)
    assert main(["uninstall"], host) == 0
    assert files_of(host).keys() == KEPT | {"var/lib/enforcer/installed.json"}
    capsys.readouterr()
    assert main(["uninstall"], host) == 0
    assert "not installed here: nothing to do" in capsys.readouterr().err
    assert main(["uninstall", "--purge"], host) == 0
    assert files_of(host).keys() == {_LEAF, "sys/fs/cgroup/cgroup.controllers"}
    said = capsys.readouterr().err
    assert "/etc/enforcer: removed" in said
    assert "kept" not in said


def test_purged_at_once_nothing_is_left_but_a_hub_that_was_configured_by_somebody_else(
    tmp_path: Path,
) -> None:
    host = _installed(tmp_path)
    assert main(["uninstall", "--purge"], host) == 0
    assert files_of(host).keys() == {_LEAF, "sys/fs/cgroup/cgroup.controllers"}
    config = host.root / "etc/jupyterhub/jupyterhub_config.py"
    config.parent.mkdir()
    config.write_text("# theirs\n")
    install(host, tmp_path / "checkout", "--hub")
    assert main(["uninstall", "--purge"], host) == 0
    assert files_of(host).keys() == {
        _LEAF,
        "sys/fs/cgroup/cgroup.controllers",
        str(config.relative_to(host.root)),
    }


def test_what_a_purge_takes_of_the_hub_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["uninstall", "--help"], host_at(tmp_path))
    assert "the hub has of either if the installer wrote" in " ".join(
        capsys.readouterr().out.split()
    )


# --- the hub, where it is wanted ---

HUBS = ("jupyterhub.service", "jupyterhub-proxy.service", "enforcer-pages.service")


def test_the_hubs_units_come_only_if_it_is_wanted() -> None:
    without = {file.path for file in managed_files(CHECKOUT, cores=2)}
    withal = {file.path for file in managed_files(CHECKOUT, cores=2, hub=True)}
    names = {path.name for path in withal - without}
    assert names == {*HUBS, "enforcer-hub.conf", "60-enforcer-hub.conf"}
    for unit in HUBS:
        assert UNIT_FOLDER / unit in withal
    assert not [path for path in without | withal if path.match("system/hub/*")]


def test_who_reloads_through_systemd_is_told_what_enforcer_reload_would_tell_them() -> None:
    service = _service("enforcer.service")
    assert service["ExecReload"] == service["ExecStart"].removesuffix("run") + "reload"


@pytest.mark.parametrize("unit", HUBS)
def test_a_unit_of_the_hubs_is_the_hosts_and_holds_no_more_than_it_needs(unit: str) -> None:
    service = _service(f"hub/{unit}")
    assert service["Slice"] == "system.slice"
    assert service["MemoryMin"]
    assert service["NoNewPrivileges"] == "yes"
    assert service["User"] not in {"root", "0"}
    assert ("docker" in service.get("SupplementaryGroups", "")) == (unit == "jupyterhub.service")
    assert not [line for line in service.values() if " #" in line], "no comment at a line's end"


def _service(unit: str) -> configparser.SectionProxy:
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign] # as its documentation has it
    parser.read_string((CHECKOUT / "systemd" / unit).read_text())
    return parser["Service"]


def test_the_example_configuration_names_the_hub_and_the_pages() -> None:
    [config] = [
        one for one in managed_files(CHECKOUT, cores=2, hub=True) if one.path == CONFIGURATION
    ]
    assert tomllib.loads(config.content.decode())["daemon"]["hub_users"] == [*HUB_USERS]
    assert with_hub_users(config.content.decode()) is None
    assert with_hub_users("[daemon]\n") is None


def _grant(root: Path, text: str, written: str = "") -> tuple[str, str, bool]:
    """What becomes of a configuration, what is left to do, and whether it is still ours."""
    path = root / CONFIGURATION
    path.parent.mkdir(parents=True)
    path.write_text(text)
    name = str(CONFIGURATION)
    manifest = Manifest(files={name: digest((written or text).encode())})
    host = host_at(root, RecordingRunner())
    manifest, todo = hub.grant_rights(host, manifest)
    ours = manifest.files[name] == digest(path.read_bytes())
    return path.read_text(), todo, ours


def test_a_configuration_that_is_still_the_example_gets_the_hubs_users(tmp_path: Path) -> None:
    text, todo, ours = _grant(tmp_path, EXAMPLE)
    assert tomllib.loads(text)["daemon"]["hub_users"] == [*HUB_USERS]
    assert not todo
    assert ours
    host = host_at(tmp_path, RecordingRunner())
    assert hub.grant_rights(host, Manifest()) == (Manifest(), ""), "once is enough"


@pytest.mark.parametrize("mine", ["# mine\n", "daemon = 5\n", "[[daemon]]\n", "no toml", ""])
def test_a_configuration_of_the_admins_is_left_alone_and_what_to_add_is_told(
    tmp_path: Path, mine: str
) -> None:
    text, todo, _ = _grant(tmp_path, mine, written=EXAMPLE)
    assert text == mine
    assert 'hub_users = ["jupyterhub", "enforcer-pages"]' in todo
    assert "enforcer reload" in todo


def test_one_that_is_not_utf_8_is_the_admins_too(tmp_path: Path) -> None:
    path = tmp_path / CONFIGURATION
    path.parent.mkdir(parents=True)
    path.write_bytes("# Müller\n".encode("latin-1"))
    _, todo = hub.grant_rights(host_at(tmp_path, RecordingRunner()), Manifest())
    assert "is yours" in todo


def test_the_spawners_entry_point_is_found_where_the_packages_lie(tmp_path: Path) -> None:
    pyproject = (CHECKOUT / "pyproject.toml").read_text()
    for name, text in distribution(pyproject).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    [found] = importlib.metadata.distributions(path=[str(tmp_path)])
    assert found.name == "jupyter-enforcer"
    assert found.version == tomllib.loads(pyproject)["project"]["version"]
    [point] = found.entry_points.select(group="jupyterhub.spawners")
    assert (point.name, point.value) == ("enforcer", "spawner:DockerSystemProfileSpawner")


def test_node_packages_that_were_installed_elsewhere_are_copied_if_they_are_the_right_ones(
    tmp_path: Path,
) -> None:
    source, other = modules(tmp_path / "source"), modules(tmp_path / "other", "sha512-b")
    runner = RecordingRunner(NODE)
    host = host_at(tmp_path / "root", runner)
    assert hub.install_proxy(host, source, Offline(modules=source))
    assert (tmp_path / "root" / PROXY / "node_modules/.package-lock.json").is_file()
    assert not hub.install_proxy(host, source, Offline(modules=other)), "it is there already"
    assert not any(command.startswith("npm") for command in runner.commands)
    (source / "package-lock.json").write_text((source / "package-lock.json").read_text() + "\n")
    with pytest.raises(InvalidError, match="does not hold the packages"):
        hub.install_proxy(host, source, Offline(modules=other))
    assert (tmp_path / "root" / PROXY / "node_modules").is_dir(), "the old one serves on"


def test_a_node_that_is_too_old_is_said_so(tmp_path: Path) -> None:
    source = modules(tmp_path / "source")
    host = host_at(tmp_path / "root", RecordingRunner({"node --version": Finished(0, "v12.22.9")}))
    with pytest.raises(UnavailableError, match=r"needs Node 18 or later, this is v12\.22\.9"):
        hub.install_proxy(host, source, Offline())


def test_an_npm_that_brought_nothing_is_noticed(tmp_path: Path) -> None:
    source = modules(tmp_path / "source")
    runner = RecordingRunner(NODE)
    cache = Offline(cache=tmp_path / "cache")
    with pytest.raises(InvalidError, match="does not hold"):
        hub.install_proxy(host_at(tmp_path / "root", runner), source, cache)
    [npm] = [command for command in runner.commands if command.startswith("npm ci")]
    assert "--ignore-scripts" in npm
    assert f"--offline --cache {tmp_path / 'cache'}" in npm


def test_charts_that_cannot_be_fetched_are_left_to_the_admin(tmp_path: Path) -> None:
    assert hub.build_charts(host_at(tmp_path, RecordingRunner()), Offline()) == []
    build = tmp_path / "opt/enforcer/lib/spawner/pages/build.py"
    build.parent.mkdir(parents=True)
    build.touch()
    runner = RecordingRunner({sys.executable: Finished(1, "no network")})
    [todo] = hub.build_charts(host_at(tmp_path, runner), Offline())
    assert "no network" in todo
    assert str(build) in todo


def test_a_hub_is_configured_once_and_not_over_a_configuration_that_is_there(
    tmp_path: Path,
) -> None:
    host = host_at(tmp_path)
    config = tmp_path / "etc/jupyterhub/jupyterhub_config.py"
    manifest, left = hub.write_config(replace(host, find_bridge=lambda: None), Manifest())
    assert (manifest, config.exists()) == (Manifest(), False)
    assert "docker0" in left[0]
    assert hub.write_config(host, Manifest()) == (Manifest(made=hub.MADE), [])
    config.write_text("# mine\n")
    assert hub.write_config(host, Manifest()) == (Manifest(), [])
    assert config.read_text() == "# mine\n"


def test_the_proxy_is_restarted_only_where_it_is_another_one(tmp_path: Path) -> None:
    (tmp_path / "etc/jupyterhub").mkdir(parents=True)
    (tmp_path / "etc/jupyterhub/jupyterhub_config.py").touch()
    runner = RecordingRunner()
    host = host_at(tmp_path, runner)
    assert hub.activate(host, start=True, proxy_changed=False) == []
    assert hub.activate(host, start=True, proxy_changed=True) == []
    verbs = [command for command in runner.commands if "jupyterhub-proxy.service" in command]
    assert "systemctl start jupyterhub-proxy.service" in verbs[1]
    assert "systemctl restart jupyterhub-proxy.service" in verbs[3]
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    (tmp_path / "etc/systemd/system/jupyterhub.service").touch()
    [todo] = hub.activate(host, start=False, proxy_changed=True)
    assert "/etc/systemd/system/jupyterhub.service hides the Enforcer's" in todo


def test_a_hub_without_a_configuration_is_not_started(tmp_path: Path) -> None:
    runner = RecordingRunner()
    hub.activate(host_at(tmp_path, runner), start=True, proxy_changed=True)
    assert [command for command in runner.commands if "enable" not in command] == []


def test_what_an_earlier_version_wrote_down_is_still_read(tmp_path: Path) -> None:
    host = host_at(tmp_path, RecordingRunner())
    record = tmp_path / "var/lib/enforcer/installed.json"
    record.parent.mkdir(parents=True)
    record.write_text('{"files": {"a": "b"}, "docker": {}}')
    assert host.load_manifest() == Manifest(files={"a": "b"})
    manifest = Manifest(files={"a": "b"}, hub=True, made=hub.MADE)
    host.store_manifest(manifest)
    assert host.load_manifest() == manifest
