"""Metrics that are cheap to add to: for one thread, without the locks of Prometheus' own."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from services.common.telemetry.timeline import Timeline

STAGE_BUCKETS = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
)  # fmt: skip


class _Counts:
    """How many values there were up to each bound, and their sum."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Adds a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    @property
    def total(self) -> int:
        """How many values there were."""
        return sum(self._counts)

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        """Adds these counts to a page."""
        buckets, total = [], 0
        for bound, count in zip((*self._bounds, math.inf), self._counts, strict=True):
            total += count
            buckets.append((_name_of(bound), float(total)))
        family.add_metric(labels, buckets, self._sum)


class Distribution(Collector):
    """Prometheus' histogram without labels.

    Theirs takes locks for each value: a sixth of what a token cost the gateway.
    """

    def __init__(
        self, name: str, about: str, bounds: Sequence[float], registry: CollectorRegistry | None = None
    ) -> None:
        """`bounds`: rising, of the buckets, each included in its own; above the last there is one more."""
        self._name = name
        self._about = about
        self._counts = _Counts(bounds)
        self.observe = self._counts.observe
        if registry is not None:
            registry.register(self)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Prometheus': how many values there were up to each bound."""
        family = HistogramMetricFamily(self._name, self._about)
        self._counts.add_to(family, ())
        yield family


class StageTimes(Collector):
    """Prometheus' histogram of the seconds that requests spent in each stage, by its name."""

    def __init__(self, stages: Sequence[str], registry: CollectorRegistry | None = None) -> None:
        """`stages`: all names there are. One that no request had yet is not on the page."""
        self._by_stage = {stage: _Counts(STAGE_BUCKETS) for stage in stages}
        if registry is not None:
            registry.register(self)

    def observe(self, timeline: Timeline) -> None:
        """Adds a request that has ended: one value for each stage that it had."""
        for stage, seconds in timeline.totals.items():
            self._by_stage[stage].observe(seconds)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Prometheus': by stage, how many requests there were up to each bound."""
        family = HistogramMetricFamily(
            "perigee_stage_seconds", "Seconds that requests spent in a stage", labels=["stage"]
        )
        for stage, counts in self._by_stage.items():
            if counts.total:
                counts.add_to(family, [stage])
        yield family


class Tally(Collector):
    """Prometheus' counter without labels, or its gauge if it `falls`.

    Theirs makes four calls, one of a lock, for each change; a request changes seven of them.
    """

    def __init__(self, name: str, about: str, registry: CollectorRegistry, *, falls: bool = False) -> None:
        self._name = name
        self._about = about
        self._falls = falls
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
        family = GaugeMetricFamily if self._falls else CounterMetricFamily
        yield family(self._name, self._about, self._count)


class LabelledTally(Collector):
    """Prometheus' counter with labels, whose values are few: a reason, a source."""

    def __init__(
        self, name: str, about: str, labels: Sequence[str], registry: CollectorRegistry | None = None
    ) -> None:
        self._name = name
        self._about = about
        self._labels = labels
        self._counts: dict[tuple[str, ...], int] = {}
        if registry is not None:
            registry.register(self)

    @property
    def counts(self) -> Mapping[tuple[str, ...], int]:
        """The count by the labels' values, where there is one."""
        return self._counts

    def inc(self, *values: str, by: int = 1) -> None:
        """Counts up for these values of the labels, in the labels' order."""
        self._counts[values] = self._counts.get(values, 0) + by

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Prometheus': the counts."""
        family = CounterMetricFamily(self._name, self._about, labels=self._labels)
        for values, count in list(self._counts.items()):
            family.add_metric(values, count)
        yield family


def _name_of(bound: float) -> str:
    return "+Inf" if math.isinf(bound) else str(bound)
