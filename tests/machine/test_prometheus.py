"""Debian's own Prometheus reads the metrics, and what it stores is the kernel's number."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import quote

from enforcer.model import Claim
from enforcer.quantities import CORE, MIB, Bytes, Cpus
from tests.machine.lab import Lab, until

_CONFIG: Final = """\
global: {scrape_interval: 1s}
scrape_configs:
- job_name: enforcer
  static_configs: [{targets: ["127.0.0.1:9753"]}]
"""
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
