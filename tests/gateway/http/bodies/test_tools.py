"""Tools as callers declare them, and the choice among them."""

from __future__ import annotations

import json

import grpc
import pytest

from perigee.v1 import chat_pb2, chat_pb2_grpc
from services.common.errors import InvalidRequest
from services.common.rpc.status import from_rpc_error
from tests.gateway.tools import PARIS, TOOLS, call, section, tool

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
FUNCTION = {"name": "get_weather", "parameters": PARAMETERS}
NATIVE = {"type": "function", "function": FUNCTION}


async def prompt_of(suite, **body):
    answer = await suite.http.post(
        "/tokenize", json={"messages": [{"role": "user", "content": "Hi"}], **body}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["text"]


@pytest.mark.parametrize(
    "given",
    [
        {"type": "function", **FUNCTION},
        {**FUNCTION},
        {"type": None, **FUNCTION},
        {"function": FUNCTION},
        {"type": None, "function": FUNCTION},
        {"type": "function", "strict": True, **FUNCTION},
    ],
    ids=str,
)
async def test_a_flat_function_and_one_without_a_type_are_declared_and_can_be_called(suite, given):
    assert await prompt_of(suite, tools=[given]) == await prompt_of(suite, tools=[NATIVE])
    suite.say(f"</think>{section(call('get_weather', 0, PARIS))}")
    choice = (await suite.chat(tools=[given], tool_choice="required")).json()["choices"][0]
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": PARIS}
    assert "functions.get_weather:" in suite.decode.submits[-1].constraint.grammar


@pytest.mark.parametrize(
    ("given", "param", "code"),
    [
        ({"type": "bogus", "function": FUNCTION}, "tools[1].type", "unsupported_value"),
        ({"type": "custom", "custom": {"name": "f"}}, "tools[1].type", "unsupported_value"),
        ({"type": "custom", "name": "f"}, "tools[1].type", "unsupported_value"),
        ({"type": "web_search"}, "tools[1].type", "unsupported_value"),
        (
            {"type": "builtin_function", "function": {"name": "$web_search"}},
            "tools[1].type",
            "unsupported_value",
        ),
        ({"type": 5, "function": FUNCTION}, "tools[1].type", "unsupported_value"),
        ({"type": "function", "function": {**FUNCTION, "strict": "yes"}}, "tools[1].function.strict", None),
        ({"type": "function", "function": {**FUNCTION, "strict": 1}}, "tools[1].function.strict", None),
        ({**FUNCTION, "strict": "true"}, "tools[1].strict", None),
        ({"function": {**FUNCTION, "description": 5}}, "tools[1].function.description", None),
        ({**FUNCTION, "description": ["A", "b"]}, "tools[1].description", None),
        ({"type": "function"}, "tools[1].function", None),
        ({}, "tools[1].function", None),
        ({"type": "function", "function": "get_weather"}, "tools[1].function", None),
        ({"name": "f", "input_schema": PARAMETERS}, "tools[1].input_schema", "unsupported_value"),
        ({"type": "function", "function": {"parameters": PARAMETERS}}, "tools[1].function.name", None),
    ],
    ids=str,
)
@pytest.mark.parametrize("choice", ["auto", "required"])
async def test_a_tool_that_nobody_could_call_is_refused_by_name(suite, given, param, code, choice):
    answer = await suite.chat(tools=[TOOLS[0], given], tool_choice=choice)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == (param, code)


async def test_such_a_tool_is_refused_over_grpc_too(suite):
    request = chat_pb2.ChatRequest(
        messages=[chat_pb2.Message(role="user", content=[chat_pb2.ContentPart(text="Hi")])],
        tools_json=json.dumps([{"type": "web_search"}]),
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await chat_pb2_grpc.ChatServiceStub(suite.channel).Complete(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "tools_json[0].type" in caught.value.details()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [chat_pb2.Tool(name="f")], "allowed_tools": ["f", "g"]}, "allowed_tools"),
        ({"allowed_tools": ["f"]}, "allowed_tools"),
        ({"tools": [chat_pb2.Tool(name="f")], "tool_choice": "function", "tool_name": "g"}, "tool_name"),
        ({"tool_choice": "function", "tool_name": "g"}, "tool_name"),
        ({"tool_choice": "required"}, "tool_choice"),
    ],
    ids=str,
)
async def test_over_grpc_the_field_with_the_name_of_no_tool_is_named(suite, fields, param):
    request = chat_pb2.ChatRequest(
        messages=[chat_pb2.Message(role="user", content=[chat_pb2.ContentPart(text="Hi")])], **fields
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await chat_pb2_grpc.ChatServiceStub(suite.channel).Complete(request)
    raised = from_rpc_error(caught.value)
    assert isinstance(raised, InvalidRequest)
    assert raised.param == param


THREE = [tool("a"), tool("b"), tool("c")]
NESTED = [{"type": "function", "function": {"name": name}} for name in ("a", "c")]
FLAT = [{"type": "function", "name": name} for name in ("a", "c")]
FORMS = [
    lambda mode: {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": NESTED}},
    lambda mode: {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": FLAT}},
    lambda mode: {"type": "allowed_tools", "mode": mode, "tools": FLAT},
    lambda mode: {"type": "allowed_tools", "mode": mode, "tools": NESTED},
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mode", ["auto", "required"])
async def test_only_allowed_tools_can_be_called_and_all_stay_declared(suite, form, mode):
    choice = form(mode)
    assert await prompt_of(suite, tools=THREE, tool_choice=choice) == await prompt_of(suite, tools=THREE)
    suite.say(f"</think>{section(call('b', 0, '{}'), call('c', 1, '{}'))}")
    answer = (await suite.chat(tools=THREE, tool_choice=choice)).json()["choices"][0]
    assert [made["function"]["name"] for made in answer["message"]["tool_calls"]] == ["c"]
    constraint = suite.decode.submits[-1].constraint
    assert constraint.waits_for_section is (mode == "auto")
    assert [name in constraint.grammar for name in ("functions.a:", "functions.b:", "functions.c:")] == [
        True,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("choice", "param"),
    [
        ({"type": "allowed_tools"}, "tool_choice.mode"),
        ({"type": "allowed_tools", "mode": "none", "tools": FLAT}, "tool_choice.mode"),
        ({"type": "allowed_tools", "allowed_tools": {"tools": FLAT}}, "tool_choice.allowed_tools.mode"),
        ({"type": "allowed_tools", "allowed_tools": []}, "tool_choice.allowed_tools"),
        ({"type": "allowed_tools", "mode": "auto", "tools": []}, "tool_choice.tools"),
        ({"type": "allowed_tools", "mode": "auto", "tools": "a"}, "tool_choice.tools"),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [FLAT[0], {"type": "mcp", "name": "x"}]},
            "tool_choice.tools[1]",
        ),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function"}]}, "tool_choice.tools[0]"),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "d"}]},
            "tool_choice",
        ),
        ({"type": "function", "function": {}}, "tool_choice"),
        ({"type": "custom", "custom": {"name": "a"}}, "tool_choice"),
    ],
    ids=str,
)
async def test_a_choice_that_is_none_is_refused_by_name(suite, choice, param):
    answer = await suite.chat(tools=THREE, tool_choice=choice)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_allowed_tools_need_declared_ones(suite):
    for mode in ("auto", "required"):
        answer = await suite.chat(tool_choice=FORMS[0](mode))
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tool_choice")


@pytest.mark.parametrize(
    "choice", [{"type": "function", "name": "b"}, {"type": "function", "function": {"name": "b"}}]
)
async def test_a_function_may_be_chosen_in_both_forms(suite, choice):
    """A guard for the nested form."""
    assert (await suite.chat(tools=THREE, tool_choice=choice)).status_code == 200
    assert "functions.b:" in suite.decode.submits[-1].constraint.grammar
    assert "functions.a:" not in suite.decode.submits[-1].constraint.grammar


async def test_allowed_tools_over_grpc(suite):
    def request(**fields):
        message = chat_pb2.Message(role="user", content=[chat_pb2.ContentPart(text="Hi")])
        return chat_pb2.ChatRequest(messages=[message], tools_json=json.dumps(THREE), **fields)

    stub = chat_pb2_grpc.ChatServiceStub(suite.channel)
    suite.say(f"</think>{section(call('b', 0, '{}'), call('c', 1, '{}'))}")
    answer = await stub.Complete(request(allowed_tools=["a", "c"], tool_choice="required"))
    assert [made.name for made in answer.choices[0].tool_calls] == ["c"]
    for wrong in (request(allowed_tools=["d"]), request(allowed_tools=["a"], tool_choice="none")):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Complete(wrong)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
