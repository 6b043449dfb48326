"""Debian's own Prometheus reads the metrics, and what it stores is the kernel's number."""

from __future__ import annotations

import json
import shlex
from typing import Any, Final
from urllib.parse import quote

from enforcer.api.types import LeaseReply
from enforcer.model import Claim
from enforcer.names import ROOT, UnitName, cgroup_path, profile_slice
from enforcer.quantities import CORE, MIB, Bytes, Cpus
from tests.machine.lab import CGROUPS, Lab, until

_CONFIG: Final = """\
global: {scrape_interval: 1s}
scrape_configs:
- job_name: enforcer
  static_configs: [{targets: ["127.0.0.1:9753"]}]
"""
_GROW: Final = "held = []\nwhile True: held.append(b'x' * (1 << 20))"
_COUNTED: Final = (
    ("cpu_seconds_total", "cpu.stat", "usage_usec", 1e6),
    ("cpu_throttled_seconds_total", "cpu.stat", "throttled_usec", 1e6),
    ("cpu_throttled_periods_total", "cpu.stat", "nr_throttled", 1),
    ("oom_kills_total", "memory.events", "oom_kill", 1),
)
"""Metric, the kernel's file, its key, and how many of its units make one of the metric's."""
_NAME: Final = 'a"\\b\nc'.replace("\n", "-")


def test_prometheus_scrapes_and_has_the_kernels_numbers(lab: Lab) -> None:
    lease = lab.place(
        Claim(
            user=_NAME,
            profile="Small",
            cpu_limit=Cpus(CORE // 4),
            mem_limit=Bytes(100 * MIB),
            cpu_guarantee=Cpus(CORE // 20),
            mem_guarantee=Bytes(16 * MIB),
        )
    )
    judged = lab.guest.run(
        "curl --silent http://127.0.0.1:9753/metrics | promtool check metrics", check=False
    )
    assert judged.code == 0, judged.stdout + judged.stderr
    lab.guest.write("/etc/prometheus/prometheus.yml", _CONFIG)
    lab.guest.run("systemctl start prometheus")
    until(lambda: _up(lab), 60)
    label = json.dumps(_NAME)
    limit = f"enforcer_lease_memory_limit_bytes{{user={label}}}"
    until(lambda: _query(lab, limit) == str(lab.number(lease.unit, "memory.max")))
    assert _query(lab, f"enforcer_lease_cpu_limit_cores{{user={label}}}") == "0.25"
    floor = f"enforcer_lease_memory_guarantee_bytes{{user={label}}}"
    assert _query(lab, floor) == str(lab.number(lease.unit, "memory.min"))
    quota = int(lab.read("jupyter.slice", "cpu.max").split()[0]) / 100_000
    assert float(_query(lab, 'enforcer_tree_cpu_limit_cores{part="all"}') or 0) == quota
    # two scrapes may fall between the same two ticks
    until(lambda: float(_query(lab, "increase(enforcer_ticks_total[1m])") or 0) > 0)
    assert _query(lab, "enforcer_docker_up") == "1"
    _check_what_runs(lab, lease)


def _check_what_runs(lab: Lab, lease: LeaseReply) -> None:
    """Held back, killed, and changed by somebody else: each is counted as the kernel counts it."""
    lab.spin(lease.unit, 2)
    lab.guest.run("sleep 3")
    lab.rest()
    container = lease.container_id or ""
    lab.guest.run(f"docker exec {container} python3 -c {shlex.quote(_GROW)}", check=False)
    path = f"{CGROUPS}/{cgroup_path(UnitName(lease.unit))}"
    lab.guest.run(f"echo max > {shlex.quote(path)}/pids.max")
    until(lambda: lab.read(lease.unit, "pids.max") != "max")
    leaf = f"{{user={json.dumps(_NAME)}}}"
    profile, whole = '{profile="Small"}', '{part="all"}'
    units = {leaf: lease.unit, profile: profile_slice("Small"), whole: ROOT}
    for labels, unit in units.items():
        level = {leaf: "lease", profile: "profile", whole: "tree"}[labels]
        for name, file, key, scale in _COUNTED:
            series = f"enforcer_{level}_{name}{labels}"
            until(lambda: _is(lab, series, lab.event(unit, key, file) / scale))  # noqa: B023 # called here
    for name, file, key, scale in _COUNTED:
        assert lab.event(lease.unit, key, file) / scale > 0, name
    waited = lab.read(lease.unit, "cpu.pressure").split("total=")[1].split()[0]
    assert int(waited) > 0
    until(lambda: _is(lab, f"enforcer_lease_cpu_pressure_seconds_total{leaf}", int(waited) / 1e6))
    peak = lab.number(lease.unit, "memory.peak") or 0
    assert _is(lab, f"enforcer_lease_memory_peak_bytes{leaf}", peak)
    assert _query(lab, 'enforcer_admission_decisions_total{outcome="admitted"}') == "1"
    until(lambda: _query(lab, 'enforcer_drift_found_total{field="tasks_max"}') == "1")
    assert _query(lab, "enforcer_drift_repair_seconds_count") == "1"


def _is(lab: Lab, series: str, wanted: float) -> bool:
    found = _query(lab, series)
    return found is not None and abs(float(found) - wanted) <= 0.01 * wanted


def _up(lab: Lab) -> bool:
    answer = _get(lab, "targets")
    targets = [] if answer is None else answer["activeTargets"]
    return [target["health"] for target in targets] == ["up"]


def _query(lab: Lab, expression: str) -> str | None:
    answer = _get(lab, f"query?query={quote(expression)}")
    results = [] if answer is None else answer["result"]
    return str(results[0]["value"][1]) if results else None


def _get(lab: Lab, what: str) -> dict[str, Any] | None:
    done = lab.guest.run(["curl", "--silent", f"http://127.0.0.1:9090/api/v1/{what}"], check=False)
    answer: dict[str, Any] = json.loads(done.stdout) if done.stdout.startswith("{") else {}
    return answer.get("data")
