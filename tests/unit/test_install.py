from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

import pytest

from enforcer.bootstrap import Console, Finished
from enforcer.bootstrap.commands import Command
from enforcer.errors import InvalidError, UnavailableError
from enforcer.install import engine
from enforcer.install.files import (
    CONFIGURATION,
    UNIT_FOLDER,
    ManagedFile,
    Step,
    decide_install,
    decide_uninstall,
    digest,
    managed_files,
)
from enforcer.install.host import Host, Manifest

CHECKOUT = Path(__file__).parents[2]
UNIT = PurePosixPath("usr/local/lib/systemd/system/jupyter.slice")
OURS = ManagedFile(path=UNIT, content=b"[Slice]\n")
THEIRS = ManagedFile(path=CONFIGURATION, content=b"# example\n", theirs=True)


def test_a_missing_file_is_written() -> None:
    assert decide_install([OURS], {}, {}) == [(UNIT, Step.WRITE)]


def test_a_file_of_an_earlier_version_that_nobody_touched_is_replaced() -> None:
    old = digest(b"old")
    assert decide_install([OURS], {str(UNIT): old}, {str(UNIT): old}) == [(UNIT, Step.WRITE)]


def test_a_file_that_an_admin_changed_is_kept() -> None:
    installed, present = {str(UNIT): digest(b"old")}, {str(UNIT): digest(b"edited")}
    assert decide_install([OURS], installed, present) == [(UNIT, Step.KEEP)]


def test_a_file_that_was_there_before_us_is_kept() -> None:
    assert decide_install([OURS], {}, {str(UNIT): digest(b"theirs")}) == [(UNIT, Step.KEEP)]


def test_the_configuration_is_never_replaced_even_where_it_is_still_the_old_example() -> None:
    old = digest(b"# old example\n")
    name = str(CONFIGURATION)
    assert decide_install([THEIRS], {name: old}, {name: old}) == [(CONFIGURATION, Step.KEEP)]


def test_what_is_there_already_is_left_alone() -> None:
    assert decide_install([OURS], {}, {str(UNIT): OURS.digest}) == [(UNIT, Step.UNCHANGED)]


def test_a_file_that_this_version_no_longer_has_goes_unless_it_was_changed() -> None:
    gone, changed = "usr/local/lib/a", "usr/local/lib/b"
    installed = {gone: digest(b"a"), changed: digest(b"b"), "usr/local/lib/c": digest(b"c")}
    present = {gone: digest(b"a"), changed: digest(b"edited")}
    assert decide_uninstall(installed, present) == [
        (PurePosixPath(gone), Step.REMOVE),
        (PurePosixPath(changed), Step.KEEP),
    ]


def test_every_unit_of_the_checkout_has_its_place() -> None:
    paths = {file.path for file in managed_files(CHECKOUT)}
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
    taken_out = engine.unmerge(merged.text, merged.added)
    assert taken_out is not None
    assert json.loads(taken_out) == {"data-root": "/big", "live-restore": True}


def test_a_key_that_an_admin_set_otherwise_is_reported_and_left() -> None:
    merged = engine.merge('{"cgroup-parent": "lab.slice", "live-restore": true}')
    assert merged.text is None
    assert merged.conflicts == {"cgroup-parent": "lab.slice"}


@pytest.mark.parametrize("text", ["{", "[]", '"x"'])
def test_a_daemon_json_that_is_none_is_refused_with_its_name(text: str) -> None:
    with pytest.raises(InvalidError, match=r"daemon\.json"):
        engine.merge(text)


class RecordingRunner:
    """Answers every command as `answers` has it, with success otherwise, and keeps the words."""

    def __init__(self, answers: dict[str, Finished] | None = None) -> None:
        self.answers = {} if answers is None else answers
        self.commands: list[str] = []

    def run(self, command: Command, _waiting: object) -> Finished:
        words = " ".join(command.words)
        self.commands.append(words)
        return next(
            (a for start, a in self.answers.items() if words.startswith(start)), Finished(0, "")
        )


def _host(root: Path, runner: RecordingRunner, *, dry: bool = False) -> Host:
    return Host(console=Console(), root=root, runner=runner, dry=dry)


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    runner = RecordingRunner()
    host = _host(tmp_path, runner, dry=True)
    host.write(OURS)
    host.store_manifest(Manifest())
    host.write_docker_config("{}")
    host.read_units("enforcer.conf")
    host.activate(start=True, units=("enforcer.service",))
    assert list(tmp_path.iterdir()) == []
    assert runner.commands == []


def test_the_first_daemon_json_stays_beside_ours(tmp_path: Path) -> None:
    docker = tmp_path / "etc/docker"
    docker.mkdir(parents=True)
    (docker / "daemon.json").write_text("{}")
    host = _host(tmp_path, RecordingRunner())
    host.write_docker_config('{"a": 1}')
    host.write_docker_config('{"a": 2}')
    assert (docker / "daemon.json.before-enforcer").read_text() == "{}"
    assert host.read_docker_config() == '{"a": 2}'


def test_a_manifest_that_cannot_be_read_is_an_error_with_a_hint(tmp_path: Path) -> None:
    host = _host(tmp_path, RecordingRunner())
    host.store_manifest(Manifest(files={"a": "b"}))
    assert host.load_manifest().files == {"a": "b"}
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
    assert _host(tmp_path, runner).engine_outside() == ["containerd"]


def test_a_failed_step_says_what_failed(tmp_path: Path) -> None:
    runner = RecordingRunner({"systemctl daemon-reload": Finished(1, "no bus")})
    with pytest.raises(UnavailableError, match="no bus"):
        _host(tmp_path, runner).read_units("enforcer.conf")
