"""The judge of the tool-call run."""

from __future__ import annotations

import json

import pytest

from evals.tool_calls import Heard, heard_events, heard_whole, judge

TOOL = {
    "function": {"name": "f", "parameters": {"properties": {"a": {"type": "integer"}}, "required": ["a"]}}
}


def call(arguments: str, **fields) -> dict:
    return {"function": {"name": "f", "arguments": arguments}, **fields}


def test_an_answer_is_the_same_whole_and_streamed():
    message = {"reasoning_content": "Hm.", "content": "Yes.", "tool_calls": [call('{"a": 1}')]}
    whole = heard_whole({"choices": [{"message": message, "finish_reason": "tool_calls"}]})
    deltas = [
        {"reasoning_content": "H"},
        {"reasoning_content": "m."},
        {"content": "Yes."},
        {"tool_calls": [call("", index=0)]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a": '}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]},
    ]
    events = [{"choices": [{"delta": delta}]} for delta in deltas]
    events.append({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]})
    assert heard_events([*(f"data: {json.dumps(event)}" for event in events), "", "data: [DONE]"]) == whole


@pytest.mark.parametrize(
    ("heard", "words"),
    [
        (Heard(names={0: "f"}, arguments={0: '{"a": 1}'}, finish="tool_calls"), ["finished"]),
        (Heard(names={0: "f"}, arguments={0: '{"a": "1"}'}, finish="tool_calls"), ["invalid", "finished"]),
        (Heard(names={0: "f"}, arguments={0: '{"a'}, finish="tool_calls"), ["invalid", "finished"]),
        (Heard(names={0: "g"}, arguments={0: '{"a": 1}'}, finish="tool_calls"), ["name", "finished"]),
        (Heard(content="<|tool_call_end|>", finish="stop"), ["leak"]),
        (Heard(reasoning="x", finish="length"), []),
        (Heard(error="no"), ["error"]),
    ],
)
def test_everything_that_is_wrong_gets_its_word(heard, words):
    assert list(judge(heard, TOOL, streamed=False)) == words


def test_a_call_that_a_stream_was_cut_in_is_no_call():
    half = Heard(names={0: "f"}, arguments={0: '{"a'}, finish="length")
    assert list(judge(half, TOOL, streamed=True)) == []
    assert "invalid" in list(judge(half, TOOL, streamed=False))
