"""Messages of a chat body: past reasoning by its names, parts, results of tools."""

from __future__ import annotations

import json

import pytest

from tests.gateway.tools import tool

TEXT_DETAIL = {"type": "reasoning.text", "text": "From details."}
QUESTION = {"role": "user", "content": "Weather?"}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "21"}


def caller(**fields):
    """An assistant's message of an open tool round."""
    call = {"id": "c", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    return {"role": "assistant", "content": None, "tool_calls": [call], **fields}


async def prompt_of(suite, *messages, **body):
    """The prompt as text."""
    answer = await suite.http.post("/tokenize", json={"messages": messages, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()["text"]


async def error_of(suite, *messages, **body):
    """The field that is refused, and the code."""
    answer = await suite.chat(messages=messages, **body)
    assert answer.status_code == 400, answer.text
    return answer.json()["error"]["param"], answer.json()["error"]["code"]


@pytest.mark.parametrize(
    ("fields", "reasoning"),
    [
        ({"reasoning_content": "By its name."}, "By its name."),
        ({"reasoning": "By the other."}, "By the other."),
        ({"reasoning_content": None, "reasoning": "By the other."}, "By the other."),
        ({"reasoning_details": [TEXT_DETAIL]}, "From details."),
        ({"reasoning_details": [TEXT_DETAIL, {"type": "reasoning.encrypted", "data": "x"}, TEXT_DETAIL]},
         "From details.From details."),
        ({"reasoning": None, "reasoning_details": [{**TEXT_DETAIL, "signature": "s"}]}, "From details."),
        ({"reasoning_content": "1.", "reasoning": "2.", "reasoning_details": [TEXT_DETAIL]}, "1."),
        ({"reasoning_content": "", "reasoning": "Second."}, ""),
        ({"reasoning_content": "", "reasoning_details": [TEXT_DETAIL]}, ""),
        ({"reasoning": "", "reasoning_details": [TEXT_DETAIL]}, ""),
        ({"reasoning_details": []}, ""),
        ({"reasoning_details": [{"type": "reasoning.summary", "summary": "s"}]}, ""),
        ({"reasoning_details": [{"type": "reasoning.text"}]}, ""),
        ({}, ""),
    ],
    ids=str,
)  # fmt: skip
async def test_past_reasoning_is_read_by_each_of_its_names(suite, fields, reasoning):
    """A guard where reasoning_content is not null."""
    prompt = await prompt_of(suite, QUESTION, caller(**fields), RESULT)
    assert f"<think>{reasoning}</think><|tool_calls_section_begin|>" in prompt


@pytest.mark.parametrize(
    "field", [{"reasoning": {"effort": "low"}}, {"reasoning_details": "x"}, {"reasoning_details": [1]}]
)
async def test_past_reasoning_of_another_form_is_refused(suite, field):
    param, _ = await error_of(suite, QUESTION, caller(**field), RESULT)
    assert param.startswith(f"messages[1].{next(iter(field))}")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "refusal", "refusal": "I can't."}], "I can't."),
        ([{"type": "text", "text": "Well. "}, {"type": "refusal", "refusal": "No."}], "Well. No."),
        ([{"type": "output_text", "text": "Yes.", "annotations": []}], "Yes."),
        ([{"type": "text", "text": "Hi.", "cache_control": {"type": "ephemeral"}}], "Hi."),
    ],
    ids=str,
)
async def test_parts_of_an_assistant_are_text(suite, content, text):
    prompt = await prompt_of(suite, QUESTION, {"role": "assistant", "content": content}, QUESTION)
    assert f"<think></think>{text}<|im_end|>" in prompt


async def test_a_user_s_input_text_is_text(suite):
    message = {"role": "user", "content": [{"type": "input_text", "text": "Hello."}]}
    assert "<|im_middle|>Hello.<|im_end|>" in await prompt_of(suite, message)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"content": None, "refusal": "I can't."}, "I can't."),
        ({"refusal": "I can't."}, "I can't."),
        ({"content": "Yes.", "refusal": None}, "Yes."),
        ({"content": "Yes.", "refusal": "No."}, "Yes."),
    ],
    ids=str,
)
async def test_a_refusal_is_the_assistant_s_text_where_there_is_no_content(suite, fields, text):
    prompt = await prompt_of(suite, QUESTION, {"role": "assistant", **fields}, QUESTION)
    assert f"<think></think>{text}<|im_end|>" in prompt


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "user", "content": [{"type": "refusal", "refusal": "x"}]}, "messages[1].content[0].type"),
        ({"role": "assistant", "content": [{"type": "refusal"}]}, "messages[1].content[0].refusal"),
        ({"role": "assistant", "content": [{"type": "output_text"}]}, "messages[1].content[0].text"),
        (
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "x"}]},
            "messages[1].content[0].type",
        ),
        ({"role": "tool", "content": "21"}, "messages[1].tool_call_id"),
        ({"role": "tool", "content": "21", "name": "f", "tool_call_id": None}, "messages[1].tool_call_id"),
        (
            {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
            "messages[1].function_call",
        ),
        ({"role": "assistant", "audio": {"id": "a"}}, "messages[1].audio"),
        (
            {"role": "assistant", "tool_calls": [{"id": "c", "type": "custom", "function": {"name": "f"}}]},
            "messages[1].tool_calls[0].type",
        ),
    ],
    ids=str,
)
async def test_a_message_that_cannot_be_read_is_refused_by_name(suite, message, param):
    assert (await error_of(suite, QUESTION, message))[0] == param


async def test_null_means_absent_in_a_past_call_too(suite):
    calls = ({"id": None, "type": None, "function": {"name": None, "arguments": None}}, {"function": {}})
    asked = [(QUESTION, {"role": "assistant", "tool_calls": [made]}, RESULT) for made in calls]
    with_nulls, without = [await prompt_of(suite, *messages) for messages in asked]
    assert with_nulls == without


async def test_an_empty_id_of_a_result_is_matched_with_its_call(suite):
    call = {"id": "", "function": {"name": "get_weather", "arguments": "{}"}}
    messages = (QUESTION, caller(tool_calls=[call]), {**RESULT, "tool_call_id": ""})
    prompt = await prompt_of(suite, *messages)
    assert "## Return of functions.get_weather:0\n21" in prompt


async def test_the_answer_to_a_shortened_history_is_numbered_behind_it(suite):
    call = {"id": "functions.get_weather:7", "function": {"name": "get_weather", "arguments": "{}"}}
    messages = [QUESTION, caller(tool_calls=[call]), {**RESULT, "tool_call_id": call["id"]}]
    suite.say(
        "</think><|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:8"
        "<|tool_call_argument_begin|>{}<|tool_call_end|><|tool_calls_section_end|>"
    )
    answer = await suite.chat(messages=messages, tools=[tool("get_weather")])
    [made] = answer.json()["choices"][0]["message"]["tool_calls"]
    assert made["id"] == "functions.get_weather:8"
    rules = json.loads(suite.decode.submits[-1].constraint.grammar)["grammars"][0]["lark_grammar"]
    assert '"8"' in rules
    assert '"7"' not in rules
