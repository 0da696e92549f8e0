"""What a trace leaves open of a client's times."""

from benchmarks.collector import Span
from benchmarks.traces import Asked, excess, missed

MS = 1_000_000


def span(name, began, ended, service="gateway"):
    return Span(service, name, "t", name, "", began * MS, ended * MS, {}, "")


def test_what_no_stage_of_the_gateway_covers_is_not_explained():
    asked = Asked("t", 100 * MS, 200 * MS, 300 * MS)
    spans = [
        span("accept", 90, 120), span("queue", 110, 130), span("prefill", 135, 190), span("decode", 200, 310),
        span("rest /generate", 0, 400), span("queue", 130, 135, "decode"),
    ]  # fmt: skip
    found = missed(asked, spans)
    assert (round(found.first_s, 6), found.first_of_s) == (0.015, 0.1)
    assert (round(found.end_s, 6), found.end_of_s) == (0.015, 0.2)


def test_a_short_time_may_leave_open_three_milliseconds_and_a_long_one_a_twentieth():
    assert excess(0.003, 0.01) == 1.0
    assert excess(0.05, 1.0) == 1.0
