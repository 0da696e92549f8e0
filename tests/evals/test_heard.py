"""What the tool-call run hears, and what it has to say about it."""

from __future__ import annotations

import pytest

from evals.heard import Heard
from evals.tool_schemas import MARKED

TOOL = {
    "function": {"name": "f", "parameters": {"properties": {"a": {"type": "integer"}}, "required": ["a"]}}
}


def call(arguments: str, **fields) -> dict:
    return {"function": {"name": "f", "arguments": arguments}, **fields}


def test_an_answer_is_the_same_whole_and_streamed():
    message = {"reasoning_content": "Hm.", "content": "Yes.", "tool_calls": [call('{"a": 1}')]}
    usage = {"completion_tokens": 9}
    whole = Heard.of({"choices": [{"message": message, "finish_reason": "tool_calls"}], "usage": usage})
    deltas = [
        {"reasoning_content": "H"},
        {"reasoning_content": "m."},
        {"content": "Yes."},
        {"tool_calls": [call("", index=0)]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a": '}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]},
    ]
    events = [{"choices": [{"delta": delta}]} for delta in deltas]
    events += [
        {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]},
        {"choices": [], "usage": usage},
    ]
    assert Heard.of_events(events) == whole


@pytest.mark.parametrize(
    ("heard", "words"),
    [
        (Heard(names={0: "f"}, arguments={0: '{"a": 1}'}, finish="tool_calls"), ["finished"]),
        (Heard(names={0: "f"}, arguments={0: '{"a": 1}'}, finish="length"), ["finished"]),
        (Heard(names={0: "f"}, arguments={0: '{"a": 1}'}, finish="stop"), ["finish", "finished"]),
        (Heard(names={0: "f"}, arguments={0: '{"a": "1"}'}, finish="tool_calls"), ["invalid", "finished"]),
        (Heard(names={0: "f"}, arguments={0: '{"a'}, finish="length"), ["invalid", "finished"]),
        (
            Heard(names={0: "f"}, arguments={0: '{"b": NaN, "a": 1}'}, finish="tool_calls"),
            ["invalid", "finished"],
        ),
        (
            Heard(names={0: "f"}, arguments={0: '{"a": 2, "a": 1}'}, finish="tool_calls"),
            ["invalid", "finished"],
        ),
        (Heard(names={0: "g"}, arguments={0: '{"a": 1}'}, finish="tool_calls"), ["name", "finished"]),
        (Heard(content="<|tool_call_end|>", finish="stop"), ["leak"]),
        (Heard(content=MARKED, finish="stop"), []),
        (Heard(reasoning="x", finish="length"), []),
        (Heard(finish="tool_calls"), ["finish"]),
        (Heard(error="no"), ["error"]),
    ],
)
def test_everything_that_is_wrong_gets_its_word(heard, words):
    assert list(heard.verdict(TOOL, [MARKED])) == words


def test_an_error_in_the_middle_of_a_stream_is_heard():
    events = [{"choices": [{"delta": {"content": "a"}}]}, {"error": {"message": "gone"}}]
    assert list(Heard.of_events(events).verdict(TOOL)) == ["error"]
