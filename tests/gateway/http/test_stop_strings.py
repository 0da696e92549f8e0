"""What stop strings cut, and what they do not."""

from __future__ import annotations

import pytest

from tests.gateway.suite import joined
from tests.gateway.tools import PARIS, TOOLS, call, section

REASONING = "The user greets me."
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
NAMED = {"type": "function", "function": {"name": "get_weather"}}


async def choice_of(suite, **body):
    """The choice, which is the same streamed."""
    [choice] = (await suite.chat(**body)).json()["choices"]
    message, chunks = choice["message"], await suite.stream(**body)
    assert joined(chunks, "content") == (message["content"] or "")
    assert joined(chunks, "reasoning_content") == (message["reasoning_content"] or "")
    assert chunks[-1]["choices"][0]["finish_reason"] == choice["finish_reason"]
    return choice


@pytest.mark.parametrize("stop", ["greets", ["greets"], ["The user", "me."]])
async def test_a_stop_string_in_the_reasoning_does_not_end_it(suite, stop):
    suite.say(f"{REASONING}</think>Hello!")
    message = (await choice_of(suite, stop=stop))["message"]
    assert (message["reasoning_content"], message["content"]) == (REASONING, "Hello!")


async def test_a_stop_string_cuts_the_content_behind_the_reasoning(suite):
    suite.say(f"{REASONING}</think>Hello! He greets you.")
    choice = await choice_of(suite, stop=["greets"])
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Hello! He ", "stop")


async def test_where_reasoning_is_content_a_stop_string_cuts_only_what_is_behind_it(suite):
    suite.say(f"{REASONING}</think>Hello! He greets you.")
    choice = await choice_of(suite, stop=["greets"], separate_reasoning=False)
    assert choice["message"]["content"] == f"{REASONING}</think>Hello! He "


@pytest.mark.parametrize("choice", ["required", NAMED])
async def test_a_stop_string_cuts_no_call_that_must_come(suite, choice):
    suite.say(f"{REASONING}</think>{section(call('get_weather', 0, PARIS))}")
    made = await choice_of(suite, stop=["greets", "Paris", "city"], tools=TOOLS, tool_choice=choice)
    assert made["finish_reason"] == "tool_calls"
    assert made["message"]["tool_calls"][0]["function"]["arguments"] == PARIS


@pytest.mark.parametrize(
    "form",
    [
        {"response_format": JSON_SCHEMA},
        {"response_format": {"type": "json_object"}},
        {"regex": r"\{.*\}"},
        {"ebnf": 'root ::= "{" [^}]* "}"'},
    ],
)
async def test_a_stop_string_cuts_no_answer_of_a_promised_form(suite, form):
    suite.say(f'{REASONING}</think>{{"a": "he greets"}}')
    choice = await choice_of(suite, stop=["greets", '"', "}"], **form)
    assert choice["message"]["content"] == '{"a": "he greets"}'


async def test_nor_one_of_a_raw_prompt(suite):
    suite.say('{"a": "he greets"}')
    body = {"prompt": "x", "stop": ["greets"], "json_schema": SCHEMA}
    answer = (await suite.http.post("/v1/completions", json=body)).json()
    assert answer["choices"][0]["text"] == '{"a": "he greets"}'


async def test_a_raw_prompt_of_no_form_is_cut_anywhere(suite):
    """A guard."""
    suite.say("He greets you.")
    body = {"prompt": "x", "stop": ["greets"]}
    answer = (await suite.http.post("/v1/completions", json=body)).json()
    assert answer["choices"][0]["text"] == "He "


async def test_a_call_that_is_dropped_is_counted_by_reason(suite):
    suite.say(f"{REASONING}</think>Hello{call('other', 0, PARIS)}{call('', 0, PARIS)}<|tool_call_begin|>x")
    choice = await choice_of(suite, tools=TOOLS)
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Hello", "stop")
    page = (await suite.http.get("/metrics")).text
    assert 'perigee_dropped_tool_calls_total{reason="no_tool"} 4.0' in page
    assert 'perigee_dropped_tool_calls_total{reason="malformed"} 2.0' in page


async def test_a_bare_counter_means_the_tool_that_its_arguments_fit(suite):
    weather = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    read = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
    tools = [
        {"type": "function", "function": {"name": name, "parameters": parameters}}
        for name, parameters in (("read", read), ("get_weather", weather))
    ]
    suite.say('</think><|tool_call_begin|>0<|tool_call_argument_begin|>{"city":"Oslo"}<|tool_call_end|>')
    choice = await choice_of(suite, tools=tools)
    assert choice["finish_reason"] == "tool_calls"
    [made] = choice["message"]["tool_calls"]
    assert made["id"] == "functions.get_weather:0"
    assert made["function"] == {"name": "get_weather", "arguments": '{"city":"Oslo"}'}
