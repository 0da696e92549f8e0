from __future__ import annotations

import pytest

from services.families.kimi.output.states import Mark, State, marks_of, next_state
from services.families.kimi.tokenizer import KimiTokenizer


@pytest.fixture(scope="module")
def tokenizer(nano_dir) -> KimiTokenizer:
    return KimiTokenizer.from_dir(nano_dir)


def test_markers_are_known_by_the_ids_of_the_tokenizer_files(tokenizer):
    special = tokenizer.special
    marks = marks_of(special, calls=True)
    assert len(marks) == len(Mark)
    assert marks[special.tool_call_end] is Mark.CALL_END
    assert set(marks_of(special, calls=False)) == {
        special.think, special.end_think, special.tool_calls_section_begin
    }  # fmt: skip


def test_nothing_leads_back_from_a_section_and_a_stray_marker_leads_nowhere():
    inside = {State.SECTION, State.CALL_ID, State.ARGUMENTS}
    for state in inside:
        assert {next_state(state, mark, calls=True) for mark in Mark} <= inside
    assert next_state(State.CONTENT, Mark.THINK, calls=True) is State.CONTENT
    assert next_state(State.CONTENT, Mark.CALL_BEGIN, calls=True) is State.CALL_ID
    assert next_state(State.REASONING, Mark.CALL_BEGIN, calls=True) is State.REASONING
