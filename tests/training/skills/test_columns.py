"""Every equation that a worked sum states is true, and the last one is the answer."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from training.skills import columns

EQUATION = re.compile(r"([\d +*/-]+) = (\d+)(?:, rest (\d+))?")


def check(text, expected):
    equations = EQUATION.findall(text)
    for left, right, rest in equations:
        if "/" in left:
            a, b = map(int, left.split("/"))
            assert divmod(a, b) == (int(right), int(rest or 0)), text
        else:
            assert eval(left) == int(right), text
    assert int(equations[-1][1]) == expected


@given(st.integers(0, 9999), st.integers(0, 9999))
def test_sums_and_differences(a, b):
    check(columns.add(a, b), a + b)
    check(columns.subtract(max(a, b), min(a, b)), abs(a - b))


@given(st.integers(0, 999), st.integers(2, 9))
def test_products_and_quotients(a, b):
    check(columns.multiply(a, b), a * b)
    check(columns.multiply(b, a), a * b)
    check(columns.divide(a * b, b), a)


def test_a_carry_is_named_and_used_in_the_next_column():
    assert columns.add(47, 85) == "47 + 85: 7 + 5 = 12, carry 1. 4 + 8 + 1 = 13. 47 + 85 = 132."


def test_a_borrowed_ten_is_named_and_used_in_the_next_column():
    assert columns.subtract(85, 47) == "85 - 47: 15 - 7 = 8, borrow 1. 8 - 1 - 4 = 3. 85 - 47 = 38."
