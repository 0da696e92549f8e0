"""OpenAI's `response_format`, the same for every door."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from services.common.errors import InvalidRequest, UnsupportedValue
from services.gateway.constraint.output_format import Answer, JsonAnswer


class JsonSchemaBody(msgspec.Struct):
    """`strict` changes nothing: a schema is always enforced."""

    schema: Any = None
    name: str | None = None
    description: str | None = None
    strict: bool | None = None


class ResponseFormatBody(msgspec.Struct):
    """`type`: `text`, `json_object` or `json_schema`."""

    type: str
    json_schema: JsonSchemaBody | None = None


def only_one(answers: Sequence[Answer | None]) -> Answer | None:
    """The one that is given; InvalidRequest naming the second where there are several."""
    given = [answer for answer in answers if answer is not None]
    if len(given) > 1:
        raise InvalidRequest(f"{given[0].param} and {given[1].param} exclude each other", given[1].param)
    return given[0] if given else None


def json_answer(body: ResponseFormatBody | None, param: str) -> JsonAnswer | None:
    """None for text. Raises UnsupportedValue for an unknown type, InvalidRequest where no schema is given."""
    if body is None or body.type == "text":
        return None
    if body.type == "json_object":
        return JsonAnswer({"type": "object"}, param)
    if body.type != "json_schema":
        raise UnsupportedValue(
            f"{param}.type {body.type!r} is not one of 'text', 'json_object', 'json_schema'", f"{param}.type"
        )
    if body.json_schema is None or not isinstance(body.json_schema.schema, dict | bool):
        raise InvalidRequest(
            f"{param}.json_schema.schema must be a JSON schema", f"{param}.json_schema.schema"
        )
    return JsonAnswer(body.json_schema.schema, f"{param}.json_schema.schema")
