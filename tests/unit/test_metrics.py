"""The metrics' text, as Prometheus' own parser reads it."""

from __future__ import annotations

import time
from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from enforcer.metrics import Metrics
from enforcer.model import (
    Config,
    Lease,
    LeaseState,
    Limits,
    Published,
    ReportDrift,
    TickStats,
    Usage,
)
from enforcer.quantities import Bytes
from tests.fakes_operations import FakeOperations
from tests.unit.worlds import config, lease

HOSTILE = 'a"b\\c\n{x="y"} €'


def fake(*leases: Lease, of: Config | None = None) -> FakeOperations:
    operations = FakeOperations(of or config())
    operations.book = replace(operations.book, leases=leases)
    operations.tick()
    return operations


def read(metrics: Metrics) -> dict[str, list[Sample]]:
    """Every sample by its name; Prometheus would refuse two of the same labels."""
    found: dict[str, list[Sample]] = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample)
    for name, samples in found.items():
        labels = [tuple(sorted(one.labels.items())) for one in samples]
        assert len(labels) == len(set(labels)), name
    return found


def value(metrics: Metrics, name: str, **labels: str) -> float:
    found = [one.value for one in read(metrics)[name] if labels.items() <= one.labels.items()]
    assert len(found) == 1, (name, found)
    return found[0]


def test_a_lease_has_its_limits_guarantees_and_use() -> None:
    one = lease("ada", "small", promised=(1, 2))
    operations = fake(one)
    operations.usage[one.unit] = Usage(
        cpu_usec=1_500_000,
        throttled_usec=250_000,
        memory_current=Bytes(1000),
        memory_inactive_file=Bytes(400),
        oom_kills=2,
        oom_local=1,
        cpu_pressure_usec=3_000_000,
        tasks=7,
        forks_refused=5,
        memory_high_local=4,
    )
    operations.limits[one.unit] = Limits(
        memory_max=Bytes(4 * 2**30), memory_high=Bytes(3 * 2**30), tasks_max=64
    )
    operations.tick()
    metrics = Metrics(operations.published)
    for name, wanted in {
        "cpu_limit_cores": 2,
        "cpu_guarantee_cores": 1,
        "memory_limit_bytes": 4 * 2**30,
        "memory_guarantee_bytes": 2 * 2**30,
        "cpu_seconds_total": 1.5,
        "cpu_throttled_seconds_total": 0.25,
        "memory_bytes": 1000,
        "memory_working_set_bytes": 600,
        "oom_kills_total": 2,
        "oom_limit_hits_total": 1,
        "cpu_pressure_seconds_total": 3,
        "tasks": 7,
        "tasks_limit": 64,
        "tasks_refused_total": 5,
        "memory_throttle_bytes": 3 * 2**30,
        "memory_throttle_hits_total": 4,
    }.items():
        labels = {"profile": "small", "user": "ada", "server": ""}
        assert value(metrics, f"enforcer_lease_{name}", **labels) == wanted, name
    assert value(metrics, "enforcer_profile_cpu_guarantee_cores", profile="small") == 1
    assert value(metrics, "enforcer_tree_memory_guarantee_bytes", part="workload") == 2 * 2**30
    assert value(metrics, "enforcer_promised_cpu_cores") == 1


def test_what_has_no_limit_has_no_sample() -> None:
    metrics = Metrics(fake(lease("ada")).published)
    assert all(
        one.labels != {"part": "all"} for one in read(metrics).get("enforcer_tree_tasks_limit", [])
    )
    assert "enforcer_lease_cpu_cap_cores" not in read(metrics)


def test_a_queued_lease_is_counted_and_has_no_slice() -> None:
    metrics = Metrics(fake(lease("ada", state=LeaseState.QUEUED), lease("bob")).published)
    assert value(metrics, "enforcer_leases", state="queued") == 1
    assert value(metrics, "enforcer_leases", state="bound") == 1
    assert len(read(metrics)["enforcer_lease_cpu_seconds_total"]) == 1


