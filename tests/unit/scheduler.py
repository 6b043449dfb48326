"""A machine on paper: the kernel's CPU scheduler as a fluid, with weights, threads and quotas.

Work-conserving and fair at every level of the tree: what a child cannot use goes to the others in
proportion to their weights. A quota is an amount per period of 100 ms; a level whose amount is
used up stops, with everything below it, until the period ends. A leaf runs on no more CPUs than it
has threads. That is all it takes for the trap: under a quota Q on C CPUs that runs out, T threads
get at most T·Q/C, whatever their weight.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from enforcer.model import Cgroup, Config, HostUsage, Lease, Limits, Observed, Usage
from enforcer.names import ROOT, UnitName, ancestors, parent
from enforcer.quantities import CORE, Cpus
from enforcer.shares import CALM, Contention, caps, hurried, pressed_for, weights
from enforcer.tree import cpu_tree

PERIOD = 0.1
TICK = 2.0
_PERIODS = round(TICK / PERIOD)
_HOST = UnitName("host")
_NOTHING = 1e-9


def always(_: int) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Load:
    """What runs in a leaf: threads that want the CPU for `duty` of each period while awake."""

    threads: int
    duty: float = 1.0
    awake: Callable[[int], bool] = always
    """Whether they are, by the number of the period."""

    @property
    def cores(self) -> float:
        """What it wants while awake."""
        return self.threads * self.duty


@dataclass(slots=True)
class Counters:
    """What the kernel counts for one slice."""

    cpu: float = 0.0
    waited: float = 0.0
    throttled_periods: int = 0


@dataclass(slots=True)
class Machine:
    """C CPUs, a tree of slices, and a host beside it."""

    cores: int
    weight: Mapping[UnitName, int]
    loads: Mapping[UnitName, Load]
    host: Load = Load(0)
    counters: dict[UnitName, Counters] = field(default_factory=lambda: defaultdict(Counters))
    period: int = 0

    def run(self, quotas: Mapping[UnitName, Cpus], periods: int = _PERIODS) -> None:
        """Run one tick."""
        if all(load.awake is always for load in self.loads.values()):
            self._run_period(quotas, times=periods)
            self.period += periods
            return
        for _ in range(periods):
            self._run_period(quotas, times=1)
            self.period += 1

    def _run_period(self, quotas: Mapping[UnitName, Cpus], times: int) -> None:
        left = {unit: quota / CORE * PERIOD for unit, quota in quotas.items()}
        loads = {
            unit: load
            for unit, load in self.loads.items()
            if load.awake(self.period) and load.cores
        }
        work = {unit: load.cores * PERIOD for unit, load in loads.items()}
        work[_HOST] = self.host.cores * PERIOD
        time = 0.0
        while time < PERIOD - _NOTHING:
            stopped = {unit for unit, amount in left.items() if amount <= _NOTHING}
            running = [
                unit
                for unit, amount in work.items()
                if amount > _NOTHING and stopped.isdisjoint(_path(unit))
            ]
            rates = self._rates(running)
            flows = _flows(rates)
            spans = [PERIOD - time]
            spans += [
                left[unit] / flow for unit, flow in flows.items() if unit in left and flow > 0
            ]
            spans += [work[unit] / rate for unit, rate in rates.items() if rate > 0]
            span = min(spans)
            time += span
            for unit, flow in flows.items():
                self.counters[unit].cpu += flow * span * times
                if unit in left:
                    left[unit] -= flow * span
            for unit, amount in work.items():
                if amount > _NOTHING:
                    threads = self.host.threads if unit == _HOST else loads[unit].threads
                    waiting = min(1.0, max(0.0, threads - rates.get(unit, 0.0)))
                    self.counters[unit].waited += waiting * span * times
                work[unit] = amount - rates.get(unit, 0.0) * span
        hungry = {
            above for unit, amount in work.items() if amount > _NOTHING for above in _path(unit)
        }
        for unit, amount in left.items():
            if amount <= _NOTHING and unit in hungry:
                self.counters[unit].throttled_periods += times

    def _rates(self, running: Sequence[UnitName]) -> Mapping[UnitName, float]:
        """Share the CPUs out among the leaves that run, from the root down."""
        most: dict[UnitName, float] = defaultdict(float)
        children: dict[UnitName, list[UnitName]] = defaultdict(list)
        top: list[UnitName] = []
        for leaf in running:
            threads = self.host.threads if leaf == _HOST else self.loads[leaf].threads
            for unit in _path(leaf):
                if unit not in most:
                    above = parent(unit) if unit != _HOST else None
                    (top if above is None else children[above]).append(unit)
                most[unit] += threads
        rates: dict[UnitName, float] = {}
        todo = [(top, float(self.cores))]
        while todo:
            units, amount = todo.pop()
            for unit, part in self._split(units, amount, most).items():
                if unit in children:
                    todo.append((children[unit], part))
                else:
                    rates[unit] = part
        return rates

    def _split(
        self, units: Sequence[UnitName], amount: float, most: Mapping[UnitName, float]
    ) -> Mapping[UnitName, float]:
        weight = {unit: self.weight[unit] if unit != _HOST else 100 for unit in units}
        total = sum(weight.values())
        parts: dict[UnitName, float] = {}
        for unit in sorted(units, key=lambda one: most[one] / weight[one]):
            parts[unit] = min(most[unit], amount * weight[unit] / total)
            amount -= parts[unit]
            total -= weight[unit]
        return parts


def snapshot(machine: Machine, quotas: Mapping[UnitName, Cpus], at: float) -> Observed:
    """Return what an observer sees."""
    used = machine.counters[_HOST].cpu + machine.counters[ROOT].cpu
    return Observed(
        taken_at=at,
        at=at,
        cgroups={
            unit: Cgroup(
                unit=unit,
                limits=Limits(cpu_quota=quotas.get(unit)),
                usage=_usage(machine.counters[unit], at),
                populated=True,
            )
            for unit in machine.weight
        },
        containers={},
        host=HostUsage(
            cpu_usec=round(used * CORE),
            idle_usec=round((machine.cores * at - used) * CORE),
            waiting_usec=round(machine.counters[_HOST].waited * CORE),
        ),
    )


def machine_for(
    config: Config,
    leases: Sequence[Lease],
    loads: Mapping[UnitName, Load],
    host: Load = Load(0),
) -> tuple[Machine, Mapping[UnitName, Cpus]]:
    """Return the machine and its quotas without any cap."""
    tree = cpu_tree(config, leases)
    quotas = {
        unit: level.limit
        for unit, level in tree.items()
        if not (unit == ROOT and config.quota.whole_cores)
    }
    cores = config.capacity.cores
    weight = _weights(config, leases, loads)
    return Machine(cores=cores, weight=weight, loads=loads, host=host), quotas


def _weights(
    config: Config,
    leases: Sequence[Lease],
    loads: Iterable[UnitName],
    contention: Contention = CALM,
) -> Mapping[UnitName, int]:
    competing = [unit for unit in loads if unit.count("-") == 2]
    return weights(config, leases, competing, {"host": 100}, contention)


def _usage(counters: Counters, at: float) -> Usage:
    return Usage(
        cpu_usec=round(counters.cpu * CORE),
        cpu_pressure_usec=round(counters.waited * CORE),
        periods=round(at / PERIOD),
        periods_throttled=counters.throttled_periods,
    )


def _path(unit: UnitName) -> tuple[UnitName, ...]:
    return (unit,) if unit == _HOST else (unit, *ancestors(unit))


def _flows(rates: Mapping[UnitName, float]) -> Mapping[UnitName, float]:
    flows: dict[UnitName, float] = defaultdict(float)
    for leaf, rate in rates.items():
        for unit in _path(leaf):
            flows[unit] += rate
    return flows


@dataclass(frozen=True, slots=True)
class Tick:
    """What one tick came to: cores used by unit, and the caps that held in it."""

    used: Mapping[UnitName, float]
    caps: Mapping[UnitName, Cpus]


def simulate(
    config: Config,
    leases: Sequence[Lease],
    loads: Mapping[UnitName, Load],
    ticks: int,
    *,
    host: Load = Load(0),
    enforced: bool = True,
) -> Sequence[Tick]:
    """Run a machine with the daemon's decisions, each from the two snapshots before it."""
    machine, limits = machine_for(config, leases, loads, host)
    now = snapshot(machine, limits, 0.0)
    contention = CALM
    history = []
    for tick in range(1, ticks + 1):
        quotas = {
            unit: min(limit, contention.caps.get(unit, limit)) for unit, limit in limits.items()
        }
        machine.weight = _weights(config, leases, loads, contention)
        machine.run(quotas)
        previous, now = now, snapshot(machine, quotas, tick * TICK)
        used = {
            unit: (now.cgroups[unit].usage.cpu_usec - one.usage.cpu_usec) / CORE / TICK
            for unit, one in previous.cgroups.items()
        }
        history.append(Tick(used=used, caps=contention.caps))
        if enforced:
            contention = Contention(
                caps=caps(config, leases, previous, now, contention.caps),
                hurried=hurried(config, leases, previous, now, contention.hurried),
                pressed_for=pressed_for(config, leases, previous, now, contention.pressed_for),
            )
    return history
