"""What belongs on a host, and what is to be done about each file: decided here, done elsewhere."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

UNIT_FOLDER = PurePosixPath("usr/local/lib/systemd/system")
"""systemd.unit(5): for what the admin installs; their own changes go to /etc/systemd/system."""

CONFIGURATION = PurePosixPath("etc/enforcer/enforcer.toml")
PROGRAM = PurePosixPath("usr/local/bin/enforcer")
LIBRARY = PurePosixPath("opt/enforcer/lib")
VENV = PurePosixPath("opt/enforcer/venv")

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


def digest(content: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def managed_files(checkout: Path) -> list[ManagedFile]:
    """Everything of a checkout's that goes on a host, but the package and its venv."""
    files = [ManagedFile(path=PROGRAM, content=_LAUNCHER.encode(), mode=0o755)]
    folder = checkout / "systemd"
    for source in sorted(folder.rglob("*")):
        if not source.is_file():
            continue
        relative = PurePosixPath(source.relative_to(folder).as_posix())
        path = _RENAMED.get(str(relative), UNIT_FOLDER / relative)
        files.append(
            ManagedFile(path=path, content=source.read_bytes(), theirs=path == CONFIGURATION)
        )
    readme = checkout / "README.org"
    if readme.is_file():
        path = PurePosixPath("opt/enforcer/README.org")
        files.append(ManagedFile(path=path, content=readme.read_bytes()))
    return files


def decide_install(
    files: Iterable[ManagedFile], installed: Mapping[str, str], present: Mapping[str, str]
) -> list[tuple[PurePosixPath, Step]]:
    """What to do about each file of this version, and each that an earlier one left.

    installed: path → digest of what we wrote last. present: path → digest of what is there.
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
        elif not file.theirs and there == installed.get(name):
            steps.append((file.path, Step.WRITE))
        else:
            steps.append((file.path, Step.KEEP))
    left = [PurePosixPath(name) for name in installed if name not in wanted]
    return steps + _decide_removal(left, installed, present)


def decide_uninstall(
    installed: Mapping[str, str], present: Mapping[str, str]
) -> list[tuple[PurePosixPath, Step]]:
    """What to do about each file we once wrote; what an admin has changed stays."""
    return _decide_removal([PurePosixPath(name) for name in installed], installed, present)


def _decide_removal(
    paths: Sequence[PurePosixPath], installed: Mapping[str, str], present: Mapping[str, str]
) -> list[tuple[PurePosixPath, Step]]:
    steps: list[tuple[PurePosixPath, Step]] = []
    for path in paths:
        there = present.get(str(path))
        if there is not None:
            untouched = there == installed[str(path)]
            steps.append((path, Step.REMOVE if untouched else Step.KEEP))
    return steps
