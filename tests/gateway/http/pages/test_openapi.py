"""The description of the door, compared with the door."""

import json
import re

import msgspec
import pytest
from jsonschema import Draft202012Validator
from starlette.routing import Route

from services.gateway.http.messages.shapes.errors import MessagesErrorAnswer
from services.gateway.http.messages.shapes.events import MessageEvent
from services.gateway.http.messages.shapes.message import AssistantMessage, CountAnswer
from services.gateway.http.operations import EVENTS, JSON
from services.gateway.http.shapes.chat import ChatAnswer
from services.gateway.http.shapes.chat_chunk import ChatChunk
from services.gateway.http.shapes.completion import CompletionAnswer
from services.gateway.http.shapes.errors import ErrorAnswer
from services.gateway.http.shapes.generate import GenerateAnswer
from services.gateway.http.shapes.server import (
    HealthAnswer,
    ModelAnswer,
    ModelInfo,
    ModelsAnswer,
    ServerInfo,
    TokenizerInfo,
)
from services.gateway.http.shapes.tokenize import DetokenizeAnswer, TokenizeAnswer
from tests.gateway.http.messages.talk import parsed
from tests.gateway.suite import parse_events


@pytest.fixture
async def document(suite):
    return (await suite.http.get("/openapi.json")).json()


async def test_every_route_and_method_is_described_and_nothing_else(suite, document):
    app = suite.gateway._http._server.config.app
    there = {
        (route.path.replace(":path}", "}"), method)
        for route in app.routes
        if isinstance(route, Route)
        for method in route.methods - {"HEAD"}
    }
    described = {(path, method.upper()) for path, item in document["paths"].items() for method in item}
    assert there == described
    assert len(there) > 15


async def test_every_reference_leads_somewhere_and_every_name_of_an_operation_is_its_own(document):
    def references(node):
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                yield node["$ref"]
            for each in node.values():
                yield from references(each)
        elif isinstance(node, list):
            for each in node:
                yield from references(each)

    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= known
    names = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(names) == len(set(names))
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


async def test_every_field_a_chat_takes_is_described(document):
    fields = document["components"]["schemas"]["ChatBody"]["properties"]
    assert {"messages", "temperature", "max_completion_tokens", "thinking", "user", "priority"} <= set(fields)


def exactly(document, kind):
    return msgspec.convert(document, kind, strict=True)


ASKED = {"logprobs": True, "top_logprobs": 1, "stream": False}


async def test_every_answer_has_exactly_the_fields_described(suite):
    http = suite.http
    exactly((await suite.chat(**ASKED)).json(), ChatAnswer)
    for chunk in await suite.stream(logprobs=True, stream_options={"include_usage": True}):
        exactly(chunk, ChatChunk)
    posted = {
        "/v1/completions": (
            {"prompt": "x y", "logprobs": 1, "echo": True, "prompt_logprobs": 1},
            CompletionAnswer,
        ),
        "/generate": (
            {"text": "x y", "return_logprob": True, "top_logprobs_num": 1, "logprob_start_len": 0},
            GenerateAnswer,
        ),
        "/tokenize": ({"prompt": "x"}, TokenizeAnswer),
        "/detokenize": ({"tokens": [1]}, DetokenizeAnswer),
    }
    for path, (body, kind) in posted.items():
        exactly((await http.post(path, json=body)).json(), kind)
    for path, kind in {
        "/v1/models": ModelsAnswer,
        "/v1/models/kimi": ModelAnswer,
        "/model_info": ModelInfo,
        "/server_info": ServerInfo,
        "/tokenizer_info": TokenizerInfo,
        "/health": HealthAnswer,
        "/ready": HealthAnswer,
        "/v1/models/nobody": ErrorAnswer,
        "/nowhere": ErrorAnswer,
        "/generate": ErrorAnswer,
    }.items():
        exactly((await http.get(path)).json(), kind)
    message = {"messages": [HI], "max_tokens": 5}
    exactly((await http.post(MESSAGES, json=message)).json(), AssistantMessage)
    exactly((await http.post(COUNT, json=message)).json(), CountAnswer)
    exactly((await http.post(MESSAGES, json={})).json(), MessagesErrorAnswer)
    for event in parsed((await http.post(MESSAGES, json=message | {"stream": True})).text):
        exactly(event, MessageEvent)
    for path in ("/v1/completions", "/generate"):
        body = {"prompt": "x", "text": "x", "stream": True}
        kind = GenerateAnswer if path == "/generate" else CompletionAnswer
        for event in parse_events((await http.post(path, json=body)).text):
            exactly(event, kind)


def validator(document, schema):
    """A validator of one schema of the document, which may refer to others."""
    return Draft202012Validator({**schema, "components": document["components"]})


