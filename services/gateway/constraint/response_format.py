"""OpenAI's `response_format`, the same for every door."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

from services.common.errors import InvalidRequest, UnsupportedValue
from services.gateway.constraint.output_format import Answer, JsonAnswer
from services.gateway.strict_object import strict_object

_JSON_SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "schema": {"type": ["object", "boolean"], "description": "A JSON schema."},
        "description": {"type": ["string", "null"]},
        "strict": {"type": ["boolean", "null"]},
    },
    "required": ["name", "schema"],
}

# Bodies hold it as JSON; `json_answer` reads it.
ResponseFormatField: TypeAlias = Annotated[
    dict[str, Any],
    Meta(
        description="The form of an answer that is no call. `json_schema` has a `name` and a `schema`.",
        extra_json_schema={
            "properties": {"type": {"enum": ["text", "json_object", "json_schema"]}},
            "required": ["type"],
            "anyOf": [
                {"properties": {"type": {"enum": ["text", "json_object"]}, "json_schema": {"type": "null"}}},
                {"properties": {"json_schema": _JSON_SCHEMA}, "required": ["json_schema"]},
            ],
        },
    ),
]


class JsonSchemaBody(msgspec.Struct):
    """`strict` changes nothing: a schema is always enforced."""

    name: str
    schema: Any = None
    description: str | None = None
    strict: bool | None = None


class ResponseFormatBody(msgspec.Struct):
    """`type`: `text`, `json_object` or `json_schema`."""

    type: str
    json_schema: dict[str, Any] | None = None


def only_one(answers: Sequence[Answer | None]) -> Answer | None:
    """The one that is given; InvalidRequest naming the second where there are several."""
    given = [answer for answer in answers if answer is not None]
    if len(given) > 1:
        raise InvalidRequest(f"{given[0].param} and {given[1].param} exclude each other", given[1].param)
    return given[0] if given else None


def json_answer(given: dict[str, Any] | None, param: str) -> JsonAnswer | None:
    """None for text. `given`: as the caller wrote it in the field `param`.

    Raises UnsupportedValue for an unknown type or field, InvalidRequest where name or schema is missing.
    """
    if given is None:
        return None
    body = strict_object(given, ResponseFormatBody, param)
    if body.type not in ("text", "json_object", "json_schema"):
        raise UnsupportedValue(
            f"{param}.type {body.type!r} is not one of 'text', 'json_object', 'json_schema'", f"{param}.type"
        )
    if body.type != "json_schema":
        if body.json_schema is not None:
            raise InvalidRequest(f"{param}.json_schema needs the type 'json_schema'", f"{param}.json_schema")
        return JsonAnswer({"type": "object"}, param) if body.type == "json_object" else None
    where = f"{param}.json_schema"
    if body.json_schema is None:
        raise InvalidRequest(f"{where}.schema must be a JSON schema", f"{where}.schema")
    schema = strict_object(body.json_schema, JsonSchemaBody, where).schema
    if not isinstance(schema, dict | bool):
        raise InvalidRequest(f"{where}.schema must be a JSON schema", f"{where}.schema")
    return JsonAnswer(schema, f"{where}.schema")
