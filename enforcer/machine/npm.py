"""Where npm is: this host's own, or a pinned one in a virtual environment.

Debian's package would bring some 360 others along and take root; this is two wheels.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from enforcer.bootstrap import ensure_venv

_LOCK: Final = Path(__file__).with_name("npm.lock")


def search_path() -> str:
    """A PATH on which there is npm, fetched if this host has none.

    Raises:
        UnavailableError: no network, a full disk.
    """
    own = os.environ.get("PATH", os.defpath)
    if shutil.which("npm") is not None:
        return own
    venv = ensure_venv(_LOCK, "to fetch Node packages")
    return os.pathsep.join((str(venv / "bin"), own))
