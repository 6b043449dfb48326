"""The options form as the hub asks for it: quickly, and without ever failing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from enforcer.errors import EnforcerError
from spawner.pages.form import render_form

if TYPE_CHECKING:
    from enforcer.api.types import CatalogueReply, StatusReply
    from spawner.spawner import DockerSystemProfileSpawner

_BROKEN: Final = "<p>The form could not be made. The hub's log says why.</p>"


async def options_form(spawner: DockerSystemProfileSpawner) -> str:
    """Return the form; with the daemon down, one that says so and starts nothing."""
    catalogue, status = await asyncio.gather(_catalogue(spawner), _status(spawner))
    try:
        return render_form(catalogue, status, chosen=spawner.user_options)
    except Exception:
        spawner.log.exception("the options form of %s could not be made", spawner.user.name)
        return _BROKEN


async def _catalogue(spawner: DockerSystemProfileSpawner) -> CatalogueReply | None:
    try:
        return await spawner.catalogue()
    except EnforcerError as error:
        spawner.log.warning("no options form for %s: %s", spawner.user.name, error)
        return None


async def _status(spawner: DockerSystemProfileSpawner) -> StatusReply | None:
    try:
        return await spawner.backends.quick.status()
    except EnforcerError:
        return None  # the form does without; the catalogue's failure is the one to log
