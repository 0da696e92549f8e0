"""The histogram is Prometheus' own, but for what an observation costs."""

from prometheus_client import CollectorRegistry, Histogram, generate_latest

from services.gateway.latencies import Latencies

BOUNDS = (0.001, 0.25, 1.0, 2.5)


def page(make, values):
    registry = CollectorRegistry()
    histogram = make(registry)
    for value in values:
        histogram.observe(value)
    lines = generate_latest(registry).decode().splitlines()
    return [line for line in lines if "_created" not in line]


def ours(registry):
    return Latencies("a_seconds", "About", BOUNDS, registry)


def theirs(registry):
    return Histogram("a_seconds", "About", buckets=BOUNDS, registry=registry)


def test_its_page_is_the_one_that_prometheus_histogram_gives():
    for values in ((), (0.001, 0.0011, 0.25, 0.5, 3.0, 2.5, 0.0), (100.0,)):
        assert page(ours, values) == page(theirs, values)
