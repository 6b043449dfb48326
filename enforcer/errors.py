"""The one family of errors: a stable code for programs, a message and a hint for people."""

from __future__ import annotations


class EnforcerError(Exception):
    """Something a user or an admin asked for cannot be done, or the world refused it.

    code: stable and dotted (``lease.not-found``); programs may branch on it.
    message: one sentence saying what is wrong, where, and the value found.
    hint: one sentence saying what to do about it; may be empty.
    """

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InvalidError(EnforcerError):
    """The request itself is malformed, whoever sends it (HTTP 400)."""


class ForbiddenError(EnforcerError):
    """The peer or the user has no right to this (HTTP 403)."""


class NotFoundError(EnforcerError):
    """No such lease, user, profile or image (HTTP 404)."""


class ConflictError(EnforcerError):
    """The request contradicts what is so at present (HTTP 409)."""


class RefusedError(EnforcerError):
    """Admission said no: there is no room for it now (HTTP 409)."""


class UnavailableError(EnforcerError):
    """systemd, Docker, the disk or the kernel did not do its part in time (HTTP 503)."""
