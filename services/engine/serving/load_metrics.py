"""The metrics that every worker exports, read from its load at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from perigee.v1 import worker_pb2

PAGE_STATES = ("free", "used", "cached", "leased", "quarantined")


class LoadMetrics(Collector):
    """Pages by state, running and waiting requests, queued tokens, and counters by name."""

    def __init__(
        self,
        registry: CollectorRegistry,
        load: Callable[[], worker_pb2.LoadReport],
        counters: Mapping[str, tuple[str, Callable[[], int]]],
    ) -> None:
        """`counters` maps a name (without _total) to its help and a function that reads it."""
        self._load = load
        self._counters = counters
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Reads the load once, so that the metrics are consistent."""
        load = self._load()
        pages = GaugeMetricFamily("perigee_kv_pages", "Pages of the pool by state", labels=["state"])
        for state in PAGE_STATES:
            pages.add_metric([state], getattr(load.pages, state))
        yield pages
        held = load.pages.used + load.pages.leased + load.pages.quarantined
        yield GaugeMetricFamily(
            "perigee_kv_usage_ratio",
            "Pages that are neither free nor only cached, of all",
            value=held / max(1, held + load.pages.free + load.pages.cached),
        )
        yield GaugeMetricFamily("perigee_requests_running", "Requests being computed", value=load.running)
        yield GaugeMetricFamily("perigee_requests_waiting", "Requests queued", value=load.waiting)
        yield GaugeMetricFamily(
            "perigee_queued_tokens", "Prompt tokens that are not computed yet", value=load.queued_tokens
        )
        yield GaugeMetricFamily("perigee_draining", "1 while nothing new is admitted", value=load.draining)
        for name, (text, read) in self._counters.items():
            yield CounterMetricFamily(name, text, value=read())
