"""What a test can do to a fake: make it fail, or hang until its timeout."""

from __future__ import annotations

import asyncio

from enforcer.errors import UnavailableError


class Trouble:
    """Stands in the way of every call of one fake, until `recover`.

    what: the first part of the error codes (``systemd``).
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._failure: UnavailableError | None = None
        self._released: asyncio.Event | None = None
        self._timeout_seconds = 0.0

    @property
    def troubled(self) -> bool:
        """It fails or hangs."""
        return self._failure is not None or self._released is not None

    def fail(self, word: str = "unreachable") -> None:
        """Have every call fail with ``<what>.<word>``."""
        self._failure = UnavailableError(f"{self._what}.{word}", f"{self._what}: {word}")

    def hang(self, timeout_seconds: float = 0.05) -> None:
        """Have every call wait until `recover`, or fail with ``<what>.timeout`` after that long."""
        self._released = asyncio.Event()
        self._timeout_seconds = timeout_seconds

    def recover(self) -> None:
        """End the trouble; calls that hang go on."""
        self._failure = None
        if self._released is not None:
            self._released.set()
            self._released = None

    async def pass_through(self) -> None:
        """Let a call through, late, or not at all.

        Raises:
            UnavailableError: as told.
        """
        await asyncio.sleep(0)  # like the real one it gives way to others
        released = self._released
        if released is not None:
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    await released.wait()
            except TimeoutError as error:
                raise UnavailableError(
                    f"{self._what}.timeout", f"{self._what} did not answer in time"
                ) from error
        self.check()

    def check(self) -> None:
        """Fail if told to; for what does not wait.

        Raises:
            UnavailableError: as told.
        """
        if self._failure is not None:
            raise self._failure
