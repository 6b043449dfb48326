"""The commands: words in, steps said and done, an exit code out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from enforcer.bootstrap import Console
from enforcer.errors import ForbiddenError, UnavailableError
from enforcer.install import engine, hub
from enforcer.install.files import (
    ManagedFile,
    Step,
    decide_install,
    decide_uninstall,
    managed_files,
)
from enforcer.install.host import Host, Manifest
from enforcer.install.packages import DAEMON, HUB, install_library, install_venv

_CHECKOUT = Path(__file__).resolve().parents[2]

_UNITS = ("enforcer.socket", "enforcer.service")

_PURGED = ("etc/enforcer", "var/lib/enforcer")

_DRY = "Nothing was changed: a dry run."

_WORDS = {
    Step.WRITE: "written",
    Step.UNCHANGED: "as it was",
    Step.KEEP: "kept: it was changed here",
    Step.REMOVE: "removed",
}


def main(words: Sequence[str], host: Host | None = None, checkout: Path = _CHECKOUT) -> int:
    """Run ``install …`` or ``uninstall …``; 0, also where something is left for the admin to do."""
    command, *rest = words
    host = Host(console=Console()) if host is None else host
    install = command == "install"
    options = (_install_parser() if install else _uninstall_parser()).parse_args(rest)
    host = replace(host, dry=options.dry_run)
    _check_root(host, command)
    if install:
        _install(host, checkout, options)
    else:
        _uninstall(host, purge=options.purge)
    return 0


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
    parser.add_argument(
        "--purge",
        action="store_true",
        help="remove configuration and ledger too, and what the hub has of either if the"
        " installer wrote its configuration; also later, when all else is gone",
    )
    return parser


def _install(host: Host, checkout: Path, options: argparse.Namespace) -> None:
    _check_host(host)
    host.console.say(
        "This installs the Enforcer: Python packages in /opt/enforcer, units in"
        " /usr/local/lib/systemd, an example configuration in /etc/enforcer."
        + (" With it come JupyterHub, its proxy, and /etc/jupyterhub." if options.hub else "")
    )
    engine.merge(host.read_docker_config())  # nothing is changed where it cannot be read
    manifest = host.load_manifest()
    host.sweep((*manifest.ours, *hub.WRITTEN))
    wanted = manifest.hub or options.hub
    files = managed_files(checkout, cores=host.cores, hub=wanted)
    manifest = manifest.beginning(files)
    host.store_manifest(manifest)
    install_venv(host, DAEMON, checkout / "enforcer" / "requirements.lock", options.wheels)
    proxy_changed = wanted and _install_hub_packages(host, checkout, options)
    install_library(host, checkout)
    manifest = replace(_install_files(host, files, manifest), hub=wanted)
    manifest, merged = _merge_docker_config(host, manifest)
    left = [_conflict(key, value) for key, value in merged.conflicts.items()]
    if wanted:
        manifest, todo = hub.grant_rights(host, manifest)
        left += [todo] if todo else []
    host.store_manifest(manifest)
    if wanted:
        left += hub.build_charts(host, _offline(options))
    host.read_units("enforcer.conf", *(("enforcer-hub.conf",) if wanted else ()))
    host.activate(start=not options.no_start, units=_UNITS)
    left += _engine_left(host, restart=options.restart_docker, changed=merged.text is not None)
    if wanted:
        left += _start_hub(host, manifest, start=not options.no_start, proxy=proxy_changed)
    for line in left:
        host.console.say(f"left for you: {line}")
    host.console.say(_DRY if host.dry else "The Enforcer is installed.")


def _merge_docker_config(host: Host, manifest: Manifest) -> tuple[Manifest, engine.Merge]:
    """Put our keys into daemon.json; that they are ours is put down just before.

    Read anew, for an admin may have written in it while packages were fetched.
    """
    merged = engine.merge(host.read_docker_config())
    if merged.text is not None:
        manifest = manifest.with_docker(merged.added)
        host.store_manifest(manifest)
        host.write_docker_config(merged.text)
    return manifest, merged


def _install_hub_packages(host: Host, checkout: Path, options: argparse.Namespace) -> bool:
    """Install what the hub runs with; whether its proxy is another one now."""
    source = checkout / "spawner"
    install_venv(host, HUB, source / "requirements.lock", options.wheels)
    return hub.install_proxy(host, source / "proxy", _offline(options))


def _offline(options: argparse.Namespace) -> hub.Offline:
    return hub.Offline(cache=options.npm_cache, modules=options.node_modules)


def _start_hub(host: Host, manifest: Manifest, *, start: bool, proxy: bool) -> list[str]:
    manifest, left = hub.write_config(host, manifest)
    host.store_manifest(manifest)
    return left + hub.activate(host, start=start, proxy_changed=proxy)


def _install_files(host: Host, files: Sequence[ManagedFile], manifest: Manifest) -> Manifest:
    by_path = {file.path: file for file in files}
    ours = manifest.ours
    present = host.digests(ours)
    written = dict(manifest.files)
    for path, step in decide_install(files, ours, present):
        if step is not Step.UNCHANGED:
            host.console.say(f"  /{path}: {_WORDS[step]}")
        if step is Step.REMOVE:
            host.remove(path)
            written.pop(str(path), None)
        elif step is Step.KEEP:
            if present[str(path)] in ours[str(path)]:  # the configuration, as we wrote it once
                written[str(path)] = present[str(path)]
        else:
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


def _uninstall(host: Host, *, purge: bool) -> None:
    manifest = host.load_manifest()
    if not manifest.ours and not purge:
        host.console.say("The Enforcer is not installed here: nothing to do.")
        return
    # What is kept of the hub is known for ours later too, by a purge.
    manifest = replace(manifest, made=hub.made(host, manifest), making="")
    host.deactivate((*hub.UNITS, *_UNITS) if manifest.hub else _UNITS)
    host.sweep((*manifest.ours, *hub.WRITTEN))
    text = engine.unmerge(host.read_docker_config(), manifest.docker, host.read_docker_backup())
    if text is not None:
        host.restore_docker_config(text)
    host.drop_docker_backup()
    kept = 0
    for path, step in decide_uninstall(manifest.ours, host.digests(manifest.ours)):
        if _is_configuration(str(path)) and (purge or step is Step.REMOVE):
            continue  # it stays, unless its whole folder is purged
        host.console.say(f"  /{path}: {_WORDS[step]}")
        if step is Step.REMOVE:
            host.remove(path)
        else:
            kept += 1
    host.clean(purge=(*manifest.made, *_PURGED) if purge else ())
    host.drop_manifest(Manifest() if purge else Manifest(made=manifest.made))
    if host.dry:
        host.console.say(_DRY)
        return
    host.console.say(
        "The Enforcer is removed. Running containers keep their limits until they end; dockerd"
        " leaves jupyter-engine.slice at its next restart."
    )
    if kept:
        host.console.say(f"{kept} files that were changed here are still there, named above.")


def _is_configuration(path: str) -> bool:
    return path.startswith("etc/enforcer/")


def _check_root(host: Host, command: str) -> None:
    if not host.privileged and not host.dry:
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
