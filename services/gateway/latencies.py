"""A histogram that is cheap to add to."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector


class Latencies(Collector):
    """Prometheus' histogram of seconds, for one thread.

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


def _name_of(bound: float) -> str:
    return "+Inf" if math.isinf(bound) else str(bound)
