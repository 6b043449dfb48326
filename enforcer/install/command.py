"""The commands: words in, steps said and done, an exit code out."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from enforcer.bootstrap import Console
from enforcer.errors import ForbiddenError, UnavailableError
from enforcer.install import engine
from enforcer.install.files import Step, decide_install, decide_uninstall, managed_files
from enforcer.install.host import Host, Manifest

_CHECKOUT = Path(__file__).resolve().parents[2]

_UNITS = ("enforcer.socket", "enforcer.service")

_WORDS = {
    Step.WRITE: "written",
    Step.UNCHANGED: "as it was",
    Step.KEEP: "kept: it was changed here",
    Step.REMOVE: "removed",
}


def main(words: Sequence[str]) -> int:
    """Run ``install …`` or ``uninstall …``; 0, or 1 when something is left for the admin to do."""
    command, *rest = words
    if command == "uninstall":
        return _uninstall(_uninstall_parser().parse_args(rest))
    return _install(_install_parser().parse_args(rest))


def _install_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="enforcer install",
        description="Put the daemon on this host: a venv under /opt/enforcer, units, drop-ins for"
        " docker, containerd and ssh, and an example configuration. It can be repeated; a file that"
        " was changed on the host is kept.",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, do nothing")
    parser.add_argument(
        "--wheels", type=Path, metavar="DIR", help="take Python packages from DIR, not the network"
    )
    parser.add_argument(
        "--restart-docker",
        action="store_true",
        help="restart dockerd and containerd now, so that they move into their slice; running"
        " containers live on, with live-restore",
    )
    parser.add_argument("--no-start", action="store_true", help="do not start the daemon")
    return parser


def _uninstall_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="enforcer uninstall",
        description="Take the daemon off this host. Containers go on; their limits stay with them"
        " until they end. The configuration and the ledger stay, unless --purge is given.",
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, do nothing")
    parser.add_argument("--purge", action="store_true", help="remove configuration and ledger too")
    return parser


def _install(options: argparse.Namespace) -> int:
    console = Console()
    host = Host(console=console, dry=options.dry_run)
    _check_root("install", dry=options.dry_run)
    _check_host(host)
    console.say(
        "This installs the Enforcer: Python packages in /opt/enforcer, units in"
        " /usr/local/lib/systemd, an example configuration in /etc/enforcer."
    )
    merged = engine.merge(host.read_docker_config())
    host.install_venv(_CHECKOUT / "enforcer" / "requirements.lock", options.wheels)
    host.install_library(_CHECKOUT / "enforcer")
    manifest = _install_files(host, console)
    if merged.text is not None:
        host.write_docker_config(merged.text)
        manifest = manifest.with_docker(merged.added)
    host.store_manifest(manifest)
    host.activate(start=not options.no_start, units=_UNITS)
    left = [_conflict(key, value) for key, value in merged.conflicts.items()]
    left += _engine_left(host, restart=options.restart_docker, changed=merged.text is not None)
    for line in left:
        console.say(f"left for you: {line}")
    console.say(
        "Nothing was changed: a dry run." if options.dry_run else "The Enforcer is installed."
    )
    return 1 if left and not options.dry_run else 0


def _install_files(host: Host, console: Console) -> Manifest:
    files = managed_files(_CHECKOUT)
    manifest = host.load_manifest()
    by_path = {file.path: file for file in files}
    names = {*map(str, by_path), *manifest.files}
    written = dict(manifest.files)
    for path, step in decide_install(files, manifest.files, host.digests(names)):
        if step is not Step.UNCHANGED:
            console.say(f"  /{path}: {_WORDS[step]}")
        if step is Step.REMOVE:
            host.remove(path)
            written.pop(str(path), None)
        elif step is not Step.KEEP:
            if step is Step.WRITE:
                host.write(by_path[path])
            written[str(path)] = by_path[path].digest
    return manifest.with_files(written)


def _engine_left(host: Host, *, restart: bool, changed: bool) -> list[str]:
    """Move the engine into its slice where that was asked for; what remains to be done by hand."""
    outside = host.engine_outside()
    if not outside and not changed:
        return []
    if restart or host.no_containers_run():
        host.restart_engine()
        return []
    services = " ".join(outside or ["docker"])
    todo = (
        f"{services} must restart to move into jupyter-engine.slice and read daemon.json:"
        f" systemctl reload docker && systemctl restart {services}"
    )
    return [todo]


def _conflict(key: str, value: object) -> str:
    return (
        f"/etc/docker/daemon.json has {key} = {value!r}; the Enforcer needs"
        f" {engine.WANTED[key]!r}: change it and restart docker"
    )


def _uninstall(options: argparse.Namespace) -> int:
    console = Console()
    host = Host(console=console, dry=options.dry_run)
    _check_root("uninstall", dry=options.dry_run)
    manifest = host.load_manifest()
    if not manifest.files:
        console.say("The Enforcer is not installed here: nothing to do.")
        return 0
    host.deactivate(_UNITS)
    text = engine.unmerge(host.read_docker_config(), manifest.docker)
    if text is not None:
        host.write_docker_config(text)
    kept = 0
    for path, step in decide_uninstall(manifest.files, host.digests(manifest.files)):
        if step is Step.REMOVE and (not _is_configuration(str(path)) or options.purge):
            console.say(f"  /{path}: {_WORDS[step]}")
            host.remove(path)
        elif step is Step.KEEP:
            kept += 1
            console.say(f"  /{path}: {_WORDS[step]}")
    host.clean(purge=options.purge)
    console.say(
        "The Enforcer is removed. Running containers keep their limits until they end; dockerd"
        " leaves jupyter-engine.slice at its next restart."
    )
    if kept:
        console.say(f"{kept} files that were changed here are still there, named above.")
    return 0


def _is_configuration(path: str) -> bool:
    return path.startswith("etc/enforcer/")


def _check_root(command: str, *, dry: bool) -> None:
    if os.geteuid() != 0 and not dry:
        raise ForbiddenError(
            "install.not-root",
            f"only root may {command} the daemon",
            f"type: sudo python3 -m enforcer {command}",
        )


def _check_host(host: Host) -> None:
    """Refuse a host on which nothing of this could work, before anything is changed.

    Raises:
        UnavailableError: no systemd, or no unified cgroup hierarchy.
    """
    if not host.has_systemd():
        raise UnavailableError(
            "install.no-systemd",
            "systemd does not run this machine, and the Enforcer works through it",
            "to see the Enforcer at work here, type: python3 -m enforcer demo",
        )
    if not host.has_cgroup2():
        raise UnavailableError(
            "install.no-cgroup2",
            "this machine's cgroup hierarchy is not the unified one (v2)",
            "boot with the kernel parameter systemd.unified_cgroup_hierarchy=1",
        )
