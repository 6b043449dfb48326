"""The daemon's end of one actuator process: requests out, replies in, in any order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Self, cast

import enforcer
from enforcer.adapters.wire import (
    MAX_REPLY,
    Reply,
    Request,
    WireError,
    decode_reply,
    encode_request,
)
from enforcer.errors import UnavailableError

log = logging.getLogger(__name__)

Command = Callable[[], Sequence[str]]
"""What to run; called at each start."""

_BUS_TIMEOUT: Final = "8s"
"""sd-bus gives a call up after this; shorter than ours, so that a reply tells why."""
_CLOSE_SECONDS: Final = 2.0


def default_command() -> Sequence[str]:
    """Return the actuator's own command line, run by the interpreter that runs this."""
    return (sys.executable, "-P", "-m", "enforcer.adapters.actuator", str(os.getpid()))


class ActuatorProcess:
    """One running actuator. It dies with the daemon, or when its input ends."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        # pipes were asked for, so they are there
        self._requests = cast("asyncio.StreamWriter", process.stdin)
        self._answers = cast("asyncio.StreamReader", process.stdout)
        self._replies: dict[int, asyncio.Future[Reply]] = {}
        self._unanswered: dict[int, float] = {}
        self._last_id = 0
        self._heard_at = 0.0
        self._ended = False
        self._reading = asyncio.create_task(self._read(), name="actuator replies")

    @classmethod
    async def start(cls, command: Sequence[str]) -> Self:
        """Start one.

        Raises:
            UnavailableError: ``systemd.unavailable``: it cannot be run.
        """
        package_parent = str(Path(enforcer.__file__).parents[1])
        environment = {**os.environ, "PYTHONPATH": package_parent}
        environment.setdefault("SYSTEMD_BUS_TIMEOUT", _BUS_TIMEOUT)
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=MAX_REPLY,
                start_new_session=True,  # a terminal's Ctrl-C is the daemon's to act upon
                env=environment,
                cwd="/",
            )
        except OSError as error:
            raise UnavailableError(
                "systemd.unavailable",
                f"the process that talks to systemd cannot be started: {error}",
                f"see whether {command[0]} is there and may be run",
            ) from error
        return cls(process)

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return not self._ended and self._process.returncode is None

    @property
    def silent_seconds(self) -> float:
        """How long it has owed an answer without giving any."""
        if not self._unanswered:
            return 0.0
        since = max(self._heard_at, min(self._unanswered.values()))
        return asyncio.get_running_loop().time() - since

    async def request(self, call: str, arguments: Mapping[str, object]) -> Reply:
        """Ask, and wait for the answer; the caller bounds the time.

        Raises:
            UnavailableError: ``systemd.unavailable``: the process ended before it answered.
        """
        if not self.alive:
            raise _gone()
        self._last_id += 1
        number = self._last_id
        line = encode_request(Request(id=number, call=call, arguments=arguments))
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Reply] = loop.create_future()
        self._replies[number] = answer
        self._unanswered[number] = loop.time()
        try:
            self._requests.write(line)
            await self._requests.drain()
            return await answer
        except (BrokenPipeError, ConnectionResetError) as error:
            raise _gone() from error
        finally:
            # a late answer to a call that was given up is dropped; it is still owed, though
            self._replies.pop(number, None)

    def kill(self) -> None:
        """End it at once; whoever waits for an answer gets an error."""
        self._ended = True
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def close(self) -> None:
        """Let it finish what it does, then end it."""
        self._requests.close()
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        """Hand out replies until there are no more."""
        try:
            while line := await self._answers.readline():
                reply = decode_reply(line)
                self._heard_at = asyncio.get_running_loop().time()
                self._unanswered.pop(reply.id, None)
                answer = self._replies.get(reply.id)
                if answer is not None and not answer.done():
                    answer.set_result(reply)
        except (WireError, ValueError) as error:
            # ValueError: readline's own, for a line beyond the limit
            log.warning("the process that talks to systemd speaks nonsense: %s", error)
            self.kill()
        finally:
            self._ended = True
            for answer in self._replies.values():
                if not answer.done():
                    answer.set_exception(_gone())


def _gone() -> UnavailableError:
    return UnavailableError(
        "systemd.unavailable",
        "the process that talks to systemd ended in the middle of a call",
        "it is started anew with the next call",
    )
