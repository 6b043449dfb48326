"""The hub, where it is wanted: its proxy, its configuration, its units, its rights with the daemon.

Its Python packages are in `packages`, its unit files in `files`.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from enforcer import hubconfig
from enforcer.bootstrap import ensure_packages
from enforcer.errors import EnforcerError, InvalidError, UnavailableError
from enforcer.install.files import (
    CONFIGURATION,
    HUB_USERS,
    LIBRARY,
    PROXY,
    ManagedFile,
    digest,
    with_hub_users,
)
from enforcer.install.host import SECONDS, Host, Manifest

UNITS: Final = ("jupyterhub-proxy.service", "enforcer-pages.service", "jupyterhub.service")
MADE: Final = ("etc/jupyterhub", "var/lib/jupyterhub")
"""Folders of the hub's; --purge removes them if its configuration was written by us."""

OLDEST_NODE: Final = 18

_CONFIG: Final = "etc/jupyterhub/jupyterhub_config.py"
_STATE: Final = "var/lib/jupyterhub"
WRITTEN: Final = (_CONFIG, *(f"{_STATE}/{token}" for token in hubconfig.TOKENS))
"""What `hub-config` writes."""
_NPM_SECONDS: Final = 900.0
_NPM: Final = ("--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
_LOCK: Final = "package-lock.json"
_INSTALLED: Final = "node_modules/.package-lock.json"
"""npm's own record of what it has put there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offline:
    """Where Node packages come from in place of the network.

    cache: npm's cache. modules: a folder in which npm has installed them already.
    """

    cache: Path | None = None
    modules: Path | None = None


def install_proxy(host: Host, source: Path, offline: Offline) -> bool:
    """Install configurable-http-proxy, exactly as its lock lists it; False if it is there already.

    source: the folder with package.json and package-lock.json.

    Raises:
        UnavailableError: no Node, or one that is too old; npm failed.
        InvalidError: the folder of installed packages holds others.
    """
    target = host.root / PROXY
    lock = (source / _LOCK).read_bytes()
    if _is_installed(target, lock):
        return False
    if host.dry:
        host.console.say(
            f"  /{PROXY}: would be made from {source.parent.name}/{source.name}/{_LOCK}"
        )
        return True
    _ensure_node(host)
    new = target.with_name(f"{target.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    for name in ("package.json", _LOCK):
        shutil.copyfile(source / name, new / name)
    if offline.modules is None:
        _run_npm(host, new, offline.cache)
    else:
        shutil.copytree(offline.modules / "node_modules", new / "node_modules", symlinks=True)
    if not _is_installed(new, lock):
        raise InvalidError(
            "install.other-proxy",
            f"{offline.modules or new} does not hold the packages of {source / _LOCK}",
            f"make it with: npm ci {' '.join(_NPM[:2])} --prefix DIR, from these two files",
        )
    host.swap(new, target)
    return True


def _is_installed(folder: Path, lock: bytes) -> bool:
    """Whether npm has installed in a folder just what a lock lists."""
    try:
        if (folder / _LOCK).read_bytes() != lock:
            return False
        installed = json.loads((folder / _INSTALLED).read_bytes())["packages"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    wanted: Mapping[str, Mapping[str, object]] = json.loads(lock)["packages"]
    return {path: one["integrity"] for path, one in wanted.items() if path} == {
        path: one.get("integrity") for path, one in installed.items()
    }


def _ensure_node(host: Host) -> None:
    if shutil.which("node") is None:
        ensure_packages(
            ("nodejs",), "to run the hub's proxy", runner=host.runner, console=host.console
        )
    said = host.ask(("node", "--version"))
    found = re.match(r"v([0-9]+)\.", said)
    if found is None or int(found[1]) < OLDEST_NODE:
        raise UnavailableError(
            "install.node-too-old",
            f"the hub's proxy needs Node {OLDEST_NODE} or later, this is {said or 'none'}",
            "install a newer nodejs, from your distribution's backports or from nodesource.com",
        )


def _run_npm(host: Host, folder: Path, cache: Path | None) -> None:
    # Not by the package's name: the one that nodesource calls nodejs brings npm along.
    if shutil.which("npm") is None:
        ensure_packages(
            ("npm",), "to fetch the hub's proxy", runner=host.runner, console=host.console
        )
    words = ["npm", "ci", *_NPM, "--prefix", str(folder)]
    if cache is not None:
        words += ["--offline", "--cache", str(cache)]
    host.must("Installing the hub's proxy", words, _NPM_SECONDS)


def build_charts(host: Host, offline: Offline) -> list[str]:
    """Fetch what the pages' charts are drawn with, if it is not there; what is left to the admin.

    The pages do without: they show numbers then.
    """
    build = host.root / LIBRARY / "spawner/pages/build.py"
    if host.dry or not build.is_file():
        return []
    environment = {}
    if offline.cache is not None:
        environment = {"npm_config_cache": str(offline.cache), "npm_config_offline": "true"}
    words = (sys.executable, "-I", str(build))
    finished = host.run("Building the pages' charts", words, _NPM_SECONDS, environment)
    if finished.returncode == 0:
        return []
    todo = f"the pages show numbers in place of charts until this succeeds: {' '.join(words)}"
    return [f"{todo}; it said:\n{finished.tail()}"]


def grant_rights(host: Host, manifest: Manifest) -> tuple[Manifest, str]:
    """Let the hub and the pages act for users; what is left to the admin, or nothing.

    The configuration is changed only while it is word for word what was once put there.
    """
    path = host.root / CONFIGURATION
    if host.dry and not path.exists():
        return manifest, ""  # it would be the example by now, and be changed
    # what is no UTF-8 is no example of ours either
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    if set(HUB_USERS) <= _hub_users(text):
        return manifest, ""
    name = str(CONFIGURATION)
    changed = with_hub_users(text)
    if changed is None or digest(text.encode()) not in manifest.ours.get(name, ()):
        users = ", ".join(f'"{user}"' for user in HUB_USERS)
        return manifest, (
            f"/{name} is yours: put hub_users = [{users}] under [daemon], and type: enforcer reload"
        )
    file = ManagedFile(path=CONFIGURATION, content=changed.encode(), theirs=True)
    host.store_manifest(manifest.beginning([file]))
    host.write(file)
    host.console.say(f"  /{name}: hub_users written")
    return manifest.with_files({**manifest.files, name: file.digest}), ""


def _hub_users(text: str) -> set[str]:
    try:
        users = tomllib.loads(text).get("daemon", {}).get("hub_users", [])
        return {str(user) for user in users}
    except (ValueError, AttributeError, TypeError):
        return set()  # `enforcer check` tells what is wrong with it


def write_config(host: Host, manifest: Manifest) -> tuple[Manifest, list[str]]:
    """Write the hub's configuration if there is none; what is left to the admin."""
    path = host.root / _CONFIG
    if path.exists():
        return replace(manifest, made=made(host, manifest), making=""), []
    if host.dry:
        host.console.say(f"  /{_CONFIG}: would be written by: enforcer hub-config --defaults")
        return manifest, []
    try:
        answers = hubconfig.default_answers(path, host.root / _STATE, host.find_bridge())
        text = hubconfig.render(answers).encode()
        host.store_manifest(replace(manifest, making=digest(text)))
        hubconfig.write(answers, host.console)
    except EnforcerError as error:
        todo = (
            f"the hub has no configuration: {error.message}. What to do: {error.hint}. Then type:"
            f" enforcer hub-config && systemctl restart {' '.join(UNITS)}"
        )
        return manifest, [todo]
    return replace(manifest, made=MADE, making=""), []


def made(host: Host, manifest: Manifest) -> tuple[str, ...]:
    """The folders of the hub's whose configuration we wrote, though that was not put down yet."""
    there = host.digests((_CONFIG,)).get(_CONFIG)
    return MADE if there is not None and there == manifest.making else manifest.made


def activate(host: Host, *, start: bool, proxy_changed: bool) -> list[str]:
    """Have the hub started at boot, and now; what is left to the admin."""
    host.must("Enabling the hub", ("systemctl", "enable", *UNITS), SECONDS)
    left = [
        f"/etc/systemd/system/{unit} hides the Enforcer's: move it away, then type: systemctl"
        f" daemon-reload && systemctl restart {unit}"
        for unit in UNITS
        if (host.root / "etc/systemd/system" / unit).is_file()
    ]
    if start and ((host.root / _CONFIG).exists() or host.dry):
        # Restarting the proxy ends everybody's connections, so only where it is another one.
        verb = "restart" if proxy_changed else "start"
        host.must("Starting the proxy", ("systemctl", verb, UNITS[0]), SECONDS)
        host.must("Starting the hub", ("systemctl", "restart", *UNITS[1:]), SECONDS)
    return left
