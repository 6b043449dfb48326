"""Pulling images: one pull for everyone who waits for the same image, with its progress.

A pull has a thread of its own, so that nothing else waits for it. It is a daemon thread: the hub
ends when it is told to, even in the middle of one.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from enforcer.errors import EnforcerError, NotFoundError, UnavailableError
from enforcer.quantities import format_bytes
from spawner import engine as docker_engine
from spawner.engine import Engine, Lane

Tell = Callable[[str], None]

_LAYER_THERE: Final = frozenset({"Already exists", "Pull complete"})
_TELL_SECONDS: Final = 1.0


class PullReport:
    """What a pull's events add up to. Not for two threads at once."""

    def __init__(self, image: str) -> None:
        self._image = image
        self._layers: dict[str, tuple[bool, int, int]] = {}
        self.error = ""
        """Why it failed, in Docker's words."""

    def add(self, event: object) -> None:
        """Add one event of ``POST /images/create``."""
        if not isinstance(event, Mapping):
            return
        if event.get("error"):
            self.error = str(event["error"])[:300]
        status, layer = event.get("status"), event.get("id")
        detail = event.get("progressDetail")
        if not isinstance(layer, str) or not isinstance(detail, Mapping):
            return
        _, had, whole = self._layers.get(layer, (False, 0, 0))
        if status == "Downloading":
            had, whole = _count(detail.get("current")), _count(detail.get("total"))
        elif status in _LAYER_THERE or status == "Download complete":
            had = whole
        self._layers[layer] = (status in _LAYER_THERE, had, whole)

    def text(self) -> str:
        """Say how far it is."""
        said = f"Fetching the image {self._image}"
        if not self._layers:
            return said
        there = sum(1 for complete, _, _ in self._layers.values() if complete)
        had = sum(one for _, one, _ in self._layers.values())
        whole = sum(one for _, _, one in self._layers.values())
        said += f": {there} of {len(self._layers)} layers"
        return f"{said}, {format_bytes(had)} of {format_bytes(whole)}" if whole else said


class Pulls:
    """Every pull under way. stall_seconds: how long one may say nothing."""

    def __init__(self, engine: Engine, stall_seconds: float) -> None:
        self._engine = engine
        self._stall = stall_seconds
        self._running: dict[str, _Pull] = {}

    async def ensure(self, image: str, policy: str, seconds: float, tell: Tell) -> None:
        """Return when the image is there; `policy` is DockerSpawner's pull_policy.

        Raises:
            NotFoundError: ``image.missing``: it is not there, and may not or cannot be pulled.
            UnavailableError: ``image.slow``: it takes longer than `seconds`; ``docker.…``.
        """
        if policy == "skip" or (policy != "always" and await self._is_there(image)):
            return
        if policy == "never":
            raise NotFoundError(
                "image.missing",
                f"the image {image} is not on this machine",
                "the admin has to fetch it first",
            )
        pull = self._running.get(image)
        if pull is None:
            pull = self._running[image] = _Pull(self._engine, image, self._stall)
            pull.done.add_done_callback(partial(self._forget, image, pull))
        tell(pull.text)
        pull.listeners.append(tell)
        try:
            async with asyncio.timeout(seconds):
                await asyncio.shield(pull.done)
        except TimeoutError:
            raise UnavailableError(
                "image.slow",
                f"fetching the image {image} takes longer than {seconds / 60:.0f} minutes",
                "what was fetched is kept, so try again; or ask the admin to fetch it",
            ) from None
        finally:
            pull.listeners.remove(tell)
            if not pull.listeners:
                # Docker keeps the layers that are complete.
                pull.stop()
                self._forget(image, pull)

    def _forget(self, image: str, pull: _Pull, *_: object) -> None:
        if self._running.get(image) is pull:
            del self._running[image]

    async def _is_there(self, image: str) -> bool:
        try:
            await self._engine.call(Lane.CALLS, "inspect_image", image)
        except Exception as error:
            if docker_engine.is_gone(error):
                return False
            raise
        return True


class _Pull:
    """One pull, from its thread to the loop."""

    def __init__(self, engine: Engine, image: str, stall_seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._report = PullReport(image)
        self._stopped = False
        self.done: asyncio.Future[None] = self._loop.create_future()
        # Whoever waits is told; if nobody does any more, nobody has to be.
        self.done.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.listeners: list[Tell] = []
        self.text = self._report.text()
        self.thread = threading.Thread(
            target=self._run, args=(engine, image, stall_seconds), name="docker-pull", daemon=True
        )
        self.thread.start()

    def stop(self) -> None:
        """End it at its next event."""
        self._stopped = True

    def _run(self, engine: Engine, image: str, stall_seconds: float) -> None:
        told = 0.0

        def take(event: object) -> bool:
            nonlocal told
            self._report.add(event)
            now = time.monotonic()
            if now - told >= _TELL_SECONDS:
                told = now
                self._on_loop(self._say, self._report.text())
            return not self._stopped and not self._report.error

        failure: BaseException | None = None
        try:
            engine.stream_pull(image, stall_seconds, take)
            if self._report.error:
                failure = _failed(image, self._report.error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the one who waits gets it
            failure = _explained(image, error)
        self._on_loop(self._finish, failure)

    def _on_loop(self, call: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the hub has ended
            self._loop.call_soon_threadsafe(call, *arguments)

    def _say(self, text: str) -> None:
        self.text = text
        for tell in self.listeners:
            tell(text)

    def _finish(self, failure: BaseException | None) -> None:
        if self.done.done():
            return
        if failure is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(failure)


def _explained(image: str, error: Exception) -> Exception:
    """A registry's refusal comes as Docker's own error; what is no answer at all stays as it is."""
    known = docker_engine.ours(error)
    if known is None or known.code in docker_engine.NO_ANSWER:
        return known or error
    return _failed(image, known.message)


def _failed(image: str, why: str) -> EnforcerError:
    return NotFoundError(
        "image.missing", f"the image {image} could not be fetched: {why}", "tell the admin"
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
