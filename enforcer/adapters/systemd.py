"""The port Systemd: asks the actuator process, and believes nothing but the kernel's files."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from enforcer.adapters.actuatorprocess import ActuatorProcess, Command, default_command
from enforcer.adapters.cgroupreader import read_limits
from enforcer.adapters.properties import ACCOUNTING, FIELDS, disagreeing, properties
from enforcer.adapters.wire import DISCONNECTED, EXISTS, NO_SUCH_UNIT, TIMEOUT, Reply
from enforcer.errors import UnavailableError
from enforcer.model import ContainerLimits, Limits
from enforcer.names import UnitName, cgroup_path
from enforcer.ports import SliceSpec

log = logging.getLogger(__name__)

_IN_FLIGHT: Final = 4
_FIRST_PAUSE_SECONDS: Final = 0.001
_LONGEST_PAUSE_SECONDS: Final = 0.05
_GROWTH: Final = 1.25
"""A fifth of the time waited is the most that is waited in vain: somebody waits for a placement."""
_BACKOFF_SECONDS: Final = 5.0
_SCOPE_FIELDS: Final = (
    "cpu_quota",
    "cpu_period_usec",
    "memory_high",
    "memory_max",
    "swap_max",
    "tasks_max",
)


class SystemdActuator:
    """PID 1, through a process of its own that is started when needed and killed when it hangs.

    root: where cgroup v2 is mounted. runtime, lasting: where PID 1 keeps what was set on units
    until the next boot, and for good (systemd.unit(5)). timeout_seconds: the most any method takes.
    settle_seconds: how long PID 1 may take from its reply to the kernel holding the values.
    """

    def __init__(
        self,
        root: Path = Path("/sys/fs/cgroup"),
        runtime: Path = Path("/run/systemd/system.control"),
        lasting: Path = Path("/etc/systemd/system.control"),
        *,
        timeout_seconds: float = 10.0,
        settle_seconds: float = 5.0,
        command: Command = default_command,
    ) -> None:
        self._root = root
        self._runtime = runtime
        self._lasting = lasting
        self._timeout = timeout_seconds
        self._settle = settle_seconds
        self._command = command
        self._process: ActuatorProcess | None = None
        self._starting = asyncio.Lock()
        self._slots = asyncio.Semaphore(_IN_FLIGHT)
        self._asking = 0
        self._answered = asyncio.Event()
        self._answered.set()
        self._failures = 0
        self._not_before = 0.0

    async def create_slice(self, spec: SliceSpec) -> None:
        """Start a transient slice with its limits; one that exists already gets them set instead.

        When this returns, the kernel holds the limits. A lasting slice has a unit file, so it is
        started, not made.

        Raises:
            UnavailableError: ``systemd.timeout``, ``systemd.unavailable``, ``systemd.refused``, or
                ``systemd.unverified`` if the kernel holds something else.
        """
        wanted = properties(spec.limits, FIELDS)
        async with self._deadline():
            exists = spec.lasting
            if not exists:
                await self._forget(spec.unit)
                made = {"Description": spec.description, **ACCOUNTING, **wanted}
                if not spec.limits.cpus:
                    del made["AllowedCPUs"]  # nothing to reset, so leave the controller off
                reply = await self._ask("start_transient", unit=spec.unit, properties=made)
                exists = reply.error == EXISTS
                if not exists:
                    _check(reply, spec.unit)
            if exists:
                _check(await self._set(spec.unit, wanted, lasting=spec.lasting), spec.unit)
                if not self._is_there(spec.unit):
                    _check(await self._ask("start", unit=spec.unit), spec.unit)
            if not await self._verify(spec.unit, spec.limits, FIELDS):
                raise UnavailableError(
                    "systemd.unverified",
                    f"{spec.unit} was made, and stopped by somebody else at once",
                    "ask again",
                )

    async def set_limits(
        self, unit: UnitName, limits: Limits, fields: Sequence[str], *, lasting: bool
    ) -> bool:
        """Set the named fields, even if PID 1 thinks they are so; False: no such unit (any more).

        Raises:
            UnavailableError: as `create_slice`.
        """
        if not self._is_there(unit):
            # PID 1 would take the properties for a slice that does not run, and keep them
            return False
        async with self._deadline():
            reply = await self._set(unit, properties(limits, fields), lasting=lasting)
            if reply.error == NO_SUCH_UNIT:
                return False
            _check(reply, unit)
            return await self._verify(unit, limits, fields)

    async def set_scope_limits(self, scope: str, limits: ContainerLimits) -> bool:
        """Set a running container's own limits; False: it has ended.

        Raises:
            UnavailableError: as `create_slice`.
        """
        if not (self._root / scope).is_dir():
            return False
        wanted = Limits(
            cpu_quota=limits.cpu,
            cpu_period_usec=limits.cpu_period_usec,
            memory_high=limits.memory_high,
            memory_max=limits.memory,
            swap_max=limits.swap,
            tasks_max=limits.tasks,
            cpus=limits.cpus,
        )
        fields = (*_SCOPE_FIELDS, "cpus") if limits.cpus else _SCOPE_FIELDS
        unit = scope.rpartition("/")[2]
        async with self._deadline():
            reply = await self._ask(
                "set_properties",
                unit=unit,
                properties=properties(wanted, fields),
                runtime=True,
            )
            if reply.error == NO_SUCH_UNIT:
                return False
            _check(reply, unit)
            return True

    def is_lasting(self, unit: UnitName) -> bool:
        """Tell whether anything that was set on a unit for good is on disk; asks no one.

        `systemctl revert` removes it, and leaves the kernel's values as they are.
        """
        try:
            return any((self._lasting / f"{unit}.d").iterdir())
        except OSError:
            return False

    async def stop_slice(self, unit: UnitName) -> None:
        """Stop a slice, and wait until it is gone. This kills what runs in it.

        Raises:
            UnavailableError: as `create_slice`; the timeout if something in it does not die.
        """
        async with self._deadline():
            reply = await self._ask("stop", unit=unit)
            if reply.error != NO_SUCH_UNIT:
                _check(reply, unit)
            pause = _FIRST_PAUSE_SECONDS
            while self._is_there(unit):
                await asyncio.sleep(pause)
                pause = min(_GROWTH * pause, _LONGEST_PAUSE_SECONDS)
            await self._forget(unit)

    async def service_cgroup(self, service: str) -> str | None:
        """Return the cgroup of a service below the mount point; None when it does not run."""
        async with self._deadline():
            reply = await self._ask("control_group", service=service)
        _check(reply, service)
        return reply.result.strip("/") if isinstance(reply.result, str) else None

    async def close(self) -> None:
        """End the actuator process."""
        process, self._process = self._process, None
        if process is not None:
            await process.close()

    def _is_there(self, unit: UnitName) -> bool:
        return self._directory(unit).is_dir()

    def _directory(self, unit: UnitName) -> Path:
        return self._root / cgroup_path(unit)

    async def _forget(self, unit: UnitName) -> None:
        """Remove what was once set on a slice of this name that does not run any more.

        A slice that a container brought about is not transient, so PID 1 keeps what is set on it
        in a drop-in that outlives it, and that would win over the next one's properties.
        """
        if (self._runtime / f"{unit}.d").is_dir() and not self._is_there(unit):
            _check(await self._ask("revert", unit=unit), unit)

    async def _set(self, unit: UnitName, wanted: dict[str, object], *, lasting: bool) -> Reply:
        """Set properties; what is set for good, also in place of what was until the next boot.

        That does not count as long as there is the other, and would again once it is removed.
        """
        ask = partial(self._ask, "set_properties", unit=unit, properties=wanted)
        if lasting and (self._runtime / f"{unit}.d").is_dir():
            reply = await ask(runtime=True)
            if reply.error:
                return reply
        return await ask(runtime=not lasting)

    async def _verify(self, unit: UnitName, limits: Limits, fields: Sequence[str]) -> bool:
        """Wait until the kernel holds the values; False if the slice vanished meanwhile.

        PID 1 replies when it has noted them, and writes them a moment later. What was seen once is
        not read again, and little is while PID 1 is asked for more: reading takes from its work.
        """
        directory = str(self._directory(unit))
        pause = _FIRST_PAUSE_SECONDS
        until = asyncio.get_running_loop().time() + self._settle
        seen, left = False, tuple(fields)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LONGEST_PAUSE_SECONDS):
                    await self._answered.wait()
            there = self._is_there(unit)
            if seen and not there:
                return False
            seen = there
            if there:
                left = disagreeing(limits, left, read_limits(directory, left))
                if not left:
                    return True
            if asyncio.get_running_loop().time() > until:
                raise UnavailableError(
                    "systemd.unverified",
                    f"{unit} does not have the {', '.join(left)} it was given",
                    f"look at systemctl status '{unit}' and at the files in {directory}",
                )
            await asyncio.sleep(pause)
            pause = min(_GROWTH * pause, _LONGEST_PAUSE_SECONDS)

    async def _ask(self, call: str, **arguments: object) -> Reply:
        self._asking += 1
        self._answered.clear()
        try:
            async with self._slots:
                process = await self._connect()
                reply = await process.request(call, arguments)
                self._failures = 0
                return reply
        finally:
            self._asking -= 1
            if not self._asking:
                self._answered.set()

    async def _connect(self) -> ActuatorProcess:
        """Return the process, started anew if it has ended; not too often if it keeps ending."""
        async with self._starting:
            loop = asyncio.get_running_loop()
            if self._process is not None and self._process.alive:
                return self._process
            if loop.time() < self._not_before:
                raise UnavailableError(
                    "systemd.unavailable",
                    "the process that talks to systemd keeps ending",
                    "look for its last words in the journal of enforcer.service",
                )
            if self._process is not None:
                await self._process.close()
            if self._failures:
                delay = min(_BACKOFF_SECONDS, 0.1 * 2**self._failures)
                self._not_before = loop.time() + delay
            self._failures += 1  # until it has given one answer
            self._process = await ActuatorProcess.start(self._command())
            return self._process

    @contextlib.asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        """Bound what a method does; kill the process if it was the one that did not answer."""
        try:
            async with asyncio.timeout(self._timeout):
                yield
        except TimeoutError as error:
            process = self._process
            if process is not None and process.silent_seconds >= 0.9 * self._timeout:
                log.warning("systemd did not answer for %.1f s: starting anew", self._timeout)
                process.kill()
            raise UnavailableError(
                "systemd.timeout",
                f"systemd did not do its part within {self._timeout:g} s",
                "see whether PID 1 is busy: systemctl status, journalctl -u init.scope",
            ) from error


def _check(reply: Reply, subject: str) -> None:
    """Turn an error of the actuator's into one of ours."""
    if not reply.error:
        return
    if reply.error == TIMEOUT:
        raise UnavailableError("systemd.timeout", f"{subject}: PID 1 did not answer in time")
    code = "systemd.unavailable" if reply.error == DISCONNECTED else "systemd.refused"
    raise UnavailableError(code, f"{subject}: systemd says: {reply.message}")
