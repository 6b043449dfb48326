"""Carries out what was decided. Decides nothing."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from enforcer.controller.world import World
from enforcer.errors import UnavailableError
from enforcer.model import (
    Action,
    Cause,
    Container,
    ContainerLimits,
    CreateSlice,
    Deferred,
    Desired,
    Limits,
    Observed,
    RemoveSlice,
    Repair,
    RepairTimes,
    ReportDrift,
    SetLimits,
    SetOomScoreAdj,
    UpdateContainer,
)
from enforcer.names import UnitName
from enforcer.ports import SliceSpec
from enforcer.quantities import CORE, format_bytes, format_cpus
from enforcer.reconcile import differing, differing_limits

_log = logging.getLogger(__name__)

_REPAIRS_KEPT = 200
_SYSTEMD_REST_SECONDS = 5.0
"""After PID 1 did not answer, it is left in peace this long; the kernel holds what is set."""
_MEMORY = frozenset({"memory", "swap", "memory_min", "memory_high", "memory_max", "swap_max"})
_CPU = frozenset({"cpu", "cpu_quota"})
_NO_ANSWER = frozenset({"systemd.timeout", "systemd.unavailable"})
"""Another error is about one unit, and must not keep the others from what they need."""


class Actor:
    """Acts on systemd, Docker and the kernel, and keeps account of it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rest_until = float("-inf")
        self._updates: dict[str, list[asyncio.Task[None]]] = {}
        self._reported: set[tuple[str, str]] = set()
        self._reported_now: set[tuple[str, str]] = set()
        self.known: dict[UnitName, Limits] = {}
        """What we gave each slice last: what differs from that is somebody else's doing."""
        self.known_containers: dict[str, ContainerLimits] = {}
        """The same for containers."""
        self.repairs: deque[Repair] = deque(maxlen=_REPAIRS_KEPT)
        self.repair_times = RepairTimes()
        self.counters: Counter[tuple[str, ...]] = Counter()
        self.systemd_ok = True

    def hear(self, answered: bool) -> None:  # noqa: FBT001  # a callback's only word
        """Note whether PID 1 has answered somebody else."""
        self.systemd_ok = answered

    @property
    def rests(self) -> bool:
        """PID 1 did not answer a moment ago."""
        return self._world.clock.monotonic() < self._rest_until

    async def carry_out(self, actions: Iterable[Action], observed: Observed) -> None:
        """Do each in turn. What PID 1 does not do now is decided anew at the next tick."""
        self._reported_now = set()
        for action in actions:
            try:
                await self._one(action, observed)
            except UnavailableError as error:
                self.counters["action", "failed"] += 1
                _log.warning("%s: %s", type(action).__name__, error)
                if self._is_silence(error):
                    self._rest_until = self._world.clock.monotonic() + _SYSTEMD_REST_SECONDS
        self._reported = self._reported_now

    async def place(self, actions: Sequence[Action], observed: Observed) -> None:
        """Do all of these or say that it cannot be done.

        All at once, for somebody waits for it: PID 1 takes them one by one, and each is seen in
        the kernel while it is at the next. What is new first: PID 1 answers, and makes it later.

        Raises:
            UnavailableError: PID 1 did not answer, or did not do it.
        """
        sets = [self._set(one, observed) for one in actions if isinstance(one, SetLimits)]
        ends = await asyncio.gather(self._create_all(actions), *sets, return_exceptions=True)
        for error in ends:
            if isinstance(error, UnavailableError):
                self._is_silence(error)  # the next claim is tried all the same
            if isinstance(error, BaseException):
                raise error

    async def _create_all(self, actions: Sequence[Action]) -> None:
        """Make new slices, parents first: made after what is in it, a slice would be there."""
        for action in actions:
            if isinstance(action, CreateSlice):
                await self._create(action)

    def learn(self, desired: Desired, eased: Desired, observed: Observed) -> None:
        """Take what is as it ought to be for what we set: after a start, nothing else is known.

        eased: as it ought to be for now. Where nothing is known yet, that counts as much.
        """
        for unit, one in desired.slices.items():
            cgroup = observed.cgroups.get(unit)
            if cgroup is None:
                continue
            if not differing_limits(one.limits, cgroup.limits):
                self.known[unit] = one.limits
            elif unit not in self.known:
                for_now = eased.slices[unit].limits
                if not differing_limits(for_now, cgroup.limits):
                    self.known[unit] = for_now
        for gone_unit in self.known.keys() - observed.cgroups.keys() - desired.slices.keys():
            del self.known[gone_unit]
        if observed.containers is not None:  # while Docker is silent, they may all be there
            self._learn_containers(desired, eased, observed.containers)

    def _learn_containers(
        self, desired: Desired, eased: Desired, there: Mapping[str, Container]
    ) -> None:
        for container_id, wish in desired.containers.items():
            container = there.get(container_id)
            kernel = None if container is None else container.kernel
            if kernel is None:
                continue
            if not differing(wish.limits, kernel):
                self.known_containers[container_id] = wish.limits
            elif container_id not in self.known_containers:
                for_now = eased.containers[container_id].limits
                if not differing(for_now, kernel):
                    self.known_containers[container_id] = for_now
        for gone in self.known_containers.keys() - there.keys():
            del self.known_containers[gone]

    def recall(self, deferred: Iterable[Deferred]) -> None:
        """Take for what we set of a limit that waits what was given before, maybe before a start.

        The kernel has more where somebody else raised it.
        """
        for one in deferred:
            unit = UnitName(one.subject)
            known = self.known.get(unit)
            if known is None or one.given is None:
                continue
            if one.limit == "memory_max":
                self.known[unit] = replace(known, memory_max=one.given)
            else:
                self.known[unit] = replace(known, swap_max=one.given)

    async def close(self) -> None:
        """Give up the calls to Docker that are still under way."""
        tasks = [task for under_way in self._updates.values() for task in under_way]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, action: Action, observed: Observed) -> None:
        match action:
            case CreateSlice() | SetLimits() | RemoveSlice() if self.rests:
                return
            case CreateSlice():
                await self._create(action)
            case SetLimits():
                await self._set(action, observed)
            case RemoveSlice():
                await self._remove(action)
            case UpdateContainer():
                self._update(action, observed)
            case SetOomScoreAdj():
                written = self._world.kernel.set_oom_score_adj(action.scope, action.value)
                _log.info("oom_score_adj %d for %d processes", action.value, written)
            case ReportDrift():
                self._report(action)
                return
        self.counters["action", action.cause] += 1

    def _is_silence(self, error: UnavailableError) -> bool:
        """Tell whether PID 1 did not answer, and note it if so."""
        silent = error.code in _NO_ANSWER
        self.systemd_ok = self.systemd_ok and not silent
        return silent

    async def _create(self, action: CreateSlice) -> None:
        await self._world.systemd.create_slice(
            SliceSpec(
                unit=action.unit,
                limits=action.limits,
                description=action.description,
                lasting=action.lasting,
            )
        )
        self.systemd_ok = True
        self.known[action.unit] = action.limits

    async def _set(self, action: SetLimits, observed: Observed) -> None:
        there = await self._world.systemd.set_limits(
            action.unit, action.limits, action.fields, lasting=action.lasting
        )
        self.systemd_ok = True
        if there:
            # what is not known yet was found as it is
            before = self.known.get(action.unit) or observed.cgroups[action.unit].limits
            given = {name: getattr(action.limits, name) for name in action.fields}
            self.known[action.unit] = replace(before, **given)
        self._verify(action, observed)

    async def _remove(self, action: RemoveSlice) -> None:
        # Stopping a slice kills what runs in it, so it is looked at once more.
        cgroup = self._world.kernel.slice(action.unit)
        if cgroup is None or cgroup.populated:
            return
        await self._world.systemd.stop_slice(action.unit)
        self.known.pop(action.unit, None)
        _log.info("removed an empty slice", extra={"unit": action.unit})

    def _verify(self, action: SetLimits, observed: Observed) -> None:
        """Record a repair once the kernel itself shows it."""
        if action.cause is not Cause.DRIFT:
            return
        before, after = observed.cgroups.get(action.unit), self._world.kernel.slice(action.unit)
        if before is None or after is None:  # gone meanwhile
            return
        since = observed.drift_seen_at.get(action.unit, observed.taken_at)
        seconds = self._world.clock.monotonic() - since
        if action.unit in observed.unlasting:
            self._record(action.unit, "on disk", "nothing", "all", seconds)
        for field in action.fields:
            found, wanted = getattr(before.limits, field), getattr(action.limits, field)
            if found == wanted:
                continue  # set anew because it was not on disk
            mended = getattr(after.limits, field) == wanted
            self._record(action.unit, field, found, wanted, seconds if mended else None)

    def _report(self, action: ReportDrift) -> None:
        """Tell the operator once, and again after it was mended and came back."""
        key = (action.what, action.subject)
        if key not in self._reported:
            self.counters["drift", action.what] += 1
            mend = f"; to mend it: {action.command}" if action.command else ""
            _log.warning("%s%s", action.message, mend)
        self._reported_now.add(key)

    def _update(self, action: UpdateContainer, observed: Observed) -> None:
        """Docker may take long or hang: nobody waits for it, and there is one call at a time.

        But drift that comes during a call is undone at once all the same, and told to Docker next.
        So is what was never as it ought to be: until then such a container has what it likes.
        """
        under_way = self._updates.setdefault(action.container_id, [])
        at_once = action.cause is Cause.DRIFT or action.container_id not in self.known_containers
        if len(under_way) > at_once:
            return
        before = under_way[0] if under_way else None
        task = asyncio.create_task(self._update_now(action, observed, before, at_once=at_once))
        under_way.append(task)

        def over(ended: asyncio.Task[None]) -> None:
            under_way.remove(ended)
            if not under_way:
                del self._updates[action.container_id]

        task.add_done_callback(over)

    async def _update_now(
        self,
        action: UpdateContainer,
        observed: Observed,
        before: asyncio.Task[None] | None,
        *,
        at_once: bool,
    ) -> None:
        container = (observed.containers or {}).get(action.container_id)
        kernel = None if container is None else container.kernel
        wrong = () if kernel is None else differing(action.limits, kernel)
        # a list of all CPUs is what mends another one; where there is none, none is made
        limits = action.limits if "cpus" in wrong else replace(action.limits, cpus="")
        mended_at = await self._mend_at_once(container, limits) if at_once else None
        if before is not None:
            await asyncio.wait({before})
        try:
            there = await self._world.docker.update(action.container_id, limits)
        except UnavailableError as error:
            self.counters["action", "failed"] += 1
            _log.warning("cannot mend container %s: %s", action.container_id[:12], error)
            return
        if there:
            self.known_containers[action.container_id] = action.limits
        if not there or container is None or action.cause is not Cause.DRIFT:
            return
        since = observed.drift_seen_at.get(UnitName(container.cgroup_parent), observed.taken_at)
        seconds = (mended_at or self._world.clock.monotonic()) - since
        subject = f"container {container.name or container.id[:12]}"
        for field in wrong:
            found, wanted = getattr(kernel, field), getattr(limits, field)
            self._record(subject, field, found, wanted, seconds)

    async def _mend_at_once(
        self, container: Container | None, limits: ContainerLimits
    ) -> float | None:
        """Have PID 1 set what Docker will be told to set: that takes Docker a second or more.

        And what Docker has no word for. Returns when that was done (monotonic seconds); None where
        it was not.
        """
        if container is None or container.scope is None:
            return None
        try:
            if self.rests or not await self._world.systemd.set_scope_limits(
                container.scope, limits
            ):
                return None
        except UnavailableError as error:
            _log.debug("container %s waits for Docker: %s", container.id[:12], error)
            return None
        return self._world.clock.monotonic()

    def _record(
        self, subject: str, what: str, found: object, wanted: object, seconds: float | None
    ) -> None:
        self.counters["drift", what] += 1
        if seconds is not None:
            self.repair_times = self.repair_times.with_one(seconds)
        found, wanted = _words(what, found, wanted)
        self.repairs.append(
            Repair(
                at=self._world.clock.now(),
                subject=subject,
                what=what,
                found=found,
                wanted=wanted,
                seconds=seconds,
            )
        )
        _log.warning(
            "drift: %s was %s, is %s again"
            if seconds is not None
            else "drift: %s stays %s, not %s",
            what,
            found,
            wanted,
            extra={"unit": subject, "seconds": seconds},
        )


def _words(field: str, found: object, wanted: object) -> tuple[str, str]:
    """Say what a limit was and is to be as people read it; exactly, where that looks the same."""
    said = _said(field, found), _said(field, wanted)
    return said if said[0] != said[1] else (str(found), str(wanted))


def _said(field: str, value: object) -> str:
    if value is None:
        return "no limit"
    if field in _MEMORY and isinstance(value, int):
        return format_bytes(value)
    if field in _CPU and isinstance(value, int):
        return f"{format_cpus(value)} {'core' if value == CORE else 'cores'}"
    return str(value) or "all"