def described(document, path, method="post"):
    """The schemas of a route's body, its answer and an event of its stream, if it has them."""
    operation = document["paths"][path][method]
    contents = (operation.get("requestBody", {"content": {}}), operation["responses"]["200"])
    body, answers = (each["content"] for each in contents)
    return [
        validator(document, content[kind]["schema"]) if kind in content else None
        for content, kind in ((body, JSON), (answers, JSON), (answers, EVENTS))
    ]


HI = {"role": "user", "content": "Hi"}
CALL = {"id": "c", "type": "function", "function": {"name": "add", "arguments": "{}"}}
ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
FLAT = {"type": "function", "name": "add"}
CHATS, TEXTS, GENERATE = "/v1/chat/completions", "/v1/completions", "/generate"
MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"
RIGHT = [
    (CHATS, {"messages": [HI], "temperature": 2, "top_p": 1, "top_k": -1, "seed": -1, "n": 16}),
    (CHATS, {"messages": [HI], "stop": ["a"], "logit_bias": {"5": 100}, "priority": -1000, "echo": False}),
    (
        CHATS,
        {"messages": [HI], "lora_path": [None], "truncation_side": "left", "documents": [], "best_of": 1},
    ),
    (CHATS, {"messages": [HI], "thinking": {"type": "disabled"}, "reasoning": {"effort": "low", "x": None}}),
    (CHATS, {"messages": [HI], "tools": [ADD], "tool_choice": {"type": "function", "name": "add"}}),
    (CHATS, {"messages": [HI], "tools": [FLAT], "tool_choice": "required"}),
    (
        CHATS,
        {
            "messages": [HI],
            "tools": [ADD],
            "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [FLAT]}},
        },
    ),
    (
        CHATS,
        {
            "messages": [HI],
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": {"type": "object"}},
            },
        },
    ),
    (
        CHATS,
        {
            "messages": [
                HI,
                {"role": "assistant", "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "c", "content": "1"},
            ]
        },
    ),
    (CHATS, {"messages": [{"role": "assistant", "content": [{"type": "refusal", "refusal": "No"}]}]}),
    (
        CHATS,
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "image_url": {"b": 1}}]}]},
    ),
    (CHATS, {"messages": [HI], "stream": True, "stream_options": {"include_obfuscation": False}}),
    (TEXTS, {"prompt": [1, 2.0]}),
    (TEXTS, {"prompt": [[1], [2]], "max_tokens": 0}),
    (TEXTS, {"prompt": ["a", "b"], "json_schema": True, "guided_json": {}}),
    (GENERATE, {"text": "a", "input_ids": None, "sampling_params": {"stop_token_ids": [0], "beam_width": 1}}),
    (GENERATE, {"input_ids": [[1, 2], [3]], "stream_interval": 1, "image_data": [None]}),
    ("/tokenize", {"prompt": "a", "truncate_prompt_tokens": 0}),
    ("/tokenize", {"messages": [HI]}),
    ("/detokenize", {"tokens": [0, 1]}),
    (MESSAGES, {"messages": [HI], "max_tokens": 0, "temperature": 2, "top_k": -1, "stop_sequences": ["a"]}),
    (
        MESSAGES,
        {
            "messages": [HI, {"role": "assistant", "content": [{"type": "text", "text": "a"}]}],
            "max_tokens": 1,
            "system": [{"type": "text", "text": "S", "cache_control": {"type": "ephemeral"}}],
            "tools": [{"name": "add", "input_schema": {"type": "object"}}, {"type": "bash_20250124"}],
            "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
            "thinking": {"type": "enabled", "budget_tokens": 1024},
        },
    ),
    (COUNT, {"messages": [HI]}),
]
WRONG = [
    (CHATS, {"messages": []}),
    (CHATS, {"messages": [{"role": "narrator", "content": "Hi"}]}),
    (CHATS, {"messages": [{"role": "tool", "content": "1"}]}),
    (CHATS, {"messages": [{"role": "user", "content": [{"type": "text"}]}]}),
    (CHATS, {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"urls": "x"}}]}]}),
    (CHATS, {"messages": [{"role": "user", "content": [{"type": "song", "text": "la"}]}]}),
    (CHATS, {"messages": [{"role": "assistant", "tool_calls": [{**CALL, "type": "custom"}]}]}),
    *((CHATS, {"messages": [HI], **wrong}) for wrong in (
        {"temperature": 2.1}, {"top_p": 0}, {"top_k": -2}, {"n": 17}, {"stop": [""]}, {"stop": ["x"] * 17},
        {"logit_bias": {"x": 1}}, {"logit_bias": {"1": 101}}, {"stop_token_ids": [1 << 40]},
        {"max_tokens": -1}, {"max_completion_tokens": -1}, {"top_logprobs": 21}, {"priority": 1001},
        {"cache_salt": "x" * 257}, {"reasoning_effort": "huge"}, {"lora_path": "x"}, {"echo": True},
        {"guided_json": {}}, {"verbosity": "low"}, {"prompt_logprobs": -1}, {"thinking": {"budget": 1}},
        {"stream": True, "stream_options": {"other": 1}}, {"reasoning": {"exclude": True}},
        {"chat_template_kwargs": {"reasoning_effort": "huge"}}, {"response_format": {"type": "xml"}},
        {"response_format": {"type": "json_schema"}}, {"tools": [{"type": "custom", "name": "x"}]},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
        {"tools": [{"type": "function", "function": {"name": " x"}}]}, {"tools": [{"type": "function"}]},
        {"tools": [ADD], "tool_choice": "any"}, {"tools": [ADD], "tool_choice": {"type": "allowed_tools"}},
    )),
    *((MESSAGES, {"messages": [HI], "max_tokens": 1, **wrong}) for wrong in (
        {"messages": []}, {"max_tokens": None}, {"max_tokens": -1}, {"temperature": 2.1}, {"top_p": 0},
        {"top_k": -2}, {"stop_sequences": [""]}, {"stop_sequences": ["x"] * 17}, {"stop_sequences": "x"},
        {"messages": [{"role": "tool", "content": "1"}]}, {"thinking": {"type": "huge"}},
        {"messages": [{"role": "user", "content": [{"type": "song"}]}]}, {"tool_choice": {"type": "all"}},
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]}, {"tools": {}},
    )),
    (COUNT, {"messages": []}),
    (TEXTS, {"prompt": ""}),
    (TEXTS, {"prompt": []}),
    (TEXTS, {"prompt": ["a", 1]}),
    (TEXTS, {"prompt": [[]]}),
    (TEXTS, {"prompt": ["a"] * 65}),
    (TEXTS, {"prompt": [1 << 40]}),
    (TEXTS, {"prompt": "a", "suffix": "b"}),
    (GENERATE, {}),
    (GENERATE, {"text": "a", "input_ids": [1]}),
    (GENERATE, {"text": "a", "sampling_params": {"beam_width": 2}}),
    (GENERATE, {"text": "a", "sampling_params": {"stop_regex": "x"}}),
    ("/tokenize", {"prompt": "a", "messages": [HI]}),
    ("/tokenize", {"prompt": "a", "return_token_strs": True}),
    ("/detokenize", {"tokens": [-1]}),
]  # fmt: skip


