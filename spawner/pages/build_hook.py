"""Has a wheel carry what the pages' charts are drawn with (hatch runs it)."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PagesHook(BuildHookInterface):  # type: ignore[misc] # hatchling is there at build time only
    """Runs build.py before the files are collected."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Fetch, and add what git ignores."""
        del version
        # by its path: while a wheel is built the package cannot be imported
        pages = Path(self.root) / "spawner" / "pages"
        runpy.run_path(str(pages / "build.py"))["build"](pages)
        build_data["artifacts"].append("spawner/pages/static/vendor/**")
