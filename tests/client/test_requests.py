"""Requests built from plain values."""

from __future__ import annotations

import pytest

from perigee.client import InvalidRequest, conversation
from perigee.client.requests import chat_request, generate_request
from perigee.v1 import chat_pb2, sampling_pb2


def test_fields_of_the_request_and_of_sampling_are_given_by_name():
    request = chat_request(
        "Hi", {"thinking": False, "temperature": 0, "stop": ["a"], "logit_bias": {3: -1.0}}
    )
    assert request.messages[0] == chat_pb2.Message(role="user", content=[chat_pb2.ContentPart(text="Hi")])
    assert request.HasField("thinking")
    assert not request.thinking
    assert request.sampling.HasField("temperature")
    assert (list(request.sampling.stop), dict(request.sampling.logit_bias)) == (["a"], {3: -1.0})


def test_none_leaves_a_field_absent_and_a_whole_sampling_is_merged():
    sampling = sampling_pb2.SamplingParams(top_p=0.5)
    request = chat_request("Hi", {"temperature": None, "sampling": sampling, "seed": 4})
    assert not request.sampling.HasField("temperature")
    assert (request.sampling.top_p, request.sampling.seed) == (0.5, 4)
    assert not sampling.HasField("seed")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_token": 5}, r"no field 'max_token'; did you mean max_tokens\?"),
        ({"zzzz": 5}, "no field 'zzzz'$"),
        ({"max_tokens": "many"}, "max_tokens: "),
        ({"max_tokens": -1}, "max_tokens: "),
    ],
)
def test_a_wrong_field_is_named(fields, message):
    with pytest.raises(TypeError, match=message):
        chat_request("Hi", fields)
    with pytest.raises(TypeError, match=message):
        generate_request("Hi", fields)


def test_a_text_in_place_of_several_is_one_of_them():
    assert list(chat_request("Hi", {"stop": "END"}).sampling.stop) == ["END"]
    assert list(generate_request("Hi", {"stop": "END"}).sampling.stop) == ["END"]
    assert list(chat_request("Hi", {"allowed_tools": "weather"}).allowed_tools) == ["weather"]
    with pytest.raises(TypeError, match="stop_token_ids: "):
        chat_request("Hi", {"stop_token_ids": "12"})


@pytest.mark.parametrize("prompt", [b"Hi", bytearray(b"Hi"), memoryview(b"Hi")])
def test_bytes_are_no_token_ids(prompt):
    with pytest.raises(TypeError, match="the prompt is bytes"):
        generate_request(prompt, {})


def test_a_ready_request_takes_no_more_fields():
    with pytest.raises(TypeError, match="seed: a ready ChatRequest"):
        chat_request(chat_pb2.ChatRequest(), {"seed": 1})


def test_tools_are_dicts_or_messages():
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
    function = {"name": "weather", "description": "The weather", "parameters": parameters, "strict": True}
    request = chat_request(
        "Hi", {"tools": [{"type": "function", "function": function}, chat_pb2.Tool(name="f")]}
    )
    first, second = request.tools
    assert (first.name, first.description, first.strict) == ("weather", "The weather", True)
    assert first.parameters_json == '{"type": "object", "properties": {"city": {"type": "string"}}}'
    assert second == chat_pb2.Tool(name="f")


def test_a_schema_is_a_dict_or_json():
    assert generate_request("Hi", {"json_schema": {"type": "object"}}).json_schema == '{"type": "object"}'
    assert generate_request([1, 2], {"json_schema": "{}"}).token_ids.ids == [1, 2]
    assert (
        chat_request("Hi", {"response_format": {"type": "text"}}).response_format_json == '{"type": "text"}'
    )


def test_openais_messages_become_messages():
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    system, assistant, tool = conversation(
        [
            {"role": "system", "content": "Be brief.", "name": "s"},
            {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "ok"}]},
        ]
    )
    assert (system.role, system.name, system.content[0].text) == ("system", "s", "Be brief.")
    assert (list(assistant.content), assistant.reasoning_content) == ([], "hm")
    assert assistant.tool_calls[0] == chat_pb2.ToolCall(id="1", name="f", arguments="{}")
    assert (tool.tool_call_id, tool.content[0].text) == ("1", "ok")


def test_a_video_is_bytes_or_a_url():
    parts = [{"type": "video", "data": b"v"}, {"type": "video_url", "video_url": {"url": "data:x"}}]
    [message] = conversation([{"role": "user", "content": parts}])
    assert [part.video.WhichOneof("source") for part in message.content] == ["data", "url"]


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([3], "messages[0]"),
        ([{"role": "user"}, {"role": "user", "text": "x"}], "messages[1].text"),
        ([{"role": 3}], "messages[0].role"),
        ([{"role": "user", "content": 3}], "messages[0].content"),
        ([{"role": "user", "content": {"type": "text", "text": "x"}}], "messages[0].content"),
        ([{"role": "user", "content": ["x", {"type": "text"}]}], "messages[0].content[1]"),
        ([{"role": "user", "content": [{"type": "image", "data": "x"}]}], "messages[0].content[0]"),
        ([{"role": "assistant", "tool_calls": [{}]}], "messages[0].tool_calls[0].name"),
        ([{"role": "assistant", "tool_calls": ["x"]}], "messages[0].tool_calls[0]"),
    ],
)
def test_a_wrong_message_is_refused_before_the_call_and_named(messages, param):
    with pytest.raises(InvalidRequest) as raised:
        conversation(messages)
    assert raised.value.param == param
    assert param.partition(".")[0] in raised.value.message


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({"type": "function"}, "tools[0]"),
        ({"type": "custom", "name": "shell"}, "tools[0].type"),
        ({"type": "web_search", "function": {"name": "f"}}, "tools[0].type"),
    ],
)
def test_a_wrong_tool_is_refused_before_the_call_and_named(tool, param):
    with pytest.raises(InvalidRequest) as raised:
        chat_request("Hi", {"tools": [tool]})
    assert raised.value.param == param
