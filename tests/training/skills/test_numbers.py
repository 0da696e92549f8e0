"""Numbers in texts."""

from __future__ import annotations

from fractions import Fraction

import pytest

from training.skills.numbers import numbers_in


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("5", ["5"]),
        ("-5 and −6", ["-5", "-6"]),
        ("3-5", ["3", "5"]),
        ("2024-05-12", ["2024", "5", "12"]),
        (".5, 0.50 and 1.5.", ["1/2", "1/2", "3/2"]),
        ("$1,200.50", ["1200.5"]),
        ("1,2,3", ["1", "2", "3"]),
        ("12,34", ["12", "34"]),
        ("1,2345", ["1", "2345"]),
        ("1/2", ["1/2"]),
        ("-1 1/2 cups", ["-1.5"]),
        ("1/0", ["1", "0"]),
        ("12/05/2024", ["12", "5", "2024"]),
        ("<<48/2=24>>24", ["24", "24", "24"]),
        ("20% of x2", ["20", "2"]),
        ("none", []),
    ],
)
def test_every_number_of_a_text_is_found_once(text, values):
    assert numbers_in(text) == [Fraction(value) for value in values]
