"""What /v1/messages answers, whole and streamed."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing

import pytest

from tests.gateway.http.messages.talk import (
    ARGUMENTS,
    VERSION,
    WRITE_FILE,
    blocks_of,
    events,
    message_body,
    post,
    written_call,
)
from tests.gateway.suite import open_suite
from tests.gateway.tools import PARIS, ROME, TWO_CALLS

FOREVER_S = 3600.0
THINKING = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
CITY_TOOLS = [{"name": name, "input_schema": {"type": "object"}} for name in ("get_weather", "a.b-c")]


async def test_a_message_has_reasoning_and_text_as_blocks_and_usage_that_adds_up(suite):
    suite.decode.cached_tokens = 3
    answer = (await post(suite, **THINKING)).json()
    assert answer["type"] == "message"
    assert answer["id"].startswith("msg_")
    assert (answer["role"], answer["model"]) == ("assistant", "kimi")
    thought, text = answer["content"]
    assert (thought["type"], thought["thinking"]) == ("thinking", "Thinking.")
    assert thought["signature"]
    assert text == {"type": "text", "text": "Hello!"}
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("end_turn", None)
    prompt = len(suite.decode.submits[0].prompt_token_ids)
    usage = answer["usage"]
    assert usage["cache_read_input_tokens"] == 3
    assert usage["input_tokens"] + usage["cache_read_input_tokens"] == prompt
    assert usage["cache_creation_input_tokens"] == 0
    assert usage["output_tokens"] > 2


@pytest.mark.parametrize("fields", [{}, THINKING], ids=["text alone", "with reasoning"])
async def test_a_stream_spells_the_whole_message_block_by_block(suite, fields):
    suite.say("Thinking.</think>Hello!" if fields else "Hello!")
    suite.decode.cached_tokens = 3
    whole = (await post(suite, **fields)).json()
    stream = await events(suite, **fields)
    assert blocks_of(stream) == whole["content"]
    first, last, stop = stream[0], stream[-2], stream[-1]
    assert first["message"] == {
        **whole,
        "id": first["message"]["id"],
        "content": [],
        "stop_reason": None,
        "usage": {**whole["usage"], "output_tokens": 0},
    }
    assert last["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert last["usage"] == whole["usage"]
    assert stop == {"type": "message_stop"}


async def test_without_thinking_the_model_does_not_reason(suite):
    suite.say("Hello!")
    for fields in ({}, {"thinking": {"type": "disabled"}}):
        answer = (await post(suite, **fields)).json()
        assert [block["type"] for block in answer["content"]] == ["text"]
    suite.say("Thinking.</think>Hello!")
    answer = (await post(suite, thinking={"type": "adaptive"})).json()
    assert [block["type"] for block in answer["content"]] == ["thinking", "text"]


async def test_calls_come_one_after_another_each_with_its_whole_input(suite):
    suite.say(f"I look.{TWO_CALLS}")
    whole = (await post(suite, tools=CITY_TOOLS)).json()
    assert whole["stop_reason"] == "tool_use"
    text, *calls = whole["content"]
    assert text["text"] == "I look."
    assert [(call["name"], call["input"]) for call in calls] == [
        ("get_weather", json.loads(PARIS)),
        ("a.b-c", json.loads(ROME)),
    ]
    assert len({call["id"] for call in calls}) == 2
    stream = await events(suite, tools=CITY_TOOLS)
    assert [
        {**block, "input": json.loads(block["input"])} if "input" in block else block
        for block in blocks_of(stream)
    ] == whole["content"]
    assert stream[-2]["delta"]["stop_reason"] == "tool_use"


async def test_the_input_of_a_call_comes_in_pieces(suite):
    suite.say(written_call())
    suite.decode.step_s = 0.005
    stream = await events(suite, tools=[WRITE_FILE])
    pieces = [event for event in stream if event.get("delta", {}).get("type") == "input_json_delta"]
    assert len(pieces) > 5
    assert "".join(piece["delta"]["partial_json"] for piece in pieces) == ARGUMENTS


async def test_a_call_that_max_tokens_cuts_is_never_a_finished_one(suite):
    suite.say(f"Ok.{written_call()}")
    ids = suite.tokenizer.encode(f"Ok.{written_call()}", parse_special=True)
    shown = 0
    for limit in range(2, len(ids), max(1, len(ids) // 24)):
        fields = {"tools": [WRITE_FILE], "max_tokens": limit}
        whole = (await post(suite, **fields)).json()
        assert whole["stop_reason"] == "max_tokens"
        assert [block["type"] for block in whole["content"]] == ["text"]
        stream = await events(suite, **fields)
        calls = [block for block in blocks_of(stream) if block["type"] == "tool_use"]
        assert all(call["cut"] for call in calls)
        assert stream[-2]["delta"]["stop_reason"] == "max_tokens"
        assert stream[-1]["type"] == "message_stop"
        shown += len(calls)
    assert shown >= 20


async def test_a_call_that_is_whole_before_the_cut_stays(suite):
    two = TWO_CALLS
    suite.say(two)
    ids = suite.tokenizer.encode(two, parse_special=True)
    begins = [i for i, each in enumerate(ids) if each == suite.tokenizer.special.tool_call_begin]
    fields = {"tools": CITY_TOOLS, "max_tokens": begins[1] + 14}
    whole = (await post(suite, **fields)).json()
    assert [block["name"] for block in whole["content"]] == ["get_weather"]
    calls = blocks_of(await events(suite, **fields))
    assert [call.get("cut", False) for call in calls] == [False, True]


async def test_a_stop_sequence_is_named_and_left_out(suite):
    suite.say("one two three four")
    for fields in ({"stop_sequences": ["x", "three", "two th"]},):
        whole = (await post(suite, **fields)).json()
        assert whole["content"] == [{"type": "text", "text": "one "}]
        assert (whole["stop_reason"], whole["stop_sequence"]) == ("stop_sequence", "two th")
        stream = await events(suite, **fields)
        assert stream[-2]["delta"] == {"stop_reason": "stop_sequence", "stop_sequence": "two th"}


async def test_max_tokens_beyond_the_context_are_clamped(suite):
    suite.say("Hello!")
    answer = await post(suite, max_tokens=1_000_000)
    assert answer.json()["stop_reason"] == "end_turn"
    submit = suite.decode.submits[0]
    assert submit.sampling.max_tokens + len(submit.prompt_token_ids) == 8192


async def test_a_silent_stream_is_pinged():
    async with open_suite(sse_keep_alive_seconds=0.02) as suite:
        suite.say("Hello!")
        suite.decode.step_s = FOREVER_S
        body = message_body(stream=True)
        names = []
        async with (
            suite.http.stream("POST", "/v1/messages", json=body, headers=VERSION) as answer,
            aclosing(answer.aiter_lines()) as lines,
        ):
            async for line in lines:
                if line.startswith("event: "):
                    names.append(line.removeprefix("event: "))
                if names.count("ping") == 2:
                    break
        assert set(names) <= {"ping", "message_start", "content_block_start", "content_block_delta"}
        async with asyncio.timeout(10):
            await suite.decode.cancelled.wait()


async def test_an_answer_names_its_request(suite):
    answer = await suite.http.post(
        "/v1/messages?beta=true", json=message_body(), headers={**VERSION, "x-request-id": "mine"}
    )
    assert answer.status_code == 200
    assert answer.headers["request-id"] == answer.headers["x-request-id"] == "mine"


async def test_an_answer_of_a_form_is_held_to_its_schema(suite):
    suite.say('{"a": 1}')
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    answer = await post(suite, output_config={"format": {"type": "json_schema", "schema": schema}})
    assert answer.status_code == 200
    assert suite.decode.submits[0].HasField("constraint")
