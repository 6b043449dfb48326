"""The pages as a browser sees them: a real hub, its proxy, the service and the daemon's API.

Only what lies below the API is made up: `daemon.py` plays users who work, so that there is
something to see. Screenshots go to build/screenshots, or to $ENFORCER_SCREENSHOTS.
"""

from __future__ import annotations

from typing import Final

HOST_PACKAGES: Final = ("chromium", "fonts-dejavu-core", "npm")
"""Debian packages that these tests need."""
