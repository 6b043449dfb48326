"""The options form as the hub asks for it: quickly, and without ever failing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from typing import Final, TypeVar

from enforcer.api.types import CatalogueReply, StatusReply
from enforcer.errors import EnforcerError
from spawner.pages.form import render_form

T = TypeVar("T")

_BROKEN: Final = "<p>The form could not be made. The hub's log says why.</p>"


async def make_form(
    catalogue: Awaitable[CatalogueReply],
    status: Awaitable[StatusReply],
    chosen: Mapping[str, object],
    log: logging.Logger | logging.LoggerAdapter[logging.Logger],
) -> str:
    """Return the form; with the daemon down, one that says so and starts nothing.

    chosen: the user's last options, to begin with.
    """
    try:
        offered, now = await asyncio.gather(_or_none(catalogue, log), _or_none(status, log))
        return render_form(offered, now, chosen=chosen)
    except Exception:
        log.exception("the options form could not be made")
        return _BROKEN


async def _or_none(
    asked: Awaitable[T], log: logging.Logger | logging.LoggerAdapter[logging.Logger]
) -> T | None:
    try:
        return await asked
    except EnforcerError as error:
        log.warning("the options form does without: %s", error)
        return None
