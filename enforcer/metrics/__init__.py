"""Prometheus metrics of the last snapshot.

The text is made at the first scrape of a snapshot and served from memory until the next one. All
counters of slices are the kernel's own: they outlive the daemon, and end with their slice.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from enforcer.metrics.machine import counter_metrics, daemon_metrics, machine_metrics
from enforcer.metrics.slices import slice_metrics
from enforcer.model import REPAIR_BUCKETS, Published, RepairTimes

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


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

    def render(self) -> bytes:
        """Return the text; from any thread."""
        with self._lock:
            published = self._published()
            if self._rendered is None or not _same_tick(self._rendered[0], published):
                self._snapshots.published = published
                self._rendered = (published, generate_latest(self._registry))
            return self._rendered[1]

    async def page(self) -> bytes:
        """Return the text, made beside the event loop."""
        rendered = self._rendered
        if rendered is not None and _same_tick(rendered[0], self._published()):
            return rendered[1]
        return await asyncio.to_thread(self.render)


class _Snapshots(Collector):
    """Turns the snapshot it was last given into metrics."""

    def __init__(self) -> None:
        self.published: Published | None = None

    def collect(self) -> Iterable[Metric]:
        """Yield every metric of the snapshot."""
        published = self.published
        if published is None:
            return
        yield from slice_metrics(published)
        yield from machine_metrics(published)
        yield from daemon_metrics(published)
        yield from counter_metrics(published.counters)
        yield _repair_seconds(published.repair_times)


def _repair_seconds(times: RepairTimes) -> Metric:
    family = HistogramMetricFamily(
        "enforcer_drift_repair_seconds",
        "From the event that showed a drift to the kernel holding the right value again.",
    )
    bounds = (*map(str, REPAIR_BUCKETS), "+Inf")
    buckets = zip(bounds, map(float, accumulate(times.counts)), strict=True)
    family.add_metric([], list(buckets), times.total_seconds)
    return family


def _same_tick(one: Published, other: Published) -> bool:
    """Tell whether both say the same, by what changes whenever anything does."""
    return one is other or (
        one.observed is other.observed
        and one.tick == other.tick
        and one.leases is other.leases
        and one.config is other.config
        and one.config_error == other.config_error
    )
