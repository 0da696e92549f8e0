from __future__ import annotations

import pytest

from services.families.conversation import Conversation, ImagePart, Message, TextPart, ToolCall, VideoPart
from services.families.kimi.chat.template import lay_out


def text(*messages, **options) -> str:
    options.setdefault("add_generation_prompt", False)
    return "".join(segment.text for segment in lay_out(Conversation(messages, **options)))


def user(content="Hi") -> Message:
    return Message("user", (TextPart(content),))


def answer(content="Hello", *, reasoning="hm", calls=()) -> Message:
    return Message(
        "assistant",
        (TextPart(content),),
        reasoning_content=reasoning,
        tool_calls=tuple(ToolCall(f"functions.f:{index}", "f", call) for index, call in enumerate(calls)),
    )


def result(content="ok", **options) -> Message:
    return Message("tool", (TextPart(content),), tool_call_id="functions.f:0", **options)


CALL = (
    "<|tool_calls_section_begin|><|tool_call_begin|>functions.f:0<|tool_call_argument_begin|>{}"
    "<|tool_call_end|><|tool_calls_section_end|>"
)


def test_an_empty_conversation_is_only_the_assistants_opened_turn():
    assert text(add_generation_prompt=True) == "<|im_assistant|>assistant<|im_middle|><think>"


def test_no_system_prompt_is_made_up():
    assert text(user()) == "<|im_user|>user<|im_middle|>Hi<|im_end|>"


def test_other_roles_are_system_turns_of_that_name():
    assert text(Message("developer", (TextPart("d"),))) == "<|im_system|>developer<|im_middle|>d<|im_end|>"


def test_a_name_takes_the_place_of_the_role():
    assert "<|im_system|>f<|im_middle|>## Return of functions.f:0\nok" in text(result(name="f"))
    assert "<|im_system|>tool<|im_middle|>## Return of functions.f:0\nok" in text(result())


def test_reasoning_is_kept_inside_the_open_tool_round_only():
    messages = (user(), answer("", calls=["{}"]), result())
    assert f"<think>hm</think>{CALL}<|im_end|>" in text(*messages)
    assert f"<think></think>{CALL}<|im_end|>" in text(*messages, answer("21"))
    assert f"<think></think>{CALL}<|im_end|>" in text(*messages, thinking=False)


def test_the_reasoning_of_an_answer_is_dropped():
    assert "<think></think>Hello<|im_end|>" in text(user(), answer())


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        (' {"a":1} ', ' {"a":1} '),
        ({"b": 1, "a": [2.0, None, True, 1e20]}, '{"b": 1, "a": [2.0, null, true, 1e+20]}'),
        ({"é": "😀"}, '{"é": "😀"}'),
        (None, "null"),
        ("", ""),
    ],
)
def test_arguments_are_verbatim_text_or_json_as_python_spells_it(arguments, written):
    assert f"<|tool_call_argument_begin|>{written}<|tool_call_end|>" in text(answer(calls=[arguments]))


def test_every_medium_is_followed_by_a_newline():
    message = Message("user", (TextPart("a"), ImagePart(), VideoPart(), TextPart("b")))
    assert text(message) == (
        "<|im_user|>user<|im_middle|>a<|media_begin|>image<|media_content|><|media_pad|><|media_end|>\n"
        "<|kimi_k25_video_placeholder|>\nb<|im_end|>"
    )


def test_tools_come_first_and_only_where_there_are_some():
    tools = ({"type": "function", "function": {"name": "f"}},)
    assert text(Message("system"), tools=tools).startswith(
        "<|im_system|>tool_declare<|im_middle|># Tools\n\n## functions\nnamespace functions {\n"
        "type f = (_: {}) => any;\n}\n<|im_end|><|im_system|>system"
    )
    assert "tool_declare" not in text(user(), tools=())


def test_text_between_two_markers_is_one_segment():
    message = Message("tool", (TextPart("a"), TextPart("b")), tool_call_id="i")
    segments = lay_out(Conversation((message,), add_generation_prompt=False))
    assert [(segment.text, segment.special) for segment in segments] == [
        ("<|im_system|>", True),
        ("tool", False),
        ("<|im_middle|>", True),
        ("## Return of i\nab", False),
        ("<|im_end|>", True),
    ]
