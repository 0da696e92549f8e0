"""The profile moonshot wants the reasoning of an open tool round back."""

from __future__ import annotations

import pytest
import pytest_asyncio

from tests.gateway.suite import open_suite

USER = {"role": "user", "content": "Weather?"}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLER = {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "21"}
ANSWER = {"role": "assistant", "content": "21 degrees."}
REASONED = {**CALLER, "reasoning_content": "I need a tool."}
INSTANT = {"thinking": {"type": "disabled"}}


@pytest_asyncio.fixture
async def moonshot():
    async with open_suite(profile="moonshot") as suite:
        yield suite


@pytest.mark.parametrize(
    ("messages", "index"),
    [
        ([USER, CALLER, RESULT], 1),
        ([USER, REASONED, RESULT, CALLER, RESULT], 3),
        ([USER, CALLER, RESULT, ANSWER, USER, CALLER, RESULT], 5),
        ([USER, CALLER, RESULT, USER], 1),
        ([USER, {**CALLER, "reasoning_content": None}, RESULT], 1),
        ([USER, {**CALLER, "reasoning_details": []}, RESULT], 1),
    ],
    ids=range(6),
)
async def test_a_call_without_reasoning_in_an_open_round_is_refused(moonshot, messages, index):
    answer = await moonshot.chat(messages=messages)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, f"messages[{index}].reasoning_content")
    assert "moonshot" in error["message"]


@pytest.mark.parametrize(
    ("messages", "body"),
    [
        ([USER, REASONED, RESULT], {}),
        ([USER, {**CALLER, "reasoning_content": ""}, RESULT], {}),
        ([USER, {**CALLER, "reasoning": "By another name."}, RESULT], {}),
        ([USER, CALLER, RESULT], INSTANT),
        ([USER, CALLER, RESULT, ANSWER, USER], {}),
        ([USER, ANSWER, USER], {}),
    ],
    ids=range(6),
)
async def test_anything_else_is_taken(moonshot, messages, body):
    """A guard."""
    assert (await moonshot.chat(messages=messages, **body)).status_code == 200


async def test_without_the_profile_nothing_is_wrong(suite):
    """A guard."""
    assert (await suite.chat(messages=[USER, CALLER, RESULT])).status_code == 200


@pytest.mark.parametrize("rest", [{**RESULT, "tool_call_id": "other"}, {**RESULT, "tool_call_id": ""}])
async def test_a_result_of_no_call_is_refused_under_the_profile_alone(moonshot, suite, rest):
    messages = [USER, REASONED, RESULT, rest]
    error = (await moonshot.chat(messages=messages)).json()["error"]
    assert error["param"] == "messages[3].tool_call_id"
    assert error["message"].endswith("is not found")
    assert (await suite.chat(messages=messages)).status_code == 200


async def test_a_result_before_its_call_is_one_of_no_call(moonshot):
    answer = await moonshot.chat(messages=[USER, RESULT, REASONED])
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages[1].tool_call_id")
