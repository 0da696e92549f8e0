"""Metrics that are cheap to add to: for one thread, without the locks of Prometheus' own."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector


class Latencies(Collector):
    """Prometheus' histogram of seconds.

    Theirs takes locks for each value: a sixth of what a token cost the gateway.
    """

    def __init__(self, name: str, about: str, bounds: Sequence[float], registry: CollectorRegistry) -> None:
        """`bounds`: rising, of the buckets, each included in its own; above the last there is one more."""
        self._name = name
        self._about = about
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        registry.register(self)

    def observe(self, seconds: float) -> None:
        """Adds a value."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Prometheus': how many there were up to each bound."""
        buckets, total = [], 0
        for bound, count in zip((*self._bounds, math.inf), self._counts, strict=True):
            total += count
            buckets.append((_name_of(bound), float(total)))
        yield HistogramMetricFamily(self._name, self._about, buckets=buckets, sum_value=self._sum)


class Tally(Collector):
    """Prometheus' counter without labels, or its gauge if it `falls`.

    Theirs makes four calls, one of a lock, for each change; a request changes seven of them.
    """

    def __init__(self, name: str, about: str, registry: CollectorRegistry, *, falls: bool = False) -> None:
        self._name = name
        self._about = about
        self._falls = falls
        self._created = time.time()
        self._count = 0
        registry.register(self)

    def inc(self, by: int = 1) -> None:
        """Counts up."""
        self._count += by

    def dec(self) -> None:
        """Counts down by one; only for a gauge."""
        self._count -= 1

    def collect(self) -> Iterator[Metric]:
        """Prometheus': the count."""
        if self._falls:
            yield GaugeMetricFamily(self._name, self._about, self._count)
        else:
            yield CounterMetricFamily(self._name, self._about, self._count, created=self._created)


def _name_of(bound: float) -> str:
    return "+Inf" if math.isinf(bound) else str(bound)
