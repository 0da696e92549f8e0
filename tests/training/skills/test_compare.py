from __future__ import annotations

import re
from decimal import Decimal

import pytest

from training.skills.compare import make_compare, work
from training.skills.dice import Dice
from training.skills.numerals import Numeral
from training.skills.split import Split

NUMBER = re.compile(r"\d+(?:\.\d+)?")


@pytest.mark.parametrize("number", range(300))
def test_the_answer_is_what_decimal_arithmetic_says(number):
    sample = make_compare(Dice("compare", number), Split.TRAIN, thinking=True)
    question = sample.conversation.messages[0].content[0].text
    x, y = map(Decimal, NUMBER.findall(question))
    if x == y:
        assert sample.answer == "They are equal."
        return
    smaller = any(word in question.lower() for word in ("smaller", "lower", "less"))
    right = min(x, y) if smaller else max(x, y)
    assert Decimal(NUMBER.findall(sample.answer)[0]) == right
    place = "first" if x == right else "second"
    assert sample.reasoning.endswith(f"So the {place}, {sample.answer.replace(' is', ', is')}")


def test_each_step_looks_at_one_pair_of_digits():
    text = work(Numeral("9", "11"), Numeral("9", "9"))
    assert text == "Whole parts 9 and 9: 9 = 9. Decimals 11 and 90: 1 < 9."


def test_a_longer_whole_part_decides_at_once():
    assert work(Numeral("123"), Numeral("98", "5")) == "Whole parts 123 and 98: 3 digits > 2 digits."


def test_without_thinking_there_is_no_reasoning():
    assert make_compare(Dice(1), Split.TRAIN, thinking=False).reasoning == ""