async def test_right_bodies_are_right_by_the_description(suite, document):
    """A guard: the description is not too strict."""
    for path, body in RIGHT:
        described(document, path)[0].validate(body)
        answer = await suite.http.post(path, json=body)
        assert answer.status_code == 200, (body, answer.text)


async def test_bodies_that_are_refused_are_wrong_by_the_description(suite, document):
    for path, body in WRONG:
        assert not described(document, path)[0].is_valid(body), body
        assert (await suite.http.post(path, json=body)).status_code == 400, body


@pytest.mark.parametrize(("path", "body"), [
    (CHATS, {"messages": [HI]}), (TEXTS, {"prompt": "x"}), (GENERATE, {"text": "x"}),
])  # fmt: skip
async def test_events_are_as_described_an_error_among_them(suite, document, path, body):
    _, answer, event = described(document, path)
    answer.validate((await suite.http.post(path, json=body)).json())
    texts = (await suite.http.post(path, json={**body, "stream": True})).text.split("\n\n")[:-1]
    data = [text.removeprefix("data: ") for text in texts]
    assert data[-1] == "[DONE]"
    [mark, document_of] = event.schema["properties"]["data"]["anyOf"]
    assert mark == {"const": "[DONE]"}
    payload = validator(document, document_of["contentSchema"])
    for each in data:
        event.validate({"data": each})
    for each in data[:-1]:
        payload.validate(json.loads(each))
    payload.validate((await suite.http.post(path, json={})).json())


async def test_the_names_of_models_are_those_served(document):
    [name, _] = document["paths"]["/v1/models/{name}"]["get"]["parameters"]
    assert name["schema"]["enum"] == ["kimi", "kimi-alias"]


async def test_the_page_for_people_loads_nothing_from_elsewhere(suite, document):
    answer = await suite.http.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not re.findall(r"<(?!/|!)(?:script|link|img|iframe|object|form)", answer.text)
    assert not re.findall(r"@import|url\(|\ssrc=|\son\w+=", answer.text)
    assert {target[0] for target in re.findall(r'href="([^"]*)"', answer.text)} == {"/", "#"}
