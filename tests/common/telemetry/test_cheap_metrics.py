"""These metrics are Prometheus' own, but for what adding to them costs."""

import pytest
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from services.common.telemetry.cheap_metrics import (
    STAGE_BUCKETS,
    Distribution,
    LabelledTally,
    StageTimes,
    Tally,
)
from services.common.telemetry.timeline import Timeline

BOUNDS = (0.001, 0.25, 1.0, 2.5)


@pytest.fixture(autouse=True)
def no_series_of_when_they_were_made():
    """As in every process of the suite."""
    disable_created_metrics()


def page(make, change):
    """The lines of a metric after a change."""
    registry = CollectorRegistry()
    change(make(registry))
    return generate_latest(registry).decode().splitlines()


def our_histogram(registry):
    return Distribution("a_seconds", "About", BOUNDS, registry)


def their_histogram(registry):
    return Histogram("a_seconds", "About", buckets=BOUNDS, registry=registry)


def our_counter(registry):
    return Tally("a_tokens", "About", registry)


def their_counter(registry):
    return Counter("a_tokens", "About", registry=registry)


def our_gauge(registry):
    return Tally("a_load", "About", registry, falls=True)


def their_gauge(registry):
    return Gauge("a_load", "About", registry=registry)


def test_the_page_of_a_histogram_is_the_one_that_prometheus_gives():
    for values in ((), (0.001, 0.0011, 0.25, 0.5, 3.0, 2.5, 0.0), (100.0,)):

        def observe(histogram, values=values):
            for value in values:
                histogram.observe(value)

        theirs = page(their_histogram, observe)
        assert page(our_histogram, observe) == theirs


def test_the_page_of_a_counter_is_the_one_that_prometheus_gives():
    for counts in ((), (1, 30, 0)):

        def count(counter, counts=counts):
            counter.inc()
            for each in counts:
                counter.inc(each)

        ours = page(our_counter, count)
        assert ours == page(their_counter, count)


def test_the_page_of_a_gauge_that_rises_and_falls_is_the_one_that_prometheus_gives():
    def change(gauge):
        gauge.inc()
        gauge.inc()
        gauge.inc()
        gauge.dec()

    assert page(our_gauge, change) == page(their_gauge, change)


def test_the_page_of_stages_is_the_one_of_a_histogram_by_stage():
    def ours(registry):
        return StageTimes(("queue", "decode", "never"), registry)

    def theirs(registry):
        return Histogram(
            "perigee_stage_seconds",
            "Seconds that requests spent in a stage",
            ["stage"],
            buckets=STAGE_BUCKETS,
            registry=registry,
        )

    def observe(histogram):
        for queue, decode in ((0.001, 3.0), (0.5, 200.0)):
            if isinstance(histogram, StageTimes):
                timeline = Timeline()
                timeline.add("queue", 0.0, queue)
                timeline.add("decode", queue, queue + decode)
                histogram.observe(timeline)
            else:
                histogram.labels("queue").observe(queue)
                histogram.labels("decode").observe(decode)

    assert page(ours, observe) == page(theirs, observe)


def test_the_page_of_a_counter_by_labels_is_the_one_that_prometheus_gives():
    def ours(registry):
        return LabelledTally("a_errors", "About", ["door", "reason"], registry)

    def theirs(registry):
        return Counter("a_errors", "About", ["door", "reason"], registry=registry)

    def count(counter):
        for reason, by in (("OVERLOADED", 2), ("CANCELLED", 1), ("OVERLOADED", 3)):
            if isinstance(counter, LabelledTally):
                counter.inc("rest", reason, by=by)
            else:
                counter.labels("rest", reason).inc(by)

    assert page(ours, count) == page(theirs, count)
