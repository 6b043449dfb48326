"""Why a start does not go on, as the hub passes it to the user.

A refusal is the hub's SpawnException: it is no failure of the hub, so it never counts towards its
limit of consecutive failures, and its message reaches the form, the progress page and the REST
reply.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from jupyterhub.spawner import SpawnException

from enforcer.errors import (
    ConflictError,
    EnforcerError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)

_STATUS: Final[tuple[tuple[type[EnforcerError], int], ...]] = (
    (InvalidError, 400),
    (ForbiddenError, 403),
    (NotFoundError, 404),
    (ConflictError, 409),
    (RefusedError, 409),
    (UnavailableError, 503),
)

_TOLD: Final = frozenset(
    {"account.timeout", "docker.busy", "docker.error", "docker.settings", "image.slow"}
)
"""Failures whose own words help the user."""


class StartRefused(SpawnException):  # type: ignore[misc]  # the hub has no types
    """A start that was refused. `message` is for the user, `details` for the log."""

    def __init__(self, message: str, *, reason: str, status_code: int, details: str = "") -> None:
        super().__init__(
            message, reason=reason, log_message=details or message, status_code=status_code
        )
        self.jupyterhub_message = message


def refusal(error: EnforcerError, texts: Mapping[str, str]) -> StartRefused:
    """Return what the user reads.

    texts: what to say instead where something does not do its part, by the first word of the
    error's code ("daemon", "docker"; "" for any other); what really happened is for the log.
    """
    status = next((status for family, status in _STATUS if isinstance(error, family)), 500)
    message = sentence(error)
    if isinstance(error, UnavailableError) and error.code not in _TOLD:
        message = texts.get(error.code.partition(".")[0], texts[""])
    return StartRefused(
        message, reason=error.code, status_code=status, details=f"{error.code}: {error}"
    )


def sentence(error: EnforcerError) -> str:
    """Write an error's message and hint as sentences."""
    return " ".join(_sentence(one) for one in (error.message, error.hint) if one)


def _sentence(text: str) -> str:
    said = text[:1].upper() + text[1:]
    return said if said.endswith((".", "?", "!")) else f"{said}."
