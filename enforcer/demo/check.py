"""`demo --check`: the same play by the clock, each promise compared with the kernel's own files."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from enforcer.api.types import LeaseReply, ReceiptReply
from enforcer.bootstrap import Console
from enforcer.client import Client
from enforcer.config import parse_config
from enforcer.demo import scenario
from enforcer.demo.promises import (
    WITHIN,
    Verdict,
    at_least,
    cpu_max,
    floors_add_up,
    same,
    undone,
    within,
)
from enforcer.demo.scenario import ADA, BOB, CAROL, DAVE, ERIN, mischief
from enforcer.demo.stage import Stage
from enforcer.errors import EnforcerError, UnavailableError
from enforcer.model import Capacity, Claim, Config
from enforcer.names import ADOPTED, ENGINE, ROOT, WORKLOAD, UnitName, profile_slice
from enforcer.quantities import CORE, GIB, Bytes, parse_bytes

MEASURED_SECONDS: Final = 10.0
SETTLED_SECONDS: Final = 10.0
_DIES_WITHIN_SECONDS: Final = 180.0
_TRIES: Final = 5
"""What goes by the clock is measured again when it was not kept: the computer that emulates the
machine may have been busy with something else just then. A broken promise is so every time."""
_LARGE: Final = profile_slice("Large")
_HUB_UNITS: Final = {
    "jupyterhub": "the hub",
    "jupyterhub-proxy": "its proxy",
    "enforcer-pages": "the service of its pages",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One run. Each scene goes on where the one before has left the stage."""

    stage: Stage
    client: Client
    config: Config
    console: Console

    def verdicts(self) -> Iterator[Verdict]:
        """Play every scene; its promises as they are checked."""
        scenes: tuple[tuple[str, Callable[[], Iterator[Verdict]]], ...] = (
            ("The machine, before anybody comes", self._the_machine),
            ("ada spins on two threads", self._own_limit),
            ("Somebody starts a container without asking", self._unasked),
            ("carol and dave want more than their profile has", self._profile_limit),
            ("bob takes memory until he is stopped", self._memory_limit),
            ("erin has guarantees, and all the others want the same CPU", self._guarantees),
            ("Somebody changes limits behind the daemon's back", self._drift),
            ("The daemon is stopped, and started again", self._without_daemon),
        )
        for number, (title, scene) in enumerate(scenes, start=1):
            with self.console.step(f"{number}/{len(scenes)} {title}"):
                yield from scene()

    def _the_machine(self) -> Iterator[Verdict]:
        stage, quota = self.stage, self.config.quota
        yield same(
            "the quota of all of Jupyter: cpu.max",
            cpu_max(quota.cpu / CORE),
            stage.kernel(ROOT, "cpu.max"),
        )
        yield same("its memory: memory.max", quota.memory, int(stage.kernel(ROOT, "memory.max")))
        dockerd, sshd = self._cgroup_of("dockerd"), self._cgroup_of("sshd")
        yield self._lies("dockerd runs in the engine's slice", ENGINE, dockerd)
        yield self._outside("sshd runs outside jupyter.slice", sshd)
        for unit, what in _HUB_UNITS.items():
            words = ["systemctl", "show", "--property=ControlGroup", "--value", unit]
            found = self.stage.guest.run(words).stdout.strip()
            yield self._outside(f"{what} runs outside jupyter.slice", found)
        yield self._hub()

    def _own_limit(self) -> Iterator[Verdict]:
        lease = self._place(ADA)
        limit = self.config.profiles[lease.profile].cpu_limit / CORE
        lies = self.stage.cgroup(self.stage.pid(ADA.container))
        yield self._lies("ada's container runs in her lease's leaf", lease.unit, lies)
        yield same("her limit: cpu.max", cpu_max(limit), self.stage.kernel(lease.unit, "cpu.max"))
        yield self._used_up("…and the cores she gets", limit, lease.unit)
        yield self._refused(Claim(user="ada", profile="Guaranteed"))

    def _unasked(self) -> Iterator[Verdict]:
        self.stage.guest.run(
            ["docker", "run", "-d", "--name", "stray", "enforcer-demo", "sleep", "600"],
            timeout_seconds=60,
        )
        lies = self.stage.cgroup(self.stage.pid("stray"))
        yield self._lies("a container nobody asked us for lies apart", ADOPTED, lies)
        self.stage.docker("rm", "--force", "stray")

    def _profile_limit(self) -> Iterator[Verdict]:
        self._place(CAROL)
        self._place(DAVE)
        total = (self.config.profiles["Large"].cpu_total or 0) / CORE
        yield same(
            "profile Large together: cpu.max", cpu_max(total), self.stage.kernel(_LARGE, "cpu.max")
        )
        yield self._used_up("…and the cores they get, wanting five", total, _LARGE)

    def _memory_limit(self) -> Iterator[Verdict]:
        lease = self._place(BOB)
        limit = self.config.profiles[lease.profile].mem_limit
        yield same(
            "bob's limit: memory.max", limit, int(self.stage.kernel(lease.unit, "memory.max"))
        )
        receipt = self._receipt(lease)
        yield Verdict(
            promise="bob is killed at it; his receipt says so",
            asked=f"oom-limit, peak ≤ {limit >> 20}M",
            found=f"{receipt.reason}: {receipt.oom_kills}, peak {receipt.memory_peak >> 20}M",
            kept=receipt.reason == "oom-limit"
            and receipt.oom_kills > 0
            and receipt.memory_peak <= limit,
        )
        yield same("nobody else is killed", receipt.oom_kills, self._killed())

    def _guarantees(self) -> Iterator[Verdict]:
        lease = self._place(ERIN)
        yield floors_add_up(self._floors(), UnitName(lease.unit), lease.mem_guarantee)
        asked = lease.placement.oom_score_adj if lease.placement else 0
        adjusted = int(
            self.stage.guest.read(f"/proc/{self.stage.pid(ERIN.container)}/oom_score_adj")
        )
        yield Verdict(
            promise="the kernel rather kills others: oom_score_adj",
            asked=f"{asked}",
            found=f"{adjusted}",
            kept=adjusted == asked < 0,
        )
        time.sleep(SETTLED_SECONDS)
        yield from self._contended(lease)
        swapped, memory = (
            int(self.stage.kernel(lease.unit, f"memory.{one}current")) for one in ("swap.", "")
        )
        yield Verdict(
            promise="her working set of 240M stays in memory",
            asked="≥ 240M, 0 swapped",
            found=f"{memory >> 20}M, {swapped >> 20}M swapped",
            kept=memory >= 240 << 20 and swapped == 0,
        )

    def _drift(self) -> Iterator[Verdict]:
        lease = self.client.leases(ERIN.user)[0]
        scope = self.stage.cgroup(self.stage.pid(ERIN.container))
        for change in mischief(UnitName(lease.unit), scope, ERIN.container):
            yield self._undone(change)

    def _without_daemon(self) -> Iterator[Verdict]:
        before = {lease.id: lease for lease in self.client.leases()}
        self.stage.guest.run("systemctl stop enforcer.service enforcer.socket")
        limits = {lease.unit: self._limits(lease) for lease in before.values()}
        wanted = {
            lease.unit: (cpu_max(lease.cpu_limit), f"{lease.mem_limit}", f"{lease.mem_guarantee}")
            for lease in before.values()
        }
        wrong = [unit for unit, found in limits.items() if found != wanted[unit]]
        yield Verdict(
            promise="limits and guarantees hold while the daemon is stopped",
            asked=f"{len(wanted)} leases as promised",
            found=f"{wrong[0]} has {limits[wrong[0]]}" if wrong else f"{len(limits)} as promised",
            kept=not wrong and len(before) == 4,
        )
        self.stage.guest.run("systemctl start enforcer.socket enforcer.service")
        after = {lease.id for lease in self.client.leases()}
        yield same("started again, it knows every lease", len(before), len(after & before.keys()))
        yield self._metrics()

    # --- questions ---

    def _place(self, part: scenario.Part) -> LeaseReply:
        return self.stage.place(self.client, part)

    def _used_up(self, promise: str, cores: float, unit: str) -> Verdict:
        left = _TRIES
        while True:
            left -= 1
            used = self.stage.cpu(MEASURED_SECONDS, [unit])[unit]
            verdict = within(promise, cores, used)
            # too much is not measured away
            if verdict.kept or used > cores * (1 + WITHIN) or not left:
                return _told(verdict, left)

    def _contended(self, lease: LeaseReply) -> tuple[Verdict, Verdict]:
        """Measure both in the same seconds: what one has, the others have not."""
        quota = self.client.status().machine.workload.cpu
        left = _TRIES
        while True:
            left -= 1
            used = self.stage.cpu(MEASURED_SECONDS, [lease.unit, WORKLOAD])
            hers = at_least(
                "erin's guaranteed CPU, while all want it", lease.cpu_guarantee, used[lease.unit]
            )
            together = self._shared(quota, used[WORKLOAD])
            too_much = used[WORKLOAD] > quota * (1 + WITHIN)
            if (hers.kept and together.kept) or too_much or not left:
                return _told(hers, left), _told(together, left)

    def _undone(self, change: scenario.Mischief) -> Verdict:
        left = _TRIES
        while True:
            left -= 1
            change_seconds = self.stage.set_property_seconds()
            found = self.stage.drift(change)
            verdict = undone(
                change.name,
                found["wanted"],
                found["found"],
                found["seconds"],
                back=found["undone"],
                change_seconds=change_seconds,
            )
            if verdict.kept or not left:
                return _told(verdict, left)

    def _cgroup_of(self, program: str) -> str:
        found = self.stage.guest.run(["pgrep", "--oldest", "--exact", program])
        return self.stage.cgroup(int(found.stdout.strip()))

    def _limits(self, lease: LeaseReply) -> tuple[str, str, str]:
        read = self.stage.kernel
        return (
            read(lease.unit, "cpu.max"),
            read(lease.unit, "memory.max"),
            read(lease.unit, "memory.min"),
        )

    def _floors(self) -> list[tuple[UnitName, int]]:
        slices = self.client.slices().slices
        return [
            (UnitName(one.unit), int(self.stage.kernel(one.unit, "memory.min"))) for one in slices
        ]

    def _killed(self) -> int:
        """Return how many processes were killed in all of Jupyter."""
        events = dict(
            line.split() for line in self.stage.kernel(ROOT, "memory.events").splitlines()
        )
        return int(events["oom_kill"])

    def _receipt(self, lease: LeaseReply) -> ReceiptReply:
        """Wait for the receipt of a lease whose container is about to be killed."""
        self.stage.guest.run(
            ["docker", "wait", BOB.container], timeout_seconds=_DIES_WITHIN_SECONDS, check=False
        )
        for _ in range(30):
            for receipt in self.client.receipts(BOB.user, 10):
                if receipt.lease_id == lease.id:
                    return receipt
            time.sleep(1)
        raise UnavailableError("demo.no-receipt", "bob's lease has left no receipt")

    def _refused(self, claim: Claim) -> Verdict:
        try:
            lease = self.client.claim(claim)
        except EnforcerError as error:
            found, kept = error.code, True
        else:
            found, kept = f"a lease of {lease.profile}", False
        return Verdict(
            promise=f"a profile that {claim.user} may not use is refused",
            asked="an error",
            found=found,
            kept=kept,
        )

    def _shared(self, quota: float, used: float) -> Verdict:
        return Verdict(
            promise="all containers together: no more than their quota, and hardly less",
            asked=f"{quota * 0.95:.3f} to {quota * (1 + WITHIN):.3f}",
            found=f"{used:.3f}",
            kept=quota * 0.95 <= used <= quota * (1 + WITHIN),
        )

    @staticmethod
    def _outside(promise: str, cgroup: str) -> Verdict:
        return Verdict(
            promise=promise,
            asked="elsewhere",
            found=cgroup,
            kept=bool(cgroup) and ROOT not in cgroup,
        )

    def _hub(self) -> Verdict:
        address = f"http://127.0.0.1:{self.stage.hub_port}/hub/login"
        with urllib.request.urlopen(address, timeout=60) as answer:
            text = answer.read().decode()
        return Verdict(
            promise="the hub shows its login page",
            asked="a form",
            found="a form" if "<form" in text else f"{text[:30]}…",
            kept="<form" in text,
        )

    def _lies(self, promise: str, unit: str, cgroup: str) -> Verdict:
        found = next((part for part in reversed(cgroup.split("/")) if part.endswith(".slice")), "")
        return Verdict(promise=promise, asked=unit, found=found or cgroup, kept=found == unit)

    def _metrics(self) -> Verdict:
        address = f"http://127.0.0.1:{self.stage.metrics_port}/metrics"
        with urllib.request.urlopen(address, timeout=20) as answer:
            text = answer.read().decode()
        lines = [line for line in text.splitlines() if line.startswith("enforcer_lease_")]
        hers = [line for line in lines if 'user="erin"' in line]
        return Verdict(
            promise="the metrics answer, and tell of erin",
            asked="series of her lease",
            found=f"{len(hers)} of {len(lines)} series",
            kept=bool(hers),
        )


def _told(verdict: Verdict, left: int) -> Verdict:
    """Say so where it was not the first time. left: how many more there might have been."""
    tried = _TRIES - left
    if tried == 1:
        return verdict
    return replace(verdict, found=f"{verdict.found} (measured {tried} times)")


def load_config(text: str, memory: int) -> Config:
    """Read the demo's configuration as the guest's daemon does; memory: the guest's, in bytes."""
    capacity = Capacity(cores=2, memory=Bytes(memory), swap=Bytes(2 * GIB))
    return parse_config(text, capacity)


def guest_memory(meminfo: str) -> Bytes:
    """Read the guest's memory off its /proc/meminfo."""
    first = meminfo.splitlines()[0].split()
    return parse_bytes(f"{first[1]} KiB")
