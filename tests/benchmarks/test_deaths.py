"""How the benchmark of deaths counts what an event cost."""

from __future__ import annotations

import json
import math

import pytest

from benchmarks.deaths.attempt import Attempt, refused, streamed
from benchmarks.deaths.clients import Asked, pause_s
from benchmarks.deaths.row import Row, silence, table

TEXTS = {0: "right", 1: "just as right"}
REFUSED = Attempt("", "503 unavailable", retryable=True)


def row(*asked: Asked, heard=()) -> Row:
    """An event at 10 s, after which all roles serve again at 13 s."""
    return Row.of("decode", "kill", 10.0, 13.0, asked, heard, TEXTS)


def event(**choice) -> bytes:
    return b"data: " + json.dumps({"choices": [{"finish_reason": None, **choice}]}).encode() + b"\n\n"


def test_only_what_is_in_flight_at_the_event_or_sent_later_counts():
    before = Asked(0, 1.0, Attempt("right"), 9.0)
    during = Asked(0, 2.0, Attempt("right"), 14.5)
    later = Asked(1, 11.0, Attempt("just as right"), 16.0)
    found = row(before, during, later)
    assert (found.in_flight, found.asked, found.last, found.whole) == (1, 2, 4.5, 3.0)
    assert (found.lost, found.wrong) == ({}, 0)


def test_lost_requests_are_counted_by_reason_and_by_what_retries_saved():
    answered, again = Attempt("right"), Asked(0, 2.0, REFUSED, 11.0)
    again.retries = [REFUSED, answered]
    late = Asked(0, 12.0, REFUSED, 12.1, retries=[REFUSED, REFUSED, answered])
    final = Asked(1, 2.0, Attempt("just", "500 internal"), 11.0)
    found = row(again, late, final)
    assert found.lost == {"503 unavailable": 2, "500 internal": 1}
    assert (found.lost_in_flight, found.final, found.saved, found.wrong) == (2, 1, (1, 2), 0)


def test_a_request_that_has_not_ended_is_lost_for_good():
    found = row(Asked(0, 2.0))
    assert (found.lost, found.final, found.last) == ({"no end in time": 1}, 1, math.inf)


@pytest.mark.parametrize(
    "tries",
    [
        [Attempt("rigth")],
        [Attempt("righ")],
        [Attempt("wrong", "stream ended with unavailable", retryable=True)],
        [REFUSED, Attempt("left")],
    ],
    ids=["another", "too short", "cut and another", "another after a retry"],
)
def test_a_text_that_is_not_the_right_one_or_a_cut_one_that_does_not_begin_it_is_wrong(tries):
    assert row(Asked(0, 2.0, tries[0], 11.0, tries[1:])).wrong == 1


def test_a_cut_text_may_end_within_the_right_one_and_within_a_character():
    assert row(Asked(0, 2.0, Attempt("rig\ufffd", "connection lost", retryable=True), 11.0)).wrong == 0


def test_the_longest_silence_may_begin_before_the_event():
    assert silence(10.0, [9.5, 11.0, 12.0, 3.0]) == 1.5
    assert silence(10.0, []) == 0.0


def test_a_stream_that_ends_with_an_error_or_without_an_end_is_lost_and_keeps_its_text():
    said = event(delta={"content": "rig"}) + event(text="ht")
    assert streamed(said + event(delta={}, finish_reason="length")) == Attempt("right")
    assert streamed(said) == Attempt("right", "stream without an end", retryable=True)
    for code, retryable in (("shutting_down", True), ("internal", False)):
        error = b'data: {"error": {"code": "' + code.encode() + b'"}}\n\n'
        assert streamed(said + error) == Attempt("right", f"stream ended with {code}", retryable)


def test_the_client_waits_before_a_retry_as_the_server_says_or_twice_as_long_each_time():
    told = refused(503, "5", b'{"error": {"code": "unavailable"}}')
    assert (told.reason, told.retryable, pause_s(told, 0)) == ("503 unavailable", True, 5.0)
    assert [pause_s(REFUSED, retries) for retries in range(6)] == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    assert refused(500, None, b'{"error": {"code": null}}').reason == "500 no code, no Retry-After"


def test_the_table_has_a_line_for_each_event():
    lines = table([row(Asked(0, 2.0, REFUSED, 11.0)), row()]).splitlines()
    assert len(lines) == 4
    assert lines[2] == (
        "| decode | kill | 1.0 | 3.0 | 0.0 | 1 of 1 | 1 of 1 | 1 503 unavailable | 0 | 0, 0 | 0 |"
    )
