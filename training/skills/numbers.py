"""The numbers in a text, as values."""

from __future__ import annotations

import re
from fractions import Fraction

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
_DECIMAL = rf"{_DIGITS}(?:\.\d+)?|\.\d+"
# A minus or a point after a digit or a letter is a dash, a range or part of another number.
_NUMBER = re.compile(
    r"(?<![\w.])(?P<sign>[-−])?(?:"
    r"(?<!/)(?:(?P<whole>\d+) )?(?P<top>\d+)/(?P<bottom>0*[1-9]\d*)(?![\d/])"
    rf"|(?P<decimal>{_DECIMAL})"
    rf")|(?P<inner>{_DECIMAL})"
)


def numbers_in(text: str) -> list[Fraction]:
    """The numbers in order: "-3", ".5", "1,200.50", "1/2" and "1 1/2" are one number each, "3-5" and
    "2024-05" two.
    """
    return [_value(found) for found in _NUMBER.finditer(text)]


def _value(found: re.Match[str]) -> Fraction:
    if found["top"]:
        value = Fraction(found["whole"] or 0) + Fraction(int(found["top"]), int(found["bottom"]))
    else:
        value = Fraction((found["decimal"] or found["inner"]).replace(",", ""))
    return -value if found["sign"] else value
