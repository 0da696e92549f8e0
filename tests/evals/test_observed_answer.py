"""The tool-call run: what it observes of an answer, and its verdict."""

from __future__ import annotations

import pytest

from evals.observed_answer import ObservedAnswer
from evals.tool_schemas import MARKED

TOOL = {
    "function": {"name": "f", "parameters": {"properties": {"a": {"type": "integer"}}, "required": ["a"]}}
}


def call(arguments: str, **fields) -> dict:
    return {"function": {"name": "f", "arguments": arguments}, **fields}


def test_an_answer_is_the_same_whole_and_streamed():
    message = {"reasoning_content": "Hm.", "content": "Yes.", "tool_calls": [call('{"a": 1}')]}
    usage = {"completion_tokens": 9}
    whole = ObservedAnswer.of(
        {"choices": [{"message": message, "finish_reason": "tool_calls"}], "usage": usage}
    )
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
    assert ObservedAnswer.of_events(events) == whole


@pytest.mark.parametrize(
    ("observed", "words"),
    [
        (ObservedAnswer(names={0: "f"}, arguments={0: '{"a": 1}'}, finish="tool_calls"), ["finished"]),
        (ObservedAnswer(names={0: "f"}, arguments={0: '{"a": 1}'}, finish="length"), ["finished"]),
        (ObservedAnswer(names={0: "f"}, arguments={0: '{"a": 1}'}, finish="stop"), ["finish", "finished"]),
        (
            ObservedAnswer(names={0: "f"}, arguments={0: '{"a": "1"}'}, finish="tool_calls"),
            ["invalid", "finished"],
        ),
        (ObservedAnswer(names={0: "f"}, arguments={0: '{"a'}, finish="length"), []),
        (
            ObservedAnswer(names={0: "f", 1: "f"}, arguments={0: '{"a', 1: '{"a'}, finish="length"),
            ["invalid", "finished"],
        ),
        (
            ObservedAnswer(names={0: "f"}, arguments={0: '{"a'}, finish="tool_calls"),
            ["invalid", "finished"],
        ),
        (
            ObservedAnswer(names={0: "f"}, arguments={0: '{"b": NaN, "a": 1}'}, finish="tool_calls"),
            ["invalid", "finished"],
        ),
        (
            ObservedAnswer(names={0: "f"}, arguments={0: '{"a": 2, "a": 1}'}, finish="tool_calls"),
            ["invalid", "finished"],
        ),
        (
            ObservedAnswer(names={0: "g"}, arguments={0: '{"a": 1}'}, finish="tool_calls"),
            ["name", "finished"],
        ),
        (ObservedAnswer(content="<|tool_call_end|>", finish="stop"), ["leak"]),
        (ObservedAnswer(content=MARKED, finish="stop"), []),
        (ObservedAnswer(reasoning="x", finish="length"), []),
        (ObservedAnswer(finish="tool_calls"), ["finish"]),
        (ObservedAnswer(error="no"), ["error"]),
    ],
)
def test_everything_that_is_wrong_gets_its_word(observed, words):
    assert list(observed.verdict(TOOL, [MARKED])) == words


def test_an_error_in_the_middle_of_a_stream_is_observed():
    events = [{"choices": [{"delta": {"content": "a"}}]}, {"error": {"message": "gone"}}]
    assert list(ObservedAnswer.of_events(events).verdict(TOOL)) == ["error"]
