"""The spawner as the hub knows it: what runs, what has ended and why, and what a restart finds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from inspect import isawaitable
from typing import Any, Final

from tornado import web

from enforcer.api.types import LeaseReply
from enforcer.errors import EnforcerError, NotFoundError
from enforcer.model import LEASE_LABEL, Resize
from spawner import engine as docker_engine
from spawner.claims import lease_of
from spawner.endings import ending, receipt_of
from spawner.engine import Lane
from spawner.leftovers import Remains
from spawner.starting import StartingSpawner

_RECEIPT_SECONDS: Final = 2.0
_WATCH_SECONDS: Final = 2.0
_OVER: Final = 0
"""poll's word for a server that is not there and of which no more is known."""


class NotStopped(web.HTTPError):
    """Docker did not stop a container; it is tried again until it does."""

    jupyterhub_message = "Docker does not answer. Your server will be stopped as soon as it does."

    def __init__(self, container: str, error: EnforcerError) -> None:
        super().__init__(503, f"{container} could not be stopped: {error}")


class DockerSystemProfileSpawner(StartingSpawner):
    """Runs each user's server in a container that the enforcer has placed."""

    def __init__(self, **named: Any) -> None:  # noqa: ANN401 - traits
        self.lease_id = ""
        self._ended = ""
        self._blind = False
        self._gone = False
        self._left: dict[str, str] = {}
        super().__init__(**named)

    async def start(self) -> tuple[str, int]:
        """Start the server; see `StartingSpawner`."""
        self._ended, self._gone, self._left = "", False, {}
        address = await super().start()
        self.lease_id = "" if self.lease is None else self.lease.id
        return address

    async def progress(self) -> AsyncIterator[dict[str, object]]:
        """Yield what the start has to say, and what becomes of a server that ends at once."""
        async for event in super().progress():
            yield event
        while self.pending == "spawn" and self.lease_id:
            ended = await self.poll()
            if ended is not None:
                yield {"progress": 95, "message": str(ended)}
                return
            await asyncio.sleep(_WATCH_SECONDS)

    # --- stop ----------------------------------------------------------------------------------

    async def stop(self, now: bool = False) -> None:  # noqa: FBT001, FBT002 - the hub's signature
        """Stop the container and, unless `remove` says otherwise, remove it.

        Raises:
            NotStopped: Docker did not do it.
        """
        container = self.object_id or self.object_name
        self._ended = ""
        try:
            if not now:
                await self._stopped(container)
            if self.remove:
                self._gone = await self._removed(container)
                if not self._gone:
                    self._put_off(container)
            elif now:
                await self.docker("kill", container)
        except Exception as error:
            known = docker_engine.ours(error)
            if known is None:
                raise
            self._put_off(container)
            raise NotStopped(container, known) from error

    async def run_post_stop_hook(self) -> None:
        """Give back what is left of a server, however it ended; then run the admin's own hook."""
        try:
            await self._leave()
        finally:
            result = super().run_post_stop_hook()
            if isawaitable(result):
                await result

    async def rename(self, old_name: str, new_name: str) -> None:
        """Leave nothing under the old name; the hub renames servers only while they do not run."""
        await self._leave(container_too=True)
        await super().rename(old_name, new_name)

    async def delete_forever(self) -> None:
        """Leave nothing of a server that is deleted."""
        await self._leave(container_too=True)

    async def _stopped(self, container: str) -> None:
        try:
            await self.docker("stop", container)
        except Exception as error:
            if not docker_engine.is_gone(error):
                raise

    async def _removed(self, container: str) -> bool:
        """Remove it; False: another call is at it, and may yet fail."""
        try:
            await self.docker("remove_container", container, force=True, v=True)
        except Exception as error:
            if docker_engine.is_taken(error):
                return False
            if not docker_engine.is_gone(error):
                raise
        return True

    def _put_off(self, container: str) -> None:
        """Have the server put away later, also by a hub that is restarted meanwhile."""
        self._left = {"container": container, "lease_id": self.lease_id}
        self.put_away_later(self._remains(container_too=True))

    async def _leave(self, *, container_too: bool = False) -> None:
        """Put away what is left, for as long as the hub can wait; the rest goes on by itself."""
        leftovers = self.backends.leftovers
        if self.tidy and not container_too:
            return
        if not leftovers.pending(self.object_name):
            self.put_away_later(self._remains(container_too=container_too))
        self.tidy = await leftovers.settle(self.object_name, self.cleanup_timeout)
        if self.tidy:
            self._left = {}

    def _remains(self, *, container_too: bool = False) -> Remains:
        wanted = (self.remove or container_too) and not self._gone
        return Remains(
            user=self.user.name,
            server=self.name,
            container=(self.object_id or self.object_name) if wanted else "",
            lease_id=self.lease_id,
            died=bool(self._ended),
        )

    # --- poll ----------------------------------------------------------------------------------

    async def poll(self) -> int | str | None:
        """Return None while the server runs, else why it ended.

        Docker is asked first. When it does not answer, the daemon is the second witness; and a
        server that neither can say anything about is taken to run.
        """
        if self._starting:
            return None
        if self.backends.leftovers.pending(self.object_name):
            return self._ended or _OVER
        if self.tidy:
            return _OVER
        if not self.object_id and not self.lease_id and self.server is None:
            return _OVER
        try:
            state = await self._state()
        except Exception as error:
            known = docker_engine.ours(error)
            if known is None:
                raise
            return await self._second_witness(known)
        self._blind = False
        if state is not None and state.get("Running") is True:
            return None
        if state is None and not self.lease_id:
            return _OVER
        return await self._say_ended(state)

    async def get_url(self) -> str:
        """Return where the server listens: Docker says it, the hub's database may be older."""
        try:
            ip, port = await self.get_ip_and_port()
        except Exception as error:  # noqa: BLE001 - the hub checks what it knows anyway
            self.log.warning("the address of %s is taken from the hub: %s", self._log_name, error)
            return str(self.server.url)
        host = f"[{ip}]" if ":" in ip else ip
        scheme = "https" if self.internal_ssl else "http"
        return f"{scheme}://{host}:{port}{self.server.base_url}"

    async def _state(self) -> Mapping[str, Any] | None:
        """Return Docker's ``State`` of the container; None if it is gone."""
        container = self.object_id or self.object_name
        try:
            found = await self.backends.engine.call(Lane.POLLS, "inspect_container", container)
        except Exception as error:
            if docker_engine.is_gone(error):
                return None
            raise
        # A hub that was killed in the middle of a start knows the name only.
        self.object_id = str(found["Id"])
        if not self.lease_id:
            self.lease_id = str((found["Config"].get("Labels") or {}).get(LEASE_LABEL, ""))
        state: Mapping[str, Any] = found["State"]
        return state

    async def _second_witness(self, error: EnforcerError) -> int | str | None:
        if not self._blind:
            self.log.warning(
                "Docker says nothing about %s, the enforcer is asked: %s", self._log_name, error
            )
            self._blind = True
        if not self.lease_id:
            return None if self.object_id else _OVER
        try:
            await self.backends.quick.lease(self.lease_id)
        except NotFoundError:
            receipt = await receipt_of(
                self.backends.quick, self.user.name, self.lease_id, _RECEIPT_SECONDS
            )
            if receipt is not None:
                self._ended = ending(receipt, None)
                return self._ended
        except EnforcerError as silent:
            self.log.warning("neither does the enforcer: %s", silent)
        return None

    async def _say_ended(self, state: Mapping[str, Any] | None) -> str:
        if not self._ended:
            receipt = await receipt_of(
                self.backends.quick, self.user.name, self.lease_id, _RECEIPT_SECONDS
            )
            self._ended = ending(receipt, state)
            self.log.info("%s: %s", self._log_name, self._ended)
            if state is not None and state.get("ExitCode") != 0:
                await self.log_last_words()
        return self._ended

    # --- what the hub keeps over a restart ------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        """Return what a restarted hub needs to find the server again."""
        state: dict[str, Any] = super().get_state()
        if self.lease_id:
            state["lease_id"] = self.lease_id
        if self._left and self.backends.leftovers.pending(self.object_name):
            state["left"] = dict(self._left)
        return state

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up what `get_state` returned; what could not be put away then is tried again."""
        super().load_state(state)
        self.lease_id = state.get("lease_id", "")
        left = state.get("left")
        if left:
            self._left = left
            remains = Remains(
                user=self.user.name,
                server=self.name,
                container=left["container"],
                lease_id=left["lease_id"],
            )
            if not self.backends.leftovers.pending(self.object_name):
                self.put_away_later(remains)

    def clear_state(self) -> None:
        """Forget the server that ran; what is still to be put away is not forgotten."""
        super().clear_state()
        self.forget_placement()
        self.lease_id = ""
        self._ended = ""

    # --- for pages and hooks --------------------------------------------------------------------

    async def lease_now(self) -> LeaseReply | None:
        """Return the lease as it is now; after a resize or a restart only the daemon knows.

        None if there is none, or if the daemon does not answer in time.
        """
        try:
            if self.lease_id:
                return await self.backends.quick.lease(self.lease_id)
            return await lease_of(self.backends.quick, self.user.name, self.name)
        except EnforcerError:
            return None

    async def resize(self, change: Resize) -> LeaseReply:
        """Give the running server other numbers, for good or for a time.

        Raises:
            EnforcerError: as the daemon answers.
        """
        lease = await self.lease_now()
        if lease is None:
            raise NotFoundError("lease.not-found", "the server does not run", "start it first")
        changed = await self.backends.client.resize(lease.id, change)
        if self.lease is not None:
            self.lease = changed
        return changed
