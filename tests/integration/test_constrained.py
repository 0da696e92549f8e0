"""Answers under a grammar, through the real suite, at temperature 1 on random weights."""

from __future__ import annotations

import json

import pytest

from perigee.v1 import generation_pb2, generation_pb2_grpc, sampling_pb2

MESSAGES = [{"role": "user", "content": "Where are you?"}]
PLACE = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "kind": {"enum": ["city", "river"]},
        "height": {"type": ["integer", "null"], "minimum": 0, "maximum": 9000},
    },
    "required": ["name", "kind", "height"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "place", "schema": PLACE}}


@pytest.mark.parametrize("thinking", [True, False])
def test_an_answer_is_json_of_the_schema_whatever_is_thought_before(client, thinking):
    asked = {
        "model": "kimi-nano",
        "messages": MESSAGES,
        "temperature": 1.0,
        "seed": 7,
        "max_tokens": 200,
        "response_format": FORMAT,
        "extra_body": {"chat_template_kwargs": {"thinking": thinking}},
    }
    whole = client.chat.completions.create(n=2, **asked)
    for choice in whole.choices:
        answer = json.loads(choice.message.content)
        assert list(answer) == ["name", "kind", "height"]
        assert answer["kind"] in ("city", "river")
        assert choice.finish_reason in ("stop", "length")
    chunks = client.chat.completions.create(stream=True, **asked)
    content = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert content == whole.choices[0].message.content


def test_a_raw_prompt_is_held_to_a_form_over_grpc_and_logprobs_stay_the_models(suite):
    sampling = sampling_pb2.SamplingParams(
        temperature=1, seed=3, max_tokens=60, logprobs=True, top_logprobs=1
    )
    request = generation_pb2.GenerateRequest(
        text="Answer: ", sampling=sampling, regex="(yes|no), because .{5,30}"
    )
    with suite.channel() as channel:
        answer = generation_pb2_grpc.GenerationServiceStub(channel).Generate(request)
    [choice] = answer.choices
    assert choice.text.startswith(("yes, because ", "no, because "))
    assert choice.finish_reason == sampling_pb2.FINISH_REASON_STOP
    # A random model never likes the forced words best.
    assert any(position.top[0].token_id != position.sampled.token_id for position in choice.logprobs)
    assert all(position.sampled.logprob < 0 for position in choice.logprobs)
