"""Streamed pieces joined to whole answers, whatever they are cut into."""

from __future__ import annotations

from perigee.client import join_chat, join_generate
from perigee.v1 import chat_pb2, generation_pb2, sampling_pb2


def chunk(**delta):
    return chat_pb2.ChatChunk(id="c", model="m", created=3, deltas=[chat_pb2.ChatDelta(**delta)])


def test_a_call_in_pieces_is_one_call():
    pieces = [
        chat_pb2.ToolCallDelta(index=0, id="a", name="f"),
        chat_pb2.ToolCallDelta(index=0, arguments='{"x"'),
        chat_pb2.ToolCallDelta(index=0, arguments=": 1}"),
        chat_pb2.ToolCallDelta(index=1, id="b", name="g", arguments="{}"),
    ]
    answer = join_chat(chunk(tool_calls=[piece]) for piece in pieces)
    assert list(answer.choices[0].tool_calls) == [
        chat_pb2.ToolCall(id="a", name="f", arguments='{"x": 1}'),
        chat_pb2.ToolCall(id="b", name="g", arguments="{}"),
    ]


def test_choices_are_kept_apart_and_in_order():
    stop = sampling_pb2.FINISH_REASON_STOP
    answer = join_chat(
        [
            chunk(index=1, content="b"),
            chunk(index=0, reasoning_content="r"),
            chunk(index=1, content="c"),
            chunk(index=0, content="a"),
            chunk(index=1, finish_reason=stop),
            chat_pb2.ChatChunk(id="c", model="m", created=3, usage=sampling_pb2.Usage(prompt_tokens=5)),
        ]
    )
    first, second = answer.choices
    assert (first.reasoning_content, first.content, second.content) == ("r", "a", "bc")
    assert (first.finish_reason, second.finish_reason) == (sampling_pb2.FINISH_REASON_UNSPECIFIED, stop)
    assert (answer.id, answer.model, answer.created, answer.usage.prompt_tokens) == ("c", "m", 3, 5)


def test_nothing_is_an_answer_without_choices_and_usage():
    assert not join_chat([]).choices
    assert not join_chat([]).HasField("usage")


def test_log_probabilities_of_a_prompt_are_joined_in_order():
    tokens = [generation_pb2.PromptTokenLogprob(rank=rank, scored=True) for rank in range(5)]
    chunks = [generation_pb2.GenerateChunk(prompt_logprobs=part) for part in (tokens[:3], tokens[3:])]
    assert list(join_generate(chunks).prompt_logprobs) == tokens
