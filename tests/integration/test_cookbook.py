"""The five Python examples of SGLang's cookbook for Kimi-K2.5 against the real suite.

URL and image differ, texts of arguments are bounded, and an `extra_body` is sent, because the embedded
weights are random: without it the model would think to the end of the context, call no tool, or finish none.
"""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionMessage

from tests.gateway.pictures import image_part
from tests.integration.test_same_tokens import picture

MODEL = "moonshotai/Kimi-K2.5"
# With a grammar or a required call, thinking ends at half of max_tokens at the latest.
ANSWER = {"max_tokens": 80, "seed": 5, "regex": "[A-Z][a-z]{3,8}( [a-z]{1,8}){2,4}[.]"}
CALL = {"max_tokens": 160, "seed": 5, "tool_choice": "required", "parallel_tool_calls": False}
INSTANT = {"chat_template_kwargs": {"thinking": False}}
MARKER = re.compile(r"</?think>|<\|(im|tool|media)_")

WHICH_IS_BIGGER = {"role": "user", "content": "Which one is bigger, 9.11 or 9.9? Think carefully."}
WEATHER_IN_BEIJING = {"role": "user", "content": "What's the weather in Beijing?"}
GET_WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "What the weather is like now",
        "parameters": {
            "type": "object",
            "properties": {
                "location": {"type": "string", "description": "A city", "maxLength": 20},
                "unit": {
                    "type": "string",
                    "enum": ["celsius", "fahrenheit"],
                    "description": "Of the temperature",
                },
            },
            "required": ["location"],
        },
    },
}
SEARCH_PRODUCT = {
    "type": "function",
    "function": {
        "name": "search_product",
        "description": "Find products by a name or a few words",
        "parameters": {
            "type": "object",
            "properties": {
                "query": {"type": "string", "description": "The name or the words", "maxLength": 20}
            },
            "required": ["query"],
        },
    },
}


def check_answer(response: ChatCompletion, *, thinking: bool) -> None:
    """Checks a typed response that ended by itself: an answer in the content, thoughts only if `thinking`."""
    ChatCompletion.model_validate(response.to_dict())
    [choice] = response.choices
    message = choice.message
    assert choice.finish_reason == "stop"
    assert re.fullmatch(ANSWER["regex"], message.content)
    assert bool(message.reasoning_content) == thinking
    assert not MARKER.search(message.reasoning_content or "")
    assert not message.tool_calls


def names_and_arguments(message: ChatCompletionMessage) -> list[tuple[str, str]]:
    """The name and arguments of each of its calls."""
    return [(call.function.name, call.function.arguments) for call in message.tool_calls]


def check_calls(calls: list[tuple[str, str]], tool: dict[str, Any]) -> None:
    """Checks (name, arguments) of at least one call against a tool's schema."""
    function = tool["function"]
    assert calls
    for name, arguments in calls:
        assert name == function["name"]
        jsonschema.validate(json.loads(arguments), function["parameters"])
        assert not MARKER.search(arguments)


def about_a_picture(question: str) -> dict[str, Any]:
    return {"role": "user", "content": [image_part(picture(4, 90, 60)), {"type": "text", "text": question}]}


def test_an_image_is_described(client):
    response = client.chat.completions.create(
        model=MODEL,
        messages=[about_a_picture("What is in this image? Describe it in detail.")],
        extra_body=ANSWER,
    )
    check_answer(response, thinking=True)
    assert response.usage.prompt_tokens_details.image_tokens > 0


def test_thinking_comes_apart_from_the_answer(client):
    response = client.chat.completions.create(model=MODEL, messages=[WHICH_IS_BIGGER], extra_body=ANSWER)
    check_answer(response, thinking=True)


@pytest.mark.parametrize("recommended", [{}, {"temperature": 0.6, "top_p": 0.95}], ids=["plain", "sampling"])
def test_instant_mode_answers_at_once(client, recommended):
    response = client.chat.completions.create(
        model=MODEL, messages=[WHICH_IS_BIGGER], extra_body=ANSWER | INSTANT, **recommended
    )
    check_answer(response, thinking=False)


def test_a_streamed_call_adds_up_to_the_one_that_comes_whole(client):
    asked = {"model": MODEL, "messages": [WEATHER_IN_BEIJING], "tools": [GET_WEATHER], "extra_body": CALL}
    reasoning, content, finish = "", "", None
    calls: dict[int, dict[str, str]] = {}
    for chunk in client.chat.completions.create(stream=True, **asked):
        type(chunk).model_validate(chunk.to_dict())
        if not chunk.choices:
            continue
        delta = chunk.choices[0].delta
        if hasattr(delta, "reasoning_content") and delta.reasoning_content:
            reasoning += delta.reasoning_content
        for part in delta.tool_calls or ():
            call = calls.setdefault(part.index, {"name": "", "arguments": ""})
            if part.function and part.function.name:
                call["name"] = part.function.name
            if part.function and part.function.arguments:
                call["arguments"] += part.function.arguments
        if delta.content:
            content += delta.content
        finish = chunk.choices[0].finish_reason or finish
    streamed = [(call["name"], call["arguments"]) for _, call in sorted(calls.items())]
    check_calls(streamed, GET_WEATHER)
    assert not MARKER.search(reasoning + content)

    [whole] = client.chat.completions.create(**asked).choices
    assert streamed == names_and_arguments(whole.message)
    assert reasoning == whole.message.reasoning_content
    assert content == (whole.message.content or "")
    assert finish == whole.finish_reason
    assert finish in ("tool_calls", "length")


def test_a_tools_result_gets_a_final_answer(client):
    arguments = '{"location": "Beijing", "unit": "celsius"}'
    called = {
        "id": "call_123",
        "type": "function",
        "function": {"name": "get_weather", "arguments": arguments},
    }
    messages = [
        WEATHER_IN_BEIJING,
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "call_123", "content": "The weather in Beijing is 22°C and sunny."},
    ]
    response = client.chat.completions.create(model=MODEL, messages=messages, extra_body=ANSWER)
    check_answer(response, thinking=True)


def test_a_tool_is_called_about_an_image(client):
    response = client.chat.completions.create(
        model=MODEL,
        messages=[about_a_picture("Can you identify this product and search for similar items?")],
        tools=[SEARCH_PRODUCT],
        extra_body=CALL,
    )
    ChatCompletion.model_validate(response.to_dict())
    [choice] = response.choices
    message = choice.message
    assert message.reasoning_content
    assert not MARKER.search(message.reasoning_content + (message.content or ""))
    check_calls(
        [(call.function.name, call.function.arguments) for call in message.tool_calls], SEARCH_PRODUCT
    )
    assert choice.finish_reason in ("tool_calls", "length")
