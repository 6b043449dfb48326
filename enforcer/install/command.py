"""The commands: words in, steps said and done, an exit code out."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from enforcer.bootstrap import Console
from enforcer.errors import ForbiddenError, UnavailableError
from enforcer.install import engine, hub
from enforcer.install.files import Step, decide_install, decide_uninstall, managed_files
from enforcer.install.host import Host, Manifest
from enforcer.install.packages import DAEMON, HUB, install_library, install_venv

_CHECKOUT = Path(__file__).resolve().parents[2]

_UNITS = ("enforcer.socket", "enforcer.service")

_PURGED = ("etc/enforcer", "var/lib/enforcer")

_WORDS = {
    Step.WRITE: "written",
    Step.UNCHANGED: "as it was",
    Step.KEEP: "kept: it was changed here",
    Step.REMOVE: "removed",
}


def main(words: Sequence[str]) -> int:
    """Run ``install …`` or ``uninstall …``; 0, also where something is left for the admin to do."""
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
    parser.add_argument("--no-start", action="store_true", help="do not start anything")
    parser.add_argument(
        "--hub",
        action="store_true",
        help="install JupyterHub too, with its proxy and the Enforcer's pages; once it is there,"
        " later installations keep it up to date",
    )
    parser.add_argument(
        "--npm-cache",
        type=Path,
        metavar="DIR",
        help="with --hub: take Node packages from npm's cache in DIR, not the network",
    )
    parser.add_argument(
        "--node-modules",
        type=Path,
        metavar="DIR",
        help="with --hub: copy them from DIR, where"
        " `npm ci` installed what spawner/proxy/package-lock.json lists",
    )
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
        + (" With it come JupyterHub, its proxy, and /etc/jupyterhub." if options.hub else "")
    )
    merged = engine.merge(host.read_docker_config())
    manifest = host.load_manifest()
    manifest = replace(manifest, hub=manifest.hub or options.hub)
    install_venv(host, DAEMON, _CHECKOUT / "enforcer" / "requirements.lock", options.wheels)
    proxy_changed = manifest.hub and _install_hub_packages(host, options)
    install_library(host, _CHECKOUT)
    manifest = _install_files(host, console, manifest)
    if merged.text is not None:
        host.write_docker_config(merged.text)
        manifest = manifest.with_docker(merged.added)
    left = [_conflict(key, value) for key, value in merged.conflicts.items()]
    if manifest.hub:
        manifest, todo = hub.grant_rights(host, manifest)
        left += [todo] if todo else []
        left += hub.build_charts(host, _offline(options))
    host.store_manifest(manifest)
    host.read_units("enforcer.conf", *(("enforcer-hub.conf",) if manifest.hub else ()))
    host.activate(start=not options.no_start, units=_UNITS)
    left += _engine_left(host, restart=options.restart_docker, changed=merged.text is not None)
    if manifest.hub:
        left += _start_hub(host, manifest, start=not options.no_start, proxy=proxy_changed)
    for line in left:
        console.say(f"left for you: {line}")
    console.say(
        "Nothing was changed: a dry run." if options.dry_run else "The Enforcer is installed."
    )
    return 0


def _install_hub_packages(host: Host, options: argparse.Namespace) -> bool:
    """Install what the hub runs with; whether its proxy is another one now."""
    source = _CHECKOUT / "spawner"
    install_venv(host, HUB, source / "requirements.lock", options.wheels)
    return hub.install_proxy(host, source / "proxy", _offline(options))


def _offline(options: argparse.Namespace) -> hub.Offline:
    return hub.Offline(cache=options.npm_cache, modules=options.node_modules)


def _start_hub(host: Host, manifest: Manifest, *, start: bool, proxy: bool) -> list[str]:
    manifest, left = hub.write_config(host, manifest)
    host.store_manifest(manifest)
    return left + hub.activate(host, start=start, proxy_changed=proxy)


def _install_files(host: Host, console: Console, manifest: Manifest) -> Manifest:
    files = managed_files(_CHECKOUT, hub=manifest.hub)
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
    host.deactivate((*hub.UNITS, *_UNITS) if manifest.hub else _UNITS)
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
    host.clean(purge=(*_PURGED, *manifest.made) if options.purge else ())
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
