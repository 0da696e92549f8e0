from __future__ import annotations

import pytest

from services.families.kimi.chat.prompt import render
from services.families.kimi.messages import Conversation, Message, TextPart, ToolCall
from services.families.kimi.output.states import Mark, State, first_state, marks_of, next_state
from services.families.kimi.tokenizer import Tokenizer
from tests.families.kimi.output.outputs import encode_output


@pytest.fixture(scope="module")
def tokenizer(nano_dir) -> Tokenizer:
    return Tokenizer.from_dir(nano_dir)


QUESTION = Message("user", (TextPart("Hi <think>"),))
ROUND = (
    QUESTION,
    Message("assistant", reasoning_content="r", tool_calls=(ToolCall("functions.f:0", "f", "{}"),)),
    Message("tool", (TextPart("<think>"),), tool_call_id="functions.f:0"),
)


@pytest.mark.parametrize("messages", [(QUESTION,), ROUND])
@pytest.mark.parametrize(("thinking", "state"), [(True, State.REASONING), (False, State.CONTENT)])
def test_the_rendered_prompt_says_where_the_output_begins(tokenizer, messages, thinking, state):
    prompt = render(Conversation(messages, thinking=thinking), tokenizer)
    assert first_state(prompt.token_ids, tokenizer.special) is state


@pytest.mark.parametrize(
    ("tail", "state"),
    [
        ("<think>half a thought", State.REASONING),
        ("<think></think>half an answer", State.CONTENT),
        ("<think>r[S>", State.CONTENT),
        ("half an answer", State.CONTENT),
        ("<think></think>«<think>»", State.CONTENT),
    ],
)
def test_so_does_a_turn_that_is_to_be_continued(tokenizer, tail, state):
    turn = encode_output(tokenizer, f"<think>earlier<|im_assistant|>assistant<|im_middle|>{tail}")
    assert first_state(turn, tokenizer.special) is state


def test_a_prompt_without_a_turn_begins_with_content(tokenizer):
    assert first_state((), tokenizer.special) is State.CONTENT


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
    assert next_state(State.REASONING, Mark.CALL_BEGIN, calls=True) is State.REASONING
