"""What the service asks of the hub's API: to stop a server, with the token of who wants it."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest

from enforcer.errors import (
    ConflictError,
    EnforcerError,
    ForbiddenError,
    NotFoundError,
    UnavailableError,
)

STOP_SECONDS: Final = 30.0


async def stop_server(api_url: str, token: str, user: str, server: str) -> bool:
    """Stop a server; True if it is stopped, False if the hub is still at it.

    Raises:
        EnforcerError: the token may not (``hub.forbidden``), there is no such server
            (``hub.not-found``), the hub is busy with it or does not answer.
    """
    name = quote(user, safe="")
    path = f"users/{name}/servers/{quote(server, safe='')}" if server else f"users/{name}/server"
    request = HTTPRequest(
        f"{api_url.rstrip('/')}/{path}",
        method="DELETE",
        headers={"Authorization": f"token {token}"},
        connect_timeout=STOP_SECONDS,
        request_timeout=STOP_SECONDS,
        follow_redirects=False,
    )
    try:
        answer = await AsyncHTTPClient().fetch(request)
    except HTTPClientError as error:
        raise _refused(error.code) from error
    except OSError as error:
        raise _refused(599) from error
    return answer.code == 204


def _refused(status: int) -> EnforcerError:
    match status:
        case 401 | 403:
            return ForbiddenError(
                "hub.forbidden", "the hub does not let you stop this server", "log in again"
            )
        case 404:
            return NotFoundError(
                "hub.not-found",
                "the hub knows no such server",
                "it has ended meanwhile, or was not started by the hub",
            )
        case 400 | 409:
            return ConflictError(
                "hub.busy", "the hub is starting or stopping this server", "try again in a minute"
            )
        case _:
            return UnavailableError(
                "hub.unreachable", f"the hub did not stop the server (status {status})"
            )
