"""The cases of the evaluation."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from evals.request import chat_body
from evals.rows import ROWS, Row
from training.skills.curriculum import Curriculum


@pytest.mark.parametrize("row", [row for row in ROWS if row.name != "pictures"], ids=lambda row: row.name)
def test_no_two_cases_of_a_row_are_alike(row):
    asked = [json.dumps(chat_body(case.conversation, "m", 1)) for case in row.cases(Curriculum(6), 300)]
    assert len(set(asked)) == 300


def test_a_skill_that_is_named_twice_is_asked_twice_as_often():
    row = Row("calls", ("tool call", "tool call", "no call"), 0.9)
    assert Counter(case.skill for case in row.cases(Curriculum(6), 12)) == {"tool call": 8, "no call": 4}


class OneCase(Curriculum):
    def case(self, name, number):
        return super().case(name, 0)


def test_a_skill_with_too_few_different_cases_is_named():
    with pytest.raises(ValueError, match="only 1 different cases of copy"):
        list(Row("copies", ("copy",), 0.9).cases(OneCase(6), 2))
