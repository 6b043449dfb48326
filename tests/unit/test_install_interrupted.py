"""`install` and `uninstall`, killed at every point: what follows finds its way."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from enforcer.bootstrap import Finished
from enforcer.errors import UnavailableError
from enforcer.install import main
from enforcer.install.files import VENV
from enforcer.install.host import Host
from tests.unit.installs import (
    DEBIAN,
    RecordingRunner,
    files_of,
    host_at,
    install,
    killed_anywhere,
    small_checkout,
)

DAEMON_JSON = "etc/docker/daemon.json"
UNIT = "usr/local/lib/systemd/system/jupyter.slice"
CONFIGURATION = "etc/enforcer/enforcer.toml"
OWN = '{"data-root":  "/big"}\r\n'


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where hosts are made and removed by the hundred: in memory, if there is such a place."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as made:
        yield Path(made)


def _bare(root: Path) -> Host:
    """A host that has never seen us."""
    host = host_at(root)
    (root / "usr/local/lib/systemd/system").mkdir(parents=True)
    (root / "usr/local/lib/systemd/system/own.service").write_text("[Service]\n")
    return host


def _with_docker(root: Path) -> Host:
    """One whose admin has written a daemon.json, in their own way and for themselves."""
    host = _bare(root)
    (root / "etc/docker").mkdir(parents=True)
    (root / DAEMON_JSON).write_bytes(OWN.encode())
    (root / DAEMON_JSON).chmod(0o600)
    return host


def _uninstall(host: Host) -> int:
    return main(["uninstall", "--purge"], host)


def _without_tokens(host: Host) -> dict[str, tuple[int, bytes]]:
    """All files but the hub's secrets: they are the hub's, of whose configuration there is none."""
    return {name: one for name, one in files_of(host).items() if not name.endswith(".token")}


def test_an_installation_that_was_killed_anywhere_is_taken_off(folder: Path) -> None:
    checkout = small_checkout(folder / "checkout")
    before = files_of(_with_docker(folder / "before"))
    for host in killed_anywhere(_with_docker, folder, partial(install, checkout=checkout)):
        _uninstall(host)
        assert files_of(host) == before


def test_complete_packages_outlive_whatever_is_killed_or_fails_after(folder: Path) -> None:
    checkout = small_checkout(folder / "checkout")
    host = host_at(folder / "host")
    install(host, checkout)
    venv = host.root / VENV
    (venv / "complete").touch()
    (checkout / "enforcer/requirements.lock").write_text("# another\n")
    venv.rename(venv.with_name("venv.before"))  # killed while the new ones were installed
    venv.mkdir()
    no_pip = RecordingRunner({**DEBIAN, f"{venv}/bin/python -m pip": Finished(1, "no network")})
    with pytest.raises(UnavailableError, match="no network"):
        install(host_at(host.root, no_pip), checkout)
    assert (venv / "complete").exists()
    install(host, checkout)
    assert not (venv / "complete").exists()
    assert not venv.with_name("venv.before").exists()


def test_one_of_the_hub_too(folder: Path) -> None:
    checkout = small_checkout(folder / "checkout")
    before = files_of(_bare(folder / "before"))
    for host in killed_anywhere(_bare, folder, lambda host: install(host, checkout, "--hub")):
        _uninstall(host)
        assert _without_tokens(host) == before


def test_begun_anew_it_is_a_whole_one(folder: Path) -> None:
    checkout = small_checkout(folder / "checkout")
    before = files_of(_with_docker(folder / "before"))
    whole = _with_docker(folder / "whole")
    install(whole, checkout, "--hub")
    for host in killed_anywhere(
        _with_docker, folder, lambda host: install(host, checkout, "--hub")
    ):
        install(host, checkout, "--hub")
        assert host.load_manifest() == whole.load_manifest()
        assert files_of(host).keys() == files_of(whole).keys()
        _uninstall(host)
        assert files_of(host) == before


def test_an_upgrade_that_was_killed_anywhere_is_taken_off_or_gone_on_with(folder: Path) -> None:
    old, new, newest = (small_checkout(folder / f"v{n}", n) for n in (1, 2, 3))
    before = files_of(_with_docker(folder / "before"))

    def make(root: Path) -> Host:
        host = _with_docker(root)
        install(host, old)
        return host

    for host in killed_anywhere(make, folder / "off", partial(install, checkout=new)):
        _uninstall(host)
        assert files_of(host) == before
    for host in killed_anywhere(make, folder / "on", lambda host: install(host, new, "--hub")):
        install(host, newest, "--hub")
        toml = host.digests([CONFIGURATION])
        assert {name: host.load_manifest().files[name] for name in toml} == toml
        assert (host.root / UNIT).read_text() == "# 3\n"
        assert not [name for name in files_of(host) if "only-in-1" in name or "only-in-2" in name]
        _uninstall(host)
        assert files_of(host) == before


def test_what_an_admin_writes_meanwhile_is_theirs(folder: Path) -> None:
    checkout = small_checkout(folder / "checkout")
    for host in killed_anywhere(_with_docker, folder, partial(install, checkout=checkout)):
        unit, docker = host.root / UNIT, host.root / DAEMON_JSON
        unit.write_text("# mine\n")
        docker.write_text(json.dumps({**json.loads(docker.read_text()), "debug": True}))
        install(host, checkout)
        assert unit.read_text() == "# mine\n"
        assert json.loads(docker.read_text()).keys() > {"cgroup-parent", "data-root", "debug"}
        _uninstall(host)
        assert unit.read_text() == "# mine\n"
        assert json.loads(docker.read_text()) == {"data-root": "/big", "debug": True}


def test_a_removal_that_was_killed_anywhere_is_gone_on_with(folder: Path) -> None:
    checkout = small_checkout(folder / "checkout")
    before = files_of(_with_docker(folder / "before"))

    def make(root: Path) -> Host:
        host = _with_docker(root)
        install(host, checkout, "--hub")
        (host.root / "var/lib/enforcer/enforcer.db").touch()
        return host

    for host in killed_anywhere(make, folder, _uninstall):
        _uninstall(host)
        assert files_of(host) == before
