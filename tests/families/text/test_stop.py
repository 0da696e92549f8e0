from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.families.text.stop import StopMatcher

# Few letters, so that stop strings overlap themselves, each other and the text.
LETTERS = st.text(alphabet="ab", max_size=30)
STOPS = st.lists(st.text(alphabet="ab", min_size=1, max_size=5), max_size=4)


def feed(stops, pieces):
    matcher = StopMatcher(stops)
    out = ""
    for piece in pieces:
        text, stopped = matcher.feed(piece)
        out += text
        if stopped:
            return out, True
    return out + matcher.flush(), False


def first_stop(stops, text):
    """By definition: the first end at which a stop string is complete, and the longest one there."""
    for end in range(len(text) + 1):
        complete = [stop for stop in stops if stop and text[:end].endswith(stop)]
        if complete:
            return text[: end - max(map(len, complete))], True
    return text, False


@settings(deadline=None)
@given(stops=STOPS, pieces=st.lists(LETTERS, max_size=8))
def test_the_result_is_that_of_the_whole_text_however_it_is_cut(stops, pieces):
    assert feed(stops, pieces) == first_stop(stops, "".join(pieces))


@settings(deadline=None)
@given(stops=STOPS, pieces=st.lists(LETTERS, max_size=8))
def test_nothing_is_held_back_that_cannot_become_a_stop_string(stops, pieces):
    matcher = StopMatcher(stops)
    seen = out = ""
    for piece in pieces:
        seen += piece
        text, stopped = matcher.feed(piece)
        out += text
        if stopped:
            return
        held = seen[len(out) :]
        assert seen == out + held
        prefixes = [stop[:length] for stop in stops for length in range(1, len(stop))]
        assert held == max((prefix for prefix in prefixes if seen.endswith(prefix)), key=len, default="")


@pytest.mark.parametrize("pieces", [["Hello END there"], ["Hello E", "ND there"], list("Hello END there")])
def test_a_stop_string_is_found_across_pieces_and_left_out(pieces):
    assert feed(["END"], pieces) == ("Hello ", True)


def test_text_without_stop_strings_passes_at_once():
    assert StopMatcher([]).feed("abc") == ("abc", False)
    assert StopMatcher([""]).feed("abc") == ("abc", False)


def test_a_false_alarm_is_released():
    matcher = StopMatcher(["\n\nQ:"])
    assert matcher.feed("a\n") == ("a", False)
    assert matcher.feed("\nQ") == ("", False)
    assert matcher.feed("uite") == ("\n\nQuite", False)


def test_a_flush_returns_what_is_held_and_forgets_it():
    matcher = StopMatcher(["abc"])
    assert matcher.feed("xab") == ("x", False)
    assert matcher.flush() == "ab"
    assert matcher.feed("c") == ("c", False)


def test_a_long_stop_string_costs_linear_time():
    stop = "a" * 5_000 + "b"
    assert feed([stop], ["a" * 1_000] * 40) == ("a" * 40_000, False)
