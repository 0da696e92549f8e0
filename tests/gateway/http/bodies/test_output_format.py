"""Tools, tool_choice, response_format, regex and ebnf: what reaches the decode worker, over both doors."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import grpc
import pydantic
import pytest

from perigee.v1 import chat_pb2, chat_pb2_grpc, generation_pb2, generation_pb2_grpc
from tests.gateway.suite import joined

WEATHER = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}]
NAMED = {"type": "function", "function": {"name": "get_weather"}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "w", "schema": WEATHER, "strict": True}}
UNIQUE = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}
CALL = (
    "Let me see.</think><|tool_calls_section_begin|><|tool_call_begin|>functions.f:0"
    "<|tool_call_argument_begin|>"
    '{"a": %s}<|tool_call_end|><|tool_calls_section_end|>'
)


async def constraint_of(suite, **body):
    suite.decode.submits.clear()
    answer = await suite.chat(**body)
    assert answer.status_code == 200, answer.text
    submit = suite.decode.submits[-1]
    return submit.constraint if submit.HasField("constraint") else None


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]
    name: str


class Home(pydantic.BaseModel):
    pet: Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]


async def test_a_union_with_a_discriminator_is_enforced(suite):
    schema = Home.model_json_schema()
    assert "oneOf" in schema["properties"]["pet"]
    tool = {"type": "function", "function": {"name": "f", "parameters": schema, "strict": True}}
    for body in (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "home", "schema": schema}}},
        {"tools": [tool]},
        {"tools": [tool], "tool_choice": "required"},
    ):
        assert "lives" in (await constraint_of(suite, **body)).grammar


async def test_a_plain_chat_is_not_constrained(suite):
    assert await constraint_of(suite) is None
    assert await constraint_of(suite, response_format={"type": "text"}, regex="", ebnf=None) is None
    assert await constraint_of(suite, tools=TOOLS, tool_choice="none") is None


async def test_declared_tools_are_held_to_their_schemas_once_a_section_begins(suite):
    constraint = await constraint_of(suite, tools=TOOLS)
    assert constraint.waits_for_section
    assert constraint.in_reasoning
    assert "functions.get_weather:" in constraint.grammar


@pytest.mark.parametrize("choice", ["required", NAMED])
async def test_a_call_that_must_come_waits_for_nothing(suite, choice):
    thinking = {"type": "disabled"}
    constraint = await constraint_of(suite, tools=TOOLS, tool_choice=choice, thinking=thinking)
    assert constraint.has_section
    assert not constraint.waits_for_section
    assert not constraint.in_reasoning


@pytest.mark.parametrize(
    "body",
    [
        {"response_format": {"type": "json_object"}},
        {"response_format": SCHEMA},
        {"regex": "[a-z]+"},
        {"ebnf": 'root ::= "yes" | "no"'},
    ],
)
async def test_an_answer_of_a_given_form_needs_no_tools(suite, body):
    constraint = await constraint_of(suite, **body)
    assert constraint.grammar
    assert not constraint.has_section


async def test_both_doors_ask_for_the_same(suite):
    bodies = [
        ({"tools": TOOLS, "tool_choice": "required"}, {"tool_choice": "required"}),
        ({"tools": TOOLS, "tool_choice": NAMED}, {"tool_choice": "function", "tool_name": "get_weather"}),
        ({"tools": TOOLS, "parallel_tool_calls": False}, {"parallel_tool_calls": False}),
        ({"tools": TOOLS, "tool_choice": "none"}, {"tool_choice": "none"}),
        ({"tools": TOOLS, "response_format": SCHEMA}, {"response_format_json": json.dumps(SCHEMA)}),
        ({"tools": TOOLS, "regex": "a+"}, {"regex": "a+"}),
        ({"tools": TOOLS, "ebnf": 'root ::= "a"'}, {"ebnf": 'root ::= "a"'}),
    ]
    chat = chat_pb2_grpc.ChatServiceStub(suite.channel)
    message = chat_pb2.Message(role="user", content=[chat_pb2.ContentPart(text="Hi")])
    for rest, fields in bodies:
        wanted = await constraint_of(suite, **rest)
        await chat.Complete(chat_pb2.ChatRequest(messages=[message], tools_json=json.dumps(TOOLS), **fields))
        submit = suite.decode.submits[-1]
        assert (submit.constraint if submit.HasField("constraint") else None) == wanted


async def test_a_raw_prompt_can_be_held_to_a_form_over_grpc(suite):
    generate = generation_pb2_grpc.GenerationServiceStub(suite.channel)
    for fields in ({"json_schema": json.dumps(WEATHER)}, {"regex": "a+"}, {"ebnf": 'root ::= "a"'}):
        await generate.Generate(generation_pb2.GenerateRequest(text="Hi", **fields))
        constraint = suite.decode.submits[-1].constraint
        assert constraint.grammar
        assert not constraint.in_reasoning


FORMS = [{"json_schema": json.dumps(WEATHER)}, {"json_schema": WEATHER}, {"regex": "a+"}]
FORMS += [{"ebnf": 'root ::= "a"'}]


@pytest.mark.parametrize("form", [*FORMS, {"response_format": SCHEMA}])
async def test_a_completion_can_be_held_to_a_form(suite, form):
    answer = await suite.http.post("/v1/completions", json={"prompt": "Hi", **form})
    assert answer.status_code == 200, answer.text
    assert suite.decode.submits[-1].constraint.grammar


@pytest.mark.parametrize("form", FORMS)
async def test_a_prompt_of_generate_can_be_held_to_a_form(suite, form):
    answer = await suite.http.post("/generate", json={"text": "Hi", "sampling_params": form})
    assert answer.status_code == 200, answer.text
    assert suite.decode.submits[-1].constraint.grammar


@pytest.mark.parametrize(
    "fields",
    [
        {"tool_choice": "sometimes"},
        {"tool_choice": "function"},
        {"tool_name": "f"},
        {"response_format_json": "{"},
        {"regex": "a", "ebnf": 'root ::= "a"'},
    ],
)
async def test_a_wrong_wish_over_grpc_is_an_invalid_argument(suite, fields):
    message = chat_pb2.Message(role="user", content=[chat_pb2.ContentPart(text="Hi")])
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await chat_pb2_grpc.ChatServiceStub(suite.channel).Complete(
            chat_pb2.ChatRequest(messages=[message], **fields)
        )
    assert refusal.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "f"}}])
async def test_a_schema_that_cannot_be_enforced_is_a_400_before_any_worker_is_asked(suite, choice):
    tools = [{"type": "function", "function": {"name": "f", "parameters": UNIQUE}}]
    answer = await suite.chat(tools=tools, tool_choice=choice)
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert error["param"] == "tools[0].function.parameters.properties.a"
    assert error["code"] == "unsupported_value"
    assert "uniqueItems" in error["message"]
    assert suite.decode.submits == []


async def test_under_auto_a_finished_call_that_is_not_valid_becomes_the_documented_error(suite):
    tools = [{"type": "function", "function": {"name": "f", "parameters": UNIQUE}}]
    suite.say(CALL % "[1, 2]")
    assert (await suite.chat(tools=tools)).status_code == 200
    suite.say(CALL % "[1, 1]")
    answer = await suite.chat(tools=tools)
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "invalid_tool_call"
    assert "arguments.a" in answer.json()["error"]["message"]
    chunks = await suite.stream(tools=tools)
    assert chunks[-1]["error"]["code"] == "invalid_tool_call"
    shown = joined(chunks[:-1], "content")
    assert "[1" not in shown
    metrics = (await suite.http.get("/metrics")).text
    assert "perigee_invalid_tool_calls_total 2.0" in metrics
