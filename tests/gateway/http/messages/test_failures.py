"""Failures of /v1/messages have the form of its protocol."""

from __future__ import annotations

import msgspec
import pytest

from services.gateway.http.messages.shapes.errors import MessagesErrorAnswer
from tests.gateway.http.messages.talk import VERSION, WRITE_FILE, events, message_body, post
from tests.gateway.suite import open_suite

USER = "user"
DOCUMENT = {"type": "document", "source": {"type": "text", "data": "x", "media_type": "text/plain"}}
RESULT = {"type": "tool_result", "tool_use_id": "t", "content": [DOCUMENT]}
CALLED = {"type": "tool_use", "id": "t1", "name": "write_file", "input": {}}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "!"}}


def failure(answer, status):
    """The error of an answer, after checking its form."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    msgspec.convert(body, MessagesErrorAnswer, strict=True)
    assert body["request_id"] == answer.headers["request-id"] == answer.headers["x-request-id"]
    return body["error"]


def turns(role, *blocks):
    return {"messages": [{"role": role, "content": list(blocks)}]}


WRONG = {
    "max_tokens is missing": ({"max_tokens": None}, "max_tokens"),
    "a temperature out of range": ({"temperature": 9}, "temperature"),
    "a stop sequence that is none": ({"stop_sequences": [1]}, "stop_sequences[0]"),
    "no messages": ({"messages": []}, "messages"),
    "a document": (turns(USER, DOCUMENT), "messages[0].content[0]: documents are not supported"),
    "a document in a result": (turns(USER, RESULT), "messages[0].content[0].content[0]: documents"),
    "an image of the assistant": (turns("assistant", IMAGE), "messages[0].content[0]"),
    "a call of the user": (turns(USER, CALLED), "messages[0].content[0]"),
    "a call without its result": (turns("assistant", CALLED), "messages[0]"),
    "a damaged image": (turns(USER, IMAGE), "messages[0].content[0].source.data"),
    "a block of no type": (turns(USER, {"text": "x"}), "messages[0].content[0]"),
    "an unknown block": (turns(USER, {"type": "audio"}), "messages[0].content[0]"),
    "a role": ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
    "a tool without a name": ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
    "a call of no tool": ({"tool_choice": {"type": "any"}}, "tool_choice"),
    "a call of an unknown tool": (
        {"tools": [WRITE_FILE], "tool_choice": {"type": "tool", "name": "x"}},
        "tool_choice.name",
    ),
    "a schema that is wrong": (
        {"tools": [{"name": "x", "input_schema": {"type": 7}}], "tool_choice": {"type": "any"}},
        "tools[0].input_schema",
    ),
}


@pytest.mark.parametrize(("fields", "said"), WRONG.values(), ids=WRONG)
async def test_what_is_wrong_is_named(suite, fields, said):
    error = failure(await post(suite, **fields), 400)
    assert error["type"] == "invalid_request_error"
    assert said in error["message"]
    assert not suite.decode.submits


async def test_a_prompt_that_is_too_long_is_said_as_agents_recognise_it(suite):
    long = {"messages": [{"role": "user", "content": "word " * 8190}]}
    error = failure(await post(suite, **long), 400)
    assert error["type"] == "invalid_request_error"
    begin, _, rest = error["message"].partition(": ")
    count, _, most = rest.partition(" tokens > ")
    assert (begin, most) == ("prompt is too long", "8192 maximum")
    assert int(count) > 8192
    longest = {"messages": [{"role": "user", "content": "x" * 5_000_000}]}
    assert failure(await post(suite, **longest), 400)["message"].startswith("prompt is too long: ")


async def test_unknown_models_and_routes_and_methods_are_answered_in_its_form(suite):
    assert failure(await post(suite, model="nobody"), 404)["type"] == "not_found_error"
    for method, path, status in (
        ("GET", "/v1/messages", 405),
        ("POST", "/v1/messages/batches", 404),
        ("DELETE", "/v1/messages/count_tokens", 405),
        ("GET", "/v1/models/nobody", 404),
    ):
        error = failure(await suite.http.request(method, path, headers=VERSION), status)
        assert error["type"] == ("not_found_error" if status == 404 else "invalid_request_error")
    plain = (await suite.http.get("/v1/models/nobody")).json()
    assert plain["error"]["code"] == "model_not_found"


async def test_overload_says_when_to_come_back():
    async with open_suite(max_concurrent_requests=1) as suite:
        suite.decode.step_s = 3600.0
        async with suite.http.stream("POST", "/v1/messages", json=message_body(stream=True)) as first:
            assert first.status_code == 200
            answer = await post(suite)
            assert failure(answer, 429)["type"] == "rate_limit_error"
            assert answer.headers["retry-after"] == "1"


async def test_a_failure_in_a_stream_is_its_last_event():
    async with open_suite(max_failovers=0) as suite:
        suite.say("word " * 100)
        suite.decode.fail_after = 5
        stream = await events(suite)
        assert [event["type"] for event in stream].count("message_stop") == 0
        assert stream[-1]["type"] == "error"
        assert stream[-1]["error"]["type"] == "overloaded_error"
        assert suite.workers["decode0"].address in stream[-1]["error"]["message"]


async def test_a_body_that_is_no_json_is_refused(suite):
    answer = await suite.http.post("/v1/messages", content=b"{", headers=VERSION)
    assert failure(answer, 400)["type"] == "invalid_request_error"
