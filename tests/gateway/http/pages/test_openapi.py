"""The description of the door, compared with the door."""

import msgspec
import pytest
from jsonschema import Draft202012Validator
from starlette.routing import Route

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
)
from services.gateway.http.shapes.tokenize import DetokenizeAnswer, TokenizeAnswer
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
        "/v1/completions": ({"prompt": "x", "logprobs": 1}, CompletionAnswer),
        "/generate": ({"text": "x", "return_logprob": True, "top_logprobs_num": 1}, GenerateAnswer),
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
        "/health": HealthAnswer,
        "/ready": HealthAnswer,
        "/v1/models/nobody": ErrorAnswer,
        "/nowhere": ErrorAnswer,
        "/generate": ErrorAnswer,
    }.items():
        exactly((await http.get(path)).json(), kind)
    for path in ("/v1/completions", "/generate"):
        body = {"prompt": "x", "text": "x", "stream": True}
        kind = GenerateAnswer if path == "/generate" else CompletionAnswer
        for event in parse_events((await http.post(path, json=body)).text):
            exactly(event, kind)


async def test_the_page_for_people_loads_nothing_from_elsewhere(suite, document):
    answer = await suite.http.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "//" not in answer.text.replace("</", "")
    assert "<script" not in answer.text
    for path in document["paths"]:
        assert path.replace("{", "{") in answer.text
