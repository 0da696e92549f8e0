"""Tools through the real suite with the official client, as an agent uses them; calls are forced, for the
embedded weights are random.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import jsonschema
import openai
import pytest

from tests.integration.test_same_tokens import picture
from tests.support.stack import Stack

PAGE = 64
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather now.",
        "parameters": {
            "type": "object",
            "properties": {
                "location": {"type": "string", "maxLength": 20},
                "unit": {"enum": ["celsius", "fahrenheit"]},
            },
            "required": ["location"],
            "additionalProperties": False,
        },
    },
}
QUESTION = {"role": "user", "content": "What's the weather in Beijing?"}


@pytest.fixture
def client(suite: Stack) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{suite.base_url}/v1", api_key="any", max_retries=0, timeout=60)


def asked(messages: list[Any], **more: Any) -> dict[str, Any]:
    return {
        "model": "kimi-nano",
        "messages": messages,
        "tools": [WEATHER],
        "max_tokens": 300,
        "seed": 11,
        **more,
    }


def check_call(call: Any, index: int) -> None:
    assert (call.function.name, call.id) == ("get_weather", f"functions.get_weather:{index}")
    jsonschema.validate(json.loads(call.function.arguments), WEATHER["function"]["parameters"])


@pytest.mark.parametrize("thinking", [True, False])
def test_a_streamed_call_is_the_one_that_comes_whole(client, thinking):
    how = asked([QUESTION], tool_choice="required", parallel_tool_calls=False)
    how["extra_body"] = {"chat_template_kwargs": {"thinking": thinking}}
    whole = client.chat.completions.create(**how).choices[0]
    [call] = whole.message.tool_calls
    check_call(call, 0)
    assert whole.finish_reason in ("tool_calls", "length")
    assert bool(getattr(whole.message, "reasoning_content", None)) == thinking
    streamed, finish = [], None
    for chunk in client.chat.completions.create(stream=True, **how):
        for choice in chunk.choices:
            streamed += choice.delta.tool_calls or []
            finish = choice.finish_reason or finish
    assert "".join(part.function.arguments for part in streamed) == call.function.arguments
    assert [part.function.name for part in streamed if part.function.name] == ["get_weather"]
    assert [part.id for part in streamed if part.id] == [call.id]
    assert finish == whole.finish_reason


def test_a_tool_round_goes_on_counting_calls_and_finds_what_came_before_in_the_cache(client):
    named = {"type": "function", "function": {"name": "get_weather"}}
    messages: list[Any] = [QUESTION]
    before = 0
    for index in range(3):
        answer = client.chat.completions.create(**asked(messages, tool_choice=named))
        message, usage = answer.choices[0].message, answer.usage
        assert usage.prompt_tokens_details.cached_tokens >= before // PAGE * PAGE
        # Of the answer only what random tokens still are after they were text is found again; see
        # test_next_turn.py for whole outputs.
        before = usage.prompt_tokens
        [call] = message.tool_calls
        check_call(call, index)
        messages += [
            {
                "role": "assistant",
                "content": message.content,
                "reasoning_content": message.reasoning_content,
                "tool_calls": [call.model_dump()],
            },
            {"role": "tool", "tool_call_id": call.id, "content": "22 degrees and sunny"},
        ]
    last = client.chat.completions.create(**asked(messages, tool_choice="none", max_tokens=8))
    assert last.choices[0].message.tool_calls is None


def test_a_picture_and_a_tool_go_together(client):
    url = "data:image/png;base64," + base64.b64encode(picture(3, 120, 90)).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "Where is this?"}]
    how = asked([{"role": "user", "content": content}], tool_choice="required", temperature=0.6)
    answer = client.chat.completions.create(**how)
    for index, call in enumerate(answer.choices[0].message.tool_calls):
        check_call(call, index)
    assert answer.usage.prompt_tokens > 20
