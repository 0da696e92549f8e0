"""The profile moonshot follows the model profile: what Moonshot's own API wants of K2.6 and K2.7-Code."""

from __future__ import annotations

import pytest

from perigee.v1 import sampling_pb2
from services.families.conversation import Conversation, Message, TextPart
from services.families.kimi.profiles import K25, K26
from services.gateway.pipeline.prompt.limits import token_budget
from services.gateway.pipeline.request import ChatPrompt, GenerationRequest
from tests.gateway.suite import open_suite
from tests.gateway.tools import tool

USER = {"role": "user", "content": "Weather?"}
CALL = {"id": "c", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
CALLER = {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "21"}
ANSWER = {"role": "assistant", "content": "21 degrees."}
INSTANT = {"thinking": {"type": "disabled"}}
NAMED = {"type": "function", "function": {"name": "get_weather"}}


@pytest.mark.parametrize("model_profile", ["k2.6", "k2.7-code"])
async def test_every_past_call_needs_its_reasoning(model_profile):
    """For K2.5 those of the open round do; see test_moonshot_reasoning.py."""
    closed = [USER, CALLER, RESULT, ANSWER, USER]
    async with open_suite(profile="moonshot", model_profile=model_profile) as suite:
        answer = await suite.chat(messages=closed)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages[1].reasoning_content")
        reasoned = [USER, {**CALLER, "reasoning_content": ""}, RESULT, ANSWER, USER]
        assert (await suite.chat(messages=reasoned)).status_code == 200
    async with open_suite(model_profile=model_profile) as suite:
        assert (await suite.chat(messages=closed)).status_code == 200


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
async def test_no_call_is_demanded_of_k26_while_it_thinks(choice):
    body = {"tools": [tool("get_weather")], "tool_choice": choice}
    async with open_suite(profile="moonshot", model_profile="k2.6") as suite:
        answer = await suite.chat(**body)
        error = answer.json()["error"]
        assert (answer.status_code, error["param"], error["code"]) == (
            400,
            "tool_choice",
            "unsupported_value",
        )
        assert (await suite.chat(**body, **INSTANT)).status_code != 400
        assert (await suite.chat(**body | {"tool_choice": "auto"})).status_code == 200
    async with open_suite(profile="moonshot", model_profile="k2.5") as suite:
        assert (await suite.chat(**body)).status_code != 400


@pytest.mark.parametrize(
    ("profile", "left", "given", "budget"),
    [
        (K26, 100_000, None, 32_768),
        (K26, 1_000, None, 1_000),
        (K26, 100_000, 50_000, 50_000),
        (K25, 100_000, None, 100_000),
    ],
)
def test_an_absent_max_tokens_is_what_moonshot_gives(profile, left, given, budget):
    chat = ChatPrompt(Conversation((Message("user", (TextPart("Hi"),)),)))
    sampling = sampling_pb2.SamplingParams(max_tokens=given)
    request = GenerationRequest("", chat, sampling, lambda name: name, "messages")
    assert token_budget(request, 10, left + 10, profile.hosted) == budget
    assert token_budget(request, 10, left + 10, None) == (given or left)


async def test_the_sampling_is_fixed_by_the_mode():
    async with open_suite(profile="moonshot", model_profile="k2.6") as suite:
        for body, status in (
            ({"temperature": 1.0}, 200),
            ({"temperature": 0.6}, 400),
            ({"temperature": 0.6, **INSTANT}, 200),
            ({"temperature": 1.0, **INSTANT}, 400),
            ({"top_p": 0.9}, 400),
            ({"n": 2}, 400),
        ):
            assert (await suite.chat(**body)).status_code == status, body
