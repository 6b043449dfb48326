"""The metrics of the machine, of the daemon itself, and of what it decided and did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from enforcer import __version__
from enforcer.metrics.slices import printable
from enforcer.model import LeaseState, Published
from enforcer.names import WORKLOAD
from enforcer.places import other_containers, promised_below
from enforcer.quantities import CORE
from enforcer.room import NOTHING, Amount, workload

_COUNTERS: Final = {
    "admission": ("enforcer_admission_decisions", "Claims decided, by outcome.", "outcome"),
    "drift": ("enforcer_drift_found", "Drift found, by what had drifted.", "field"),
    "action": ("enforcer_actions", "Actions taken, by cause.", "cause"),
}


def machine_metrics(published: Published) -> Iterable[Metric]:
    """Yield what there is, what is promised, what is used."""
    config = published.config
    containers = other_containers(published) + sum(lease.live for lease in published.leases)
    capacity = Amount(config.capacity.cpus, config.capacity.memory)
    allocatable = Amount(config.quota.cpu, config.quota.memory)
    may_use = workload(config, containers).whole()
    promised = promised_below(published.leases).get(WORKLOAD, NOTHING)
    amounts = {
        "capacity": ("What the machine has.", capacity),
        "reserved": ("What is kept for the host.", capacity - allocatable),
        "allocatable": ("What dockerd and all containers may use.", allocatable),
        "workload": ("What all containers may use.", may_use),
        "promised": ("What is guaranteed to leases.", promised),
        "free": ("What can still be guaranteed.", (may_use - promised).whole()),
    }
    for name, (about, amount) in amounts.items():
        yield _gauge(f"enforcer_{name}_cpu_cores", f"{about} CPU.", amount.cpu / CORE)
        yield _gauge(f"enforcer_{name}_memory_bytes", f"{about} Memory.", amount.memory)
    host = published.observed.host
    yield _gauge(
        "enforcer_machine_memory_used_bytes", "Memory in use, host and all.", host.memory_current
    )
    used = CounterMetricFamily("enforcer_machine_cpu_seconds", "CPU time used, host and all.")
    used.add_metric([], host.cpu_usec / 1e6)
    yield used
    pressure = CounterMetricFamily(
        "enforcer_machine_pressure_seconds",
        "Time in which a task of the machine waited (PSI some).",
        labels=["for"],
    )
    pressure.add_metric(["cpu"], host.cpu_pressure_usec / 1e6)
    pressure.add_metric(["memory"], host.memory_pressure_usec / 1e6)
    pressure.add_metric(["io"], host.io_pressure_usec / 1e6)
    yield pressure


def daemon_metrics(published: Published) -> Iterable[Metric]:
    """Yield how the daemon and what it stands on are."""
    build = GaugeMetricFamily("enforcer_build_info", "The daemon's version.", labels=["version"])
    build.add_metric([__version__], 1)
    yield build
    yield _gauge("enforcer_docker_up", "dockerd answers.", published.docker_ok)
    yield _gauge("enforcer_systemd_up", "PID 1 answers.", published.systemd_ok)
    yield _gauge(
        "enforcer_config_ok", "The last configuration read was good.", not published.config_error
    )
    yield _gauge(
        "enforcer_snapshot_timestamp_seconds", "When the snapshot was taken.", published.observed.at
    )
    states = Counter(lease.state for lease in published.leases)
    leases = GaugeMetricFamily("enforcer_leases", "Leases, by state.", labels=["state"])
    for state in (LeaseState.QUEUED, LeaseState.PENDING, LeaseState.BOUND):
        leases.add_metric([state], states[state])
    yield leases
    drift = GaugeMetricFamily(
        "enforcer_drift_open", "Drift that only an operator can mend, or at once.", labels=["what"]
    )
    for what, number in sorted(Counter(one.what for one in published.open_drift).items()):
        drift.add_metric([printable(what)], number)
    yield drift
    yield from _ticks(published)


def _ticks(published: Published) -> Iterable[Metric]:
    tick = published.tick
    for name, about, number in (
        ("enforcer_ticks", "Ticks.", tick.ticks),
        ("enforcer_ticks_failed", "Ticks that failed.", tick.failed),
    ):
        family = CounterMetricFamily(name, about)
        family.add_metric([], number)
        yield family
    last = GaugeMetricFamily(
        "enforcer_tick_duration_seconds", "How long the last tick took.", labels=["part"]
    )
    last.add_metric(["observe"], tick.observe_seconds)
    last.add_metric(["decide"], tick.decide_seconds)
    last.add_metric(["act"], tick.act_seconds)
    yield last


def counter_metrics(counters: Mapping[tuple[str, ...], int]) -> Iterable[Metric]:
    """Yield the running totals since the daemon's start; those of a kind we do not name as well."""
    families = {
        kind: CounterMetricFamily(name, about, labels=[label])
        for kind, (name, about, label) in _COUNTERS.items()
    }
    others = CounterMetricFamily("enforcer_events", "Other events.", labels=["event"])
    for key, number in sorted(counters.items()):
        kind, what = key[0], printable(" ".join(key[1:]))
        if kind in families:
            families[kind].add_metric([what], number)
        else:
            others.add_metric([f"{printable(kind)} {what}".strip()], number)
    yield from families.values()
    yield others


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(name, about, value=float(value))
