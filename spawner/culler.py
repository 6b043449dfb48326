"""``python -m spawner.culler``: jupyterhub-idle-culler, told that a server that computes is in use.

The hub learns of a server's use through browsers and kernels that print something. A job that runs
for hours in silence is neither, and was culled. The daemon knows what each server's lease uses. So
once a minute the hub is told of those that compute, and a server that is about to be stopped is
looked at once more. While the daemon cannot be asked, nothing is stopped.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final
from urllib.parse import quote

from jupyterhub_idle_culler import IdleCuller
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.ioloop import IOLoop
from traitlets import Float, Unicode

from enforcer.api.types import LeaseReply, SampleReply
from enforcer.asyncclient import AsyncClient
from enforcer.client import DEFAULT_SOCKET
from enforcer.errors import EnforcerError, NotFoundError
from enforcer.model import LeaseState

WINDOW_SECONDS: Final = 60.0
"""Over which use is averaged: a kernel that is merely open wakes up now and then."""

REPORT_SECONDS: Final = 60.0
_HUB_SECONDS: Final = 30.0
_DAEMON_SECONDS: Final = 30.0


def last_busy(samples: Sequence[SampleReply], busy_cores: float) -> float | None:
    """When it last used more than `busy_cores`, on average over a minute; None: not in these.

    samples: the oldest first, each with what was used since the one before. Unix seconds. Of a
    minute that is known in part, the rest counts as idle: a moment is not to pass for a minute.
    """
    windows: dict[int, list[tuple[float, SampleReply]]] = {}
    for before, sample in pairwise(samples):
        # within bounds also where the clock was set, or the machine slept
        seconds = min(max(sample.at - before.at, 0.0), WINDOW_SECONDS)
        windows.setdefault(int(sample.at // WINDOW_SECONDS), []).append((seconds, sample))
    for _, window in sorted(windows.items(), reverse=True):
        used = sum(seconds * sample.cpu for seconds, sample in window)
        # ticks that are long may reach over the minute's edges
        known = sum(seconds for seconds, _ in window)
        if used / max(known, WINDOW_SECONDS) > busy_cores:
            return window[-1][1].at
    return None


class Watcher:
    """Knows from the daemon when servers last computed."""

    def __init__(self, client: AsyncClient, busy_cores: float) -> None:
        self._client = client
        self._busy_cores = busy_cores

    async def busy(self) -> Mapping[tuple[str, str], float]:
        """Return when each server last computed, by user and server; only those that did.

        Raises:
            EnforcerError: the daemon cannot be asked.
        """
        found: dict[tuple[str, str], float] = {}
        for lease in _running(await self._client.leases()):
            at = await self._last(lease)
            if at is not None:
                found[lease.user, lease.server] = at
        return found

    async def last(self, user: str, server: str) -> float | None:
        """Return when one server last computed.

        Raises:
            EnforcerError: the daemon cannot be asked.
        """
        leases = _running(await self._client.leases(user))
        found = [await self._last(one) for one in leases if one.server == server]
        return max((at for at in found if at is not None), default=None)

    async def _last(self, lease: LeaseReply) -> float | None:
        try:
            history = await self._client.history(lease.id)
        except NotFoundError:  # it has ended since, as below
            return None
        return None if history.ended else last_busy(history.samples, self._busy_cores)


class Reporter:
    """Tells the hub what it cannot see."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._told: dict[tuple[str, str], float] = {}

    async def tell(self, busy: Mapping[tuple[str, str], float]) -> None:
        """Tell it when servers last computed; what it has been told already is left out.

        Raises:
            HTTPClientError, OSError: the hub does not answer.
        """
        news = {server: at for server, at in busy.items() if at > self._told.get(server, 0.0)}
        # each by itself: the hub refuses all of a request that names one it does not know
        for (user, server), at in news.items():
            await self._post(user, server, at)
        self._told = {**busy}

    async def _post(self, user: str, server: str, at: float) -> None:
        times = {server: {"last_activity": datetime.fromtimestamp(at, UTC).isoformat()}}
        request = HTTPRequest(
            f"{self._url}/users/{quote(user, safe='')}/activity",
            method="POST",
            headers={"Authorization": f"token {self._token}"},
            body=json.dumps({"servers": times}),
            connect_timeout=_HUB_SECONDS,
            request_timeout=_HUB_SECONDS,
        )
        try:
            await AsyncHTTPClient().fetch(request)
        except HTTPClientError as error:
            # the server, or its user, has gone meanwhile
            if error.code not in {400, 404}:
                raise


class BusyCuller(IdleCuller):  # type: ignore[misc] # it has no types
    """The idle culler, with the daemon's word on who is idle."""

    name = "spawner.culler"
    description = "Stop servers that nobody uses and that compute nothing."

    socket = Unicode(DEFAULT_SOCKET, help="The daemon's socket.").tag(config=True)
    busy_cores = Float(
        0.1, help="More CPU than that, on average over a minute, counts as use."
    ).tag(config=True)

    aliases = {  # noqa: RUF012 - as traitlets has it
        **IdleCuller.aliases,
        "socket": "BusyCuller.socket",
        "busy-cores": "BusyCuller.busy_cores",
    }

    def start(self) -> None:
        """Cull until it is ended."""
        self._watcher = Watcher(AsyncClient(self.socket, _DAEMON_SECONDS), self.busy_cores)
        self._reporter = Reporter(self.url, os.environ["JUPYTERHUB_API_TOKEN"])
        self.cull_arbiter_hook = self._is_idle
        IOLoop.current().add_callback(self._report)
        super().start()

    async def _report(self) -> None:
        while True:
            try:
                await self._reporter.tell(await self._watcher.busy())
            except (EnforcerError, HTTPClientError, OSError) as error:
                self.log.warning("What computes could not be told to the hub: %s", error)
            await asyncio.sleep(REPORT_SECONDS)

    async def _is_idle(
        self, *, inactive: timedelta, inactive_limit: float, server: Mapping[str, Any]
    ) -> bool:
        """Decide for the culler; called for each server at each round."""
        if inactive.total_seconds() < inactive_limit:
            return False
        user = server["full_name"].removesuffix(f"/{server['name']}")
        try:
            at = await self._watcher.last(user, server["name"])
        except EnforcerError as error:
            self.log.warning("Not culling %s: %s", server["full_name"], error)
            return False
        return at is None or datetime.now(UTC).timestamp() - at >= inactive_limit


def _running(leases: Iterable[LeaseReply]) -> list[LeaseReply]:
    return [lease for lease in leases if lease.state is LeaseState.BOUND]


if __name__ == "__main__":
    BusyCuller.launch_instance()
