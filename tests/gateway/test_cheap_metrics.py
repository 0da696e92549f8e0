"""These metrics are Prometheus' own, but for what adding to them costs."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from services.gateway.cheap_metrics import Latencies, Tally

BOUNDS = (0.001, 0.25, 1.0, 2.5)


def page(make, change):
    """The lines of a metric after a change, without when it was made."""
    registry = CollectorRegistry()
    change(make(registry))
    lines = generate_latest(registry).decode().splitlines()
    return [line.partition(" ")[0] if line.startswith("a_tokens_created ") else line for line in lines]


def our_histogram(registry):
    return Latencies("a_seconds", "About", BOUNDS, registry)


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


def test_the_page_of_a_histogram_is_the_one_that_prometheus_gives_but_for_when_it_was_made():
    for values in ((), (0.001, 0.0011, 0.25, 0.5, 3.0, 2.5, 0.0), (100.0,)):

        def observe(histogram, values=values):
            for value in values:
                histogram.observe(value)

        theirs = page(their_histogram, observe)
        assert page(our_histogram, observe) == [line for line in theirs if "_created" not in line]


def test_the_page_of_a_counter_is_the_one_that_prometheus_gives():
    for counts in ((), (1, 30, 0)):

        def count(counter, counts=counts):
            counter.inc()
            for each in counts:
                counter.inc(each)

        ours = page(our_counter, count)
        assert ours == page(their_counter, count)
        assert "a_tokens_created" in ours


def test_the_page_of_a_gauge_that_rises_and_falls_is_the_one_that_prometheus_gives():
    def change(gauge):
        gauge.inc()
        gauge.inc()
        gauge.inc()
        gauge.dec()

    assert page(our_gauge, change) == page(their_gauge, change)
