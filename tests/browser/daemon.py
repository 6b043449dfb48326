"""The daemon's API on a Unix socket over a machine on which users are at work.

``python -m tests.browser.daemon SOCKET``: the real API, policy, book and admission; what the slices
use is written down here. Commands come as lines of JSON on standard input, each is answered by one.
"""

from __future__ import annotations

import asyncio
import json
import math
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from enforcer.api.connections import Bounds
from enforcer.api.server import Finishing, Server, api_app
from enforcer.model import (
    Claim,
    EndReason,
    Lease,
    LeaseState,
    Limits,
    Receipt,
    Repair,
    ReportDrift,
    Usage,
)
from enforcer.names import ROOT, WORKLOAD, UnitName, ancestors, profile_slice
from enforcer.quantities import CORE, GIB, MIB, Bytes, Cpus
from tests.apiserver import ROOT as ROOT_UID
from tests.apiserver import ApiUnderTest
from tests.browser.loads import CONFIG, HOSTILE, Load, Work, growing, throttled, wave
from tests.unit.configs import parse

TICK_SECONDS: Final = 1.0
_PAST_SECONDS: Final = 900
_PAST_STEP: Final = 2.0
_CONTAINER_SECONDS: Final = 0.7


class Play:
    """Users at work, tick by tick."""

    def __init__(self, api: ApiUnderTest) -> None:
        self.api = api
        self.operations = api.operations
        self.began = time.time() - _PAST_SECONDS
        self.operations.clock.jump(self.began - self.operations.clock.now())
        self.loads: dict[tuple[str, str], Load] = {
            ("bob", ""): throttled,
            ("carol", "gpu"): growing(self.began),
            ("dave", ""): wave(1.1, 0.8, 5.0),
            ("erin", ""): throttled,
            (HOSTILE, ""): wave(0.5, 0.4, 2.0),
        }
        self.usage: dict[UnitName, Usage] = {}

    async def begin(self) -> None:
        """Let a quarter of an hour pass."""
        self._profile_limits()
        for user, server, profile in (
            ("bob", "", "Large"),
            ("carol", "gpu", "Small"),
            ("dave", "", "Small"),
            ("erin", "", "Large"),
            (HOSTILE, "", "Small"),
        ):
            lease, _ = await self.operations.claim(
                Claim(user=user, server=server, profile=profile, mem_guarantee=Bytes(2 * GIB))
            )
            self.operations.bind(lease.id, f"{user[:8]}-container")
        await self.operations.claim(
            Claim(user="frank", profile="Whole", cpu_guarantee=Cpus(30 * CORE))
        )
        for _ in range(int(_PAST_SECONDS / _PAST_STEP)):
            self.pass_time(_PAST_STEP)
        self.operations.clock.jump(time.time() - self.operations.clock.now())
        self._receipts()
        self.operations.repairs = (
            Repair(
                at=time.time() - 320,
                subject="docker-4fa.scope",
                what="memory_max",
                found="max",
                wanted="8 GiB",
                seconds=0.006,
            ),
        )
        self.operations.open_drift = (
            ReportDrift(
                what="container-outside",
                subject="rogue",
                message=f"container rogue of {HOSTILE} runs outside jupyter.slice",
                command="docker stop rogue",
            ),
        )

    def pass_time(self, seconds: float) -> None:
        """Have everybody use what they use for so long, and tick."""
        operations = self.operations
        at = operations.clock.now() + seconds
        totals: dict[UnitName, Usage] = {}
        for lease in operations.book.live:
            if lease.state is not LeaseState.BOUND:
                continue
            load = self.loads.get((lease.user, lease.server), wave(0.4, 0.3, 0.5, 60))
            self._use(lease, load(at), seconds)
            for unit in (lease.unit, *ancestors(lease.unit)):
                totals[unit] = _add(totals.get(unit, Usage()), self.usage[lease.unit])
            # how often its quota ran out is a level's own affair
            profile = profile_slice(lease.profile)
            totals[profile] = replace(
                totals[profile],
                periods=self.usage[profile].periods,
                periods_throttled=self.usage[profile].periods_throttled,
            )
        operations.usage = totals
        host = operations.host
        everything = totals.get(ROOT, Usage())
        before = self.usage.get(ROOT, everything)
        operations.host = replace(
            host,
            cpu_usec=host.cpu_usec
            + max(0, everything.cpu_usec - before.cpu_usec)
            + round(seconds * 0.6e6 * (1.5 + math.sin(at / 40))),
            memory_current=Bytes(everything.memory_current + 6 * GIB),
            cpu_pressure_usec=host.cpu_pressure_usec + round(seconds * 0.04e6),
        )
        self.usage[ROOT] = everything
        operations.tick(seconds)

    def _use(self, lease: Lease, work: Work, seconds: float) -> None:
        before = self.usage.get(lease.unit, Usage())
        memory = Bytes(min(lease.grant.mem_limit, int(work.memory)))
        periods = round(seconds * 10)
        used = min(work.cpu, lease.grant.cpu_limit / CORE)
        self.usage[lease.unit] = replace(
            before,
            cpu_usec=before.cpu_usec + round(used * seconds * 1e6),
            periods=before.periods + periods,
            memory_current=memory,
            memory_peak=Bytes(max(before.memory_peak, memory)),
            cpu_pressure_usec=before.cpu_pressure_usec + round(work.waiting * seconds * 1e6),
            tasks=12,
        )
        profile = profile_slice(lease.profile)
        then = self.usage.get(profile, Usage())
        self.usage[profile] = replace(
            then,
            periods=then.periods + periods,
            periods_throttled=then.periods_throttled + round(work.throttled * periods),
        )

    def _profile_limits(self) -> None:
        self.operations.limits = {
            profile_slice("Large"): Limits(cpu_quota=Cpus(16 * CORE), memory_max=Bytes(100 * GIB)),
            WORKLOAD: Limits(cpu_quota=Cpus(37 * CORE), memory_max=Bytes(118 * GIB)),
        }

    def oom(self, user: str, server: str = "") -> None:
        """Kill a server at its own limit: the lease ends, and leaves its receipt."""
        lease = self._lease(user, server)
        self.operations.end(lease.id, EndReason.OOM_LIMIT)
        self.operations.ended[-1] = replace(
            self.operations.ended[-1],
            memory_peak=lease.grant.mem_limit,
            oom_kills=1,
            cpu_seconds=812.4,
            throttled_seconds=31.0,
        )

    def kill_one(self, user: str, server: str = "") -> None:
        """Kill a process in a server that runs on."""
        unit = self._lease(user, server).unit
        now = self.usage[unit]
        self.usage[unit] = replace(
            now,
            oom_kills=now.oom_kills + 1,
            oom_events=now.oom_events + 1,
            oom_local=now.oom_local + 1,
        )

    def overload(self, user: str, server: str = "") -> None:
        """Have a server want more than its profile's quota has left from now on."""
        self.loads[user, server] = lambda _: Work(7.8, 21 * GIB, 0.38, 0.42)

    def _lease(self, user: str, server: str) -> Lease:
        return next(
            one for one in self.operations.book.live if (one.user, one.server) == (user, server)
        )

    def _receipts(self) -> None:
        bob = self._lease("bob", "")
        made = Receipt(
            lease_id="b" * 32,
            user="bob",
            server="",
            profile="Small",
            image="SingleUser",
            grant=replace(bob.grant, cpu_limit=Cpus(2 * CORE), mem_limit=Bytes(8 * GIB)),
            started_at=self.began - 5400,
            ended_at=self.began - 1200,
            reason=EndReason.OOM_LIMIT,
            cpu_seconds=3420.0,
            throttled_seconds=75.0,
            memory_peak=Bytes(8 * GIB),
            oom_kills=1,
            oom_kills_as_victim=0,
        )
        quiet = replace(
            made,
            lease_id="c" * 32,
            reason=EndReason.STOPPED,
            ended_at=self.began - 90000,
            started_at=self.began - 98000,
            memory_peak=Bytes(700 * MIB),
            oom_kills=0,
        )
        victim = replace(
            made,
            lease_id="d" * 32,
            user="erin",
            reason=EndReason.OOM_VICTIM,
            oom_kills=0,
            oom_kills_as_victim=2,
            memory_peak=Bytes(3 * GIB),
        )
        self.operations.ended = [quiet, victim, made, *self.operations.ended]

    async def live(self) -> None:
        """Go on, in real time; a placed lease gets its container a moment later."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = self.operations.clock.now()
            for lease in self.operations.book.live:
                young = now - lease.created_at < _CONTAINER_SECONDS
                if lease.state is LeaseState.PENDING and not young:
                    self.operations.bind(lease.id, f"{lease.id}-container")
            self.pass_time(time.time() - now)


def _add(one: Usage, other: Usage) -> Usage:
    """Return the sum of what is used; throttling belongs to the level itself."""
    return replace(
        one,
        cpu_usec=one.cpu_usec + other.cpu_usec,
        memory_current=Bytes(one.memory_current + other.memory_current),
        memory_peak=Bytes(one.memory_peak + other.memory_peak),
        cpu_pressure_usec=max(one.cpu_pressure_usec, other.cpu_pressure_usec),
        oom_kills=one.oom_kills + other.oom_kills,
        oom_events=one.oom_events + other.oom_events,
        oom_local=one.oom_local + other.oom_local,
        periods=other.periods,
        tasks=one.tasks + other.tasks,
    )


def listen(path: Path) -> socket.socket:
    """Listen on a Unix socket."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(128)
    return listener


async def serve(path: Path) -> None:
    """Serve until standard input ends."""
    api = ApiUnderTest(parse(CONFIG), path, Bounds())
    play = Play(api)
    await play.begin()
    await api.server.start(listen(path))
    living = asyncio.create_task(play.live())
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    _say("ready")
    while line := await reader.readline():
        words: dict[str, Any] = json.loads(line)
        match words.pop("do"):
            case "leave":
                await api.finishing.wait(0)
                await api.server.stop()
                await asyncio.to_thread(path.unlink, missing_ok=True)
            case "come_back":
                api.finishing = Finishing()
                api.server = Server(
                    api_app(api.api, api.peers, api.finishing), api.register, lambda _: ROOT_UID
                )
                await api.server.start(listen(path))
            case what:
                getattr(play, what)(**words)
                play.pass_time(0.01)
        _say("done")
    living.cancel()
    await api.server.stop()


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
