"""Prometheus metrics of the last snapshot.

The text is made at the first scrape of a snapshot and served from memory until the next one. All
counters of slices are the kernel's own: they outlive the daemon, and end with their slice.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from enforcer.metrics.machine import counter_metrics, daemon_metrics, machine_metrics
from enforcer.metrics.slices import slice_metrics
from enforcer.model import Published, Repair

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
REPAIR_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_INFINITE: Final = float("inf")


class Metrics:
    """The metrics' text; `published` gives the last snapshot."""

    content_type: Final = CONTENT_TYPE

    def __init__(self, published: Callable[[], Published]) -> None:
        self._published = published
        self._snapshots = _Snapshots()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self._snapshots)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._lock = threading.Lock()
        self._rendered: tuple[Published, bytes] | None = None

    def observe(self) -> None:
        """Take note of the last snapshot's repairs; once a tick, so that none is missed."""
        with self._lock:
            self._snapshots.take(self._published())

    def render(self) -> bytes:
        """Return the text; from any thread."""
        with self._lock:
            published = self._published()
            if self._rendered is None or not _same_tick(self._rendered[0], published):
                self._snapshots.take(published)
                self._rendered = (published, generate_latest(self._registry))
            return self._rendered[1]

    async def page(self) -> bytes:
        """Return the text, made beside the event loop."""
        rendered = self._rendered
        if rendered is not None and _same_tick(rendered[0], self._published()):
            return rendered[1]
        return await asyncio.to_thread(self.render)


class _Snapshots(Collector):
    """Turns the snapshot it was last given into metrics; keeps a histogram of the repairs."""

    def __init__(self) -> None:
        self._published: Published | None = None
        self._repairs: tuple[Repair, ...] = ()
        self._latencies = Counter[float]()
        self._latency_sum = 0.0

    def take(self, published: Published) -> None:
        """Take a snapshot; the repairs in it that are new go into the histogram."""
        if self._published is not None and _same_tick(self._published, published):
            return
        self._published = published
        for repair in _new_repairs(self._repairs, published.repairs):
            if repair.seconds is not None:
                bucket = next((one for one in REPAIR_BUCKETS if repair.seconds <= one), _INFINITE)
                self._latencies[bucket] += 1
                self._latency_sum += repair.seconds
        self._repairs = published.repairs

    def collect(self) -> Iterable[Metric]:
        """Yield every metric of the snapshot."""
        published = self._published
        if published is None:
            return
        yield from slice_metrics(published)
        yield from machine_metrics(published)
        yield from daemon_metrics(published)
        yield from counter_metrics(published.counters)
        yield self._repair_seconds()

    def _repair_seconds(self) -> Metric:
        buckets, total = [], 0
        for bound in (*REPAIR_BUCKETS, _INFINITE):
            total += self._latencies[bound]
            buckets.append(("+Inf" if bound == _INFINITE else str(bound), float(total)))
        family = HistogramMetricFamily(
            "enforcer_drift_repair_seconds",
            "From the event that showed a drift to the kernel holding the right value again.",
        )
        family.add_metric([], buckets, self._latency_sum)
        return family


def _new_repairs(before: Sequence[Repair], now: Sequence[Repair]) -> Sequence[Repair]:
    """Return those after the last one seen; the list is bounded and its beginning falls off."""
    if before:
        for index in range(len(now) - 1, -1, -1):
            if now[index] is before[-1]:  # two may say the same
                return now[index + 1 :]
    return now


def _same_tick(one: Published, other: Published) -> bool:
    """Tell whether both say the same, by what changes whenever anything does."""
    return one is other or (
        one.observed is other.observed
        and one.tick == other.tick
        and one.leases is other.leases
        and one.config_error == other.config_error
    )
