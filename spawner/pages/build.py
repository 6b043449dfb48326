"""Fetches what the pages' charts are drawn with from npm, as package-lock.json pins it.

``python3 spawner/pages/build.py`` puts it into static/vendor, and does nothing if it is there
already; building a wheel does the same. Standard library only, and npm.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

NPM_SECONDS: Final = 300.0
_HERE: Final = Path(__file__).resolve().parent
_FILES: Final = {
    "uplot/dist/uPlot.esm.js": "uPlot.esm.js",
    "uplot/dist/uPlot.min.css": "uPlot.min.css",
    "uplot/LICENSE": "uPlot.LICENSE",
}
_STAMP: Final = "lock.sha256"
_NPM: Final = shutil.which("npm")


class BuildError(Exception):
    """It could not be fetched; the message says what to do."""


def build(pages: Path = _HERE, *, npm: str | None = _NPM) -> bool:
    """Put the files into ``static/vendor`` below `pages`; False if they were there.

    Raises:
        BuildError: no npm, or npm failed.
    """
    vendor = pages / "static" / "vendor"
    digest = hashlib.sha256((pages / "package-lock.json").read_bytes()).hexdigest()
    stamp = vendor / _STAMP
    names = _FILES.values()
    if (
        stamp.is_file()
        and stamp.read_text() == digest
        and all((vendor / n).is_file() for n in names)
    ):
        return False
    if npm is None:
        raise BuildError(
            "npm is not installed, and the pages' charts come from it: apt-get install npm"
        )
    with tempfile.TemporaryDirectory(prefix="enforcer-pages-") as folder:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(pages / name, folder)
        _install(npm, folder)
        vendor.mkdir(parents=True, exist_ok=True)
        for source, target in _FILES.items():
            # each in one moment: somebody else may be at it too, or reads what is there
            new = vendor / f".{target}.{os.getpid()}"
            shutil.copyfile(Path(folder) / "node_modules" / source, new)
            new.replace(vendor / target)
    # last, so that a build that was interrupted is done again
    stamp.write_text(digest)
    return True


def _install(npm: str, folder: str) -> None:
    words = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    try:
        finished = subprocess.run(
            words,
            cwd=folder,
            env={**os.environ, "NODE_DISABLE_COMPILE_CACHE": "1"},  # that would stay in /tmp
            capture_output=True,
            text=True,
            check=False,
            timeout=NPM_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(
            f"npm ci took longer than {NPM_SECONDS:.0f} s: is its registry there?"
        ) from error
    if finished.returncode != 0:
        raise BuildError(f"npm ci failed:\n{(finished.stderr or finished.stdout).strip()}")


def main() -> int:
    """Build, and say what was done."""
    try:
        fresh = build()
    except BuildError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("static/vendor was made\n" if fresh else "static/vendor is up to date\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
