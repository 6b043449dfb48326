"""What belongs on a host, and what is to be done about each file: decided here, done elsewhere."""

from __future__ import annotations

import enum
import hashlib
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from enforcer.quantities import CORE, Cpus, default_reserve

UNIT_FOLDER = PurePosixPath("usr/local/lib/systemd/system")
"""systemd.unit(5): for what the admin installs; their own changes go to /etc/systemd/system."""

CONFIGURATION = PurePosixPath("etc/enforcer/enforcer.toml")
FIRST_CAP = UNIT_FOLDER / "jupyter.slice.d/10-enforcer.conf"
"""CPUQuota= knows percentages of one CPU only, so a unit file for any machine cannot hold it."""
PROGRAM = PurePosixPath("usr/local/bin/enforcer")
LIBRARY = PurePosixPath("opt/enforcer/lib")
VENV = PurePosixPath("opt/enforcer/venv")
HUB_VENV = PurePosixPath("opt/enforcer/hub")
PROXY = PurePosixPath("opt/enforcer/proxy")

HUB_USERS = ("jupyterhub", "enforcer-pages")
"""Who may act for anybody: the hub, and its pages."""

_HUB = "hub"
"""Below systemd/ in a checkout: what a host gets only if the hub is wanted."""

_LAUNCHER = """\
#!/opt/enforcer/venv/bin/python -I
import sys

from enforcer.__main__ import main

sys.exit(main())
"""

_RENAMED = {
    "enforcer.sysusers": PurePosixPath("usr/local/lib/sysusers.d/enforcer.conf"),
    "enforcer.tmpfiles": PurePosixPath("usr/local/lib/tmpfiles.d/enforcer.conf"),
    "enforcer.toml": CONFIGURATION,
    "hub/hub.sysusers": PurePosixPath("usr/local/lib/sysusers.d/enforcer-hub.conf"),
    "hub/hub.tmpfiles": PurePosixPath("usr/local/lib/tmpfiles.d/enforcer-hub.conf"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedFile:
    """A file of ours: where it goes, below the root, and what is in it.

    theirs: made for the admin to edit; once there it is never touched again.
    """

    path: PurePosixPath
    content: bytes
    mode: int = 0o644
    theirs: bool = False

    @property
    def digest(self) -> str:
        """SHA-256 of the content, in hexadecimal."""
        return digest(self.content)


class Step(enum.StrEnum):
    """What is to be done about one file."""

    WRITE = "write"
    UNCHANGED = "unchanged"
    KEEP = "keep"  # the admin has changed it
    REMOVE = "remove"  # ours from an earlier version, untouched since


Ours = Mapping[str, Collection[str]]
"""Path → digests of what we wrote there: one, or several while an installation has not ended."""


def digest(content: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def managed_files(checkout: Path, *, cores: int, hub: bool = False) -> list[ManagedFile]:
    """Everything of a checkout's that goes on a host, but the packages and their venvs.

    cores: how many the host has.
    """
    files = [
        ManagedFile(path=PROGRAM, content=_LAUNCHER.encode(), mode=0o755),
        ManagedFile(path=FIRST_CAP, content=_first_cap(cores).encode()),
    ]
    folder = checkout / "systemd"
    for source in sorted(folder.rglob("*")):
        if not source.is_file():
            continue
        relative = PurePosixPath(source.relative_to(folder).as_posix())
        if relative.parts[0] == _HUB and not hub:
            continue
        unit = UNIT_FOLDER / relative.relative_to(_HUB if relative.parts[0] == _HUB else ".")
        path = _RENAMED.get(str(relative), unit)
        content = source.read_bytes()
        if path == CONFIGURATION and hub:
            content = (with_hub_users(content.decode()) or content.decode()).encode()
        files.append(ManagedFile(path=path, content=content, theirs=path == CONFIGURATION))
    readme = checkout / "README.org"
    if readme.is_file():
        path = PurePosixPath("opt/enforcer/README.org")
        files.append(ManagedFile(path=path, content=readme.read_bytes()))
    return files


def _first_cap(cores: int) -> str:
    everything = Cpus(cores * CORE)
    percent = 100 * (everything - default_reserve(everything)) // CORE
    return f"""\
# What holds before the daemon has ever run: this machine's CPUs, less what stays with the host if
# nobody says otherwise. What the daemon then sets for good goes before it, by its name
# (50-CPUQuota.conf), and so does yours if it is 20-mine.conf, say.
[Slice]
CPUQuota={percent}%
"""


def with_hub_users(example: str) -> str | None:
    """The example configuration with the hub's users in it; None where it has no place for them."""
    place = '\n#hub_users = ["jupyterhub"]\n'
    if example.count(place) != 1:
        return None
    users = ", ".join(f'"{user}"' for user in HUB_USERS)
    return example.replace(place, f"\nhub_users = [{users}]\n")


def distribution(pyproject: str) -> dict[str, str]:
    """Name → text of the files that tell Python what the package is called and offers.

    With them (a .dist-info beside the package, PyPA's "Recording installed projects") the hub finds
    the spawner by its entry point. No RECORD, so that pip leaves alone what it did not install.
    """
    project = tomllib.loads(pyproject)["project"]
    name, version = project["name"], project["version"]
    points = []
    for group, entries in project.get("entry-points", {}).items():
        points += [f"[{group}]", *(f"{key} = {value}" for key, value in entries.items()), ""]
    folder = f"{name.replace('-', '_')}-{version}.dist-info"
    return {
        f"{folder}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{folder}/INSTALLER": "enforcer\n",
        f"{folder}/entry_points.txt": "\n".join(points),
    }


def decide_install(
    files: Iterable[ManagedFile], ours: Ours, present: Mapping[str, str]
) -> list[tuple[PurePosixPath, Step]]:
    """What to do about each file of this version, and each that an earlier one left.

    present: path → digest of what is there.
    """
    steps: list[tuple[PurePosixPath, Step]] = []
    wanted: set[str] = set()
    for file in files:
        name = str(file.path)
        wanted.add(name)
        there = present.get(name)
        if there is None:
            # A file of ours that an admin removed comes back: units need one another.
            steps.append((file.path, Step.WRITE))
        elif there == file.digest:
            steps.append((file.path, Step.UNCHANGED))
        elif not file.theirs and there in ours.get(name, ()):
            steps.append((file.path, Step.WRITE))
        else:
            steps.append((file.path, Step.KEEP))
    left = [PurePosixPath(name) for name in ours if name not in wanted]
    return steps + _decide_removal(left, ours, present)


def decide_uninstall(ours: Ours, present: Mapping[str, str]) -> list[tuple[PurePosixPath, Step]]:
    """What to do about each file we once wrote; what an admin has changed stays."""
    return _decide_removal([PurePosixPath(name) for name in ours], ours, present)


def _decide_removal(
    paths: Sequence[PurePosixPath], ours: Ours, present: Mapping[str, str]
) -> list[tuple[PurePosixPath, Step]]:
    steps: list[tuple[PurePosixPath, Step]] = []
    for path in paths:
        there = present.get(str(path))
        if there is not None:
            untouched = there in ours[str(path)]
            steps.append((path, Step.REMOVE if untouched else Step.KEEP))
    return steps
