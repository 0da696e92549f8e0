"""Where the answer to a rendered prompt begins."""

from __future__ import annotations

import pytest

from services.families.conversation import Conversation, ImagePart, Message, TextPart, ToolCall
from services.families.kimi.family import KIMI

QUESTION = Message("user", (TextPart("Hi <think>"),))
CALLED = Message("assistant", reasoning_content="r", tool_calls=(ToolCall("functions.f:0", "f", "{}"),))
RESULT = Message("tool", (TextPart("<think>"),), tool_call_id="functions.f:0")


def open_turn(*content: object, reasoning: str = "r") -> Conversation:
    turn = Message("assistant", content, reasoning_content=reasoning)
    return Conversation((QUESTION, turn), add_generation_prompt=False, continues=True)


@pytest.mark.parametrize(
    ("conversation", "in_reasoning"),
    [
        (Conversation((QUESTION,)), True),
        (Conversation((QUESTION,), thinking=False), False),
        (Conversation((QUESTION, CALLED, RESULT)), True),
        (open_turn(), True),
        (open_turn(TextPart("")), True),
        (open_turn(TextPart("an answer")), False),
        (open_turn(ImagePart()), False),
    ],
)
def test_the_answer_begins_in_reasoning_exactly_where_the_prompt_leaves_it_open(
    nano_dir, conversation, in_reasoning
):
    chat = KIMI.open_chat(nano_dir)
    special = chat.tokenizer.special
    ids = chat.render(conversation).token_ids
    markers = [token_id for token_id in ids if token_id in (special.think, special.end_think)]
    assert (markers[-1] == special.think) is in_reasoning
    assert chat.starts_in_reasoning(conversation) is in_reasoning
