"""Where the descriptions of fields come from."""

from __future__ import annotations

import re
import tomllib

import pytest

from perigee.v1 import chat_pb2, generation_pb2, models_pb2, sampling_pb2
from services.common.sampling.controls import CONTROLS
from services.gateway.http.pages import field_texts
from services.gateway.http.pages.field_texts import MESSAGES, FieldTexts
from services.gateway.http.pages.limits import REFUSED

FILES = (chat_pb2, generation_pb2, models_pb2, sampling_pb2)


@pytest.fixture
async def schemas(suite):
    return (await suite.http.get("/openapi.json")).json()["components"]["schemas"]


async def test_every_field_of_every_body_and_answer_is_described(schemas):
    silent = {
        (name, field)
        for name, schema in schemas.items()
        for field, node in schema.get("properties", {}).items()
        if not node.get("description")
    }
    assert len(schemas) > 30
    assert not silent


async def test_sampling_fields_say_what_the_proto_says(schemas, repository):
    proto = (repository / "protos" / "perigee" / "v1" / "sampling.proto").read_text()
    comments = " ".join(re.sub(r"\n\s*//", "", proto).split())
    shared = [control for control in CONTROLS if control.name in schemas["ChatBody"]["properties"]]
    same = {
        control.name
        for control in shared
        if schemas["ChatBody"]["properties"][control.name]["description"] in comments
    }
    own = {"top_k", "n", "max_tokens", "logprobs", "top_logprobs", "stop"}
    assert {control.name for control in shared} - same <= own
    params = schemas["GenerateParams"]["properties"]
    assert params["sampling_seed"]["description"] == schemas["ChatBody"]["properties"]["seed"]["description"]


def test_an_inverted_flag_does_not_get_the_opposite_meaning():
    texts = FieldTexts()
    for schema in ("ChatBody", "GenerateParams", "DetokenizeBody"):
        assert "left out" in texts.text(schema, "skip_special_tokens")


def test_references_between_protos_are_followed_and_names_are_those_of_rest():
    texts = FieldTexts()
    assert texts.text("CompletionBody", "cache_salt") == texts.text("ChatBody", "cache_salt")
    assert "400 for false" in texts.text("ChatBody", "preserve_thinking") or "400 for a value" in texts.text(
        "ChatBody", "preserve_thinking"
    )
    for schema in MESSAGES:
        for field in ("stop", "regex", "tool_calls", "token"):
            text = texts.text(schema, field) or ""
            assert not re.search("INVALID_ARGUMENT|FINISH_REASON|DecodeService|session|As in |_json", text)


async def test_its_own_texts_are_of_fields_that_exist_and_differ_from_the_proto_s(schemas):
    own = tomllib.loads((field_texts._OWN).read_text())
    anywhere = {field for schema in schemas.values() for field in schema.get("properties", {})}
    for name, fields in own.items():
        known = anywhere if name == "all" else set(schemas[name]["properties"])
        assert set(fields) <= known, name


def test_the_messages_it_names_exist():
    messages = {name for file in FILES for name in file.DESCRIPTOR.message_types_by_name}
    assert {message for named in MESSAGES.values() for message in named} <= messages


@pytest.mark.parametrize("name", ["ChatBody", "CompletionBody", "GenerateBody", "TokenizeBody"])
async def test_the_model_and_the_prompt_come_first_and_refused_fields_last(schemas, name):
    fields = schemas[name]["properties"]
    prompt = {"ChatBody": "messages", "GenerateBody": "text", "TokenizeBody": "messages"}.get(name, "prompt")
    assert list(fields)[:2] == ["model", prompt]
    marks = [bool(node.get(REFUSED)) for node in fields.values()]
    assert marks == sorted(marks)
    assert any(marks)
