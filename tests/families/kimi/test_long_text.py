from __future__ import annotations

from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.families.kimi.long_text import RUN_CHARS, SLICE_CHARS, split_long_text


def by_definition(text):
    """The published rule, one character at a time."""
    pieces = []
    for start in range(0, len(text), SLICE_CHARS):
        piece, run, kind = "", 0, None
        for character in text[start : start + SLICE_CHARS]:
            run = run + 1 if character.isspace() == kind else 1
            kind = character.isspace()
            if run > RUN_CHARS:
                pieces.append(piece)
                piece, run = "", 1
            piece += character
        pieces.append(piece)
    return pieces


# \x1c and \u2028 are white space to str.isspace, \u200b is not.
RUNS = st.lists(
    st.tuples(
        st.sampled_from(["a", " ", "\n", "\x1c", "\u2028", "\u200b", "中"]),
        st.sampled_from([1, 2, 100, RUN_CHARS - 1, RUN_CHARS, RUN_CHARS + 1, 2 * RUN_CHARS + 3]),
    ),
    max_size=8,
)


@settings(deadline=None)
@given(runs=RUNS)
def test_cuts_are_where_the_published_rule_makes_them(runs):
    text = "".join(character * count for character, count in runs)
    assert list(split_long_text(text)) == by_definition(text)


@pytest.mark.parametrize("count", [SLICE_CHARS - 1, SLICE_CHARS, SLICE_CHARS + 1, 2 * SLICE_CHARS + 5])
def test_slices_come_before_runs(count):
    text = "ab c" * (count // 4) + "x" * (count % 4)
    assert list(split_long_text(text)) == by_definition(text)


def test_short_text_is_one_piece_and_empty_text_none():
    assert list(split_long_text("a b")) == ["a b"]
    assert list(split_long_text("")) == []


def test_no_piece_has_a_longer_run():
    for piece in split_long_text("x" * 70_000 + " " * 30_000):
        assert max(len(list(run)) for _, run in groupby(piece, str.isspace)) <= RUN_CHARS