def test_hostile_names_stay_labels() -> None:
    metrics = Metrics(fake(lease(HOSTILE, server=HOSTILE)).published)
    (sample,) = read(metrics)["enforcer_lease_tasks"]
    assert sample.labels == {"profile": "small", "user": HOSTILE, "server": HOSTILE}


def test_a_name_without_a_utf8_form_ends_no_scrape() -> None:
    operations = fake(lease("ada"))
    operations.open_drift = (ReportDrift(what="\udcff", subject="s", message="m", command="c"),)
    operations.tick()
    assert value(Metrics(operations.published), "enforcer_drift_open") == 1


def test_the_daemons_state_is_there() -> None:
    operations = fake(lease("ada"))
    metrics = Metrics(operations.published)
    assert value(metrics, "enforcer_docker_up") == 1
    assert value(metrics, "enforcer_systemd_up") == 1
    assert value(metrics, "enforcer_config_ok") == 1
    assert value(metrics, "enforcer_admission_decisions_total", outcome="admitted") == 3
    assert value(metrics, "enforcer_drift_found_total", field="memory_max") == 1
    assert value(metrics, "enforcer_ticks_total") == 2
    assert "enforcer_build_info" in read(metrics)
    assert "process_resident_memory_bytes" in read(metrics)
    assert "python_info" not in read(metrics)


def test_a_snapshot_is_rendered_once() -> None:
    operations = fake(lease("ada"))
    asked: list[Published] = []

    def published() -> Published:
        # as the controller does: a new object each time, of the same tick
        asked.append(replace(operations.published()))
        return asked[-1]

    metrics = Metrics(published)
    first = metrics.render()
    assert metrics.render() is first
    operations.tick()
    assert metrics.render() is not first


def test_a_refused_configuration_and_a_failed_tick_show_at_once() -> None:
    operations = fake(lease("ada"))
    now = [operations.published()]
    metrics = Metrics(lambda: now[0])
    assert value(metrics, "enforcer_config_ok") == 1
    now[0] = replace(now[0], config_error="line 3", tick=TickStats(ticks=2, failed=1))
    assert value(metrics, "enforcer_config_ok") == 0
    assert value(metrics, "enforcer_ticks_failed_total") == 1


def test_a_new_configuration_shows_at_once() -> None:
    operations = fake(lease("ada"))
    now = [operations.published()]
    metrics = Metrics(lambda: now[0])
    assert value(metrics, "enforcer_allocatable_cpu_cores") == 7
    now[0] = replace(now[0], config=config(quota=5))
    assert value(metrics, "enforcer_allocatable_cpu_cores") == 5


def test_every_repair_is_counted_with_its_time() -> None:
    operations = fake(lease("ada"))
    metrics = Metrics(operations.published)
    for seconds in (0.004, 0.005, 0.2, 20.0):
        operations.repair_times = operations.repair_times.with_one(seconds)
    operations.tick()
    name = "enforcer_drift_repair_seconds"
    assert value(metrics, f"{name}_count") == 4
    assert value(metrics, f"{name}_bucket", le="0.005") == 2
    assert value(metrics, f"{name}_bucket", le="0.25") == 3
    assert value(metrics, f"{name}_bucket", le="10.0") == 3
    assert value(metrics, f"{name}_bucket", le="+Inf") == 4
    assert abs(value(metrics, f"{name}_sum") - 20.209) < 1e-9


def test_500_leases_render_in_a_fraction_of_a_tick() -> None:
    operations = fake(*(lease(f"user-{number}", promised=(0.001, 0.001)) for number in range(500)))
    metrics = Metrics(operations.published)
    metrics.render()
    operations.tick()
    began = time.process_time()
    text = metrics.render()
    spent = time.process_time() - began
    assert text.count(b"enforcer_lease_cpu_seconds_total{") == 500
    assert spent < 1.0, f"{spent * 1000:.0f} ms of CPU"
