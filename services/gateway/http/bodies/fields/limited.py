"""Types of body fields whose limits are checked behind the decoder, as /openapi.json describes them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, TypeAlias

from msgspec import Meta

from services.common.sampling.control import TOKEN_ID
from services.common.sampling.controls import MOST_TOP_LOGPROBS
from services.gateway.http.bodies.fields.nested import EFFORTS, URL
from services.gateway.http.bodies.raw_prompts import MAX_PROMPTS
from services.gateway.pipeline.prompt.limits import MAX_SALT_CHARACTERS, MOST_PRIORITY
from services.gateway.pipeline.roles import ROLES

INSTEAD = "x-described-as"
"""The keyword whose value describes a field in place of the schema of its type."""


_NO_FIELDS: Mapping[str, Any] = MappingProxyType({})


def _instead(schema: Any) -> Meta:
    return Meta(extra_json_schema={INSTEAD: schema})


def _needs(optional: Mapping[str, Any] = _NO_FIELDS, /, **fields: Any) -> dict[str, Any]:
    """An object that has `fields`, and whose `optional` fields are as described."""
    return {"properties": {**fields, **optional}, "required": list(fields)}


def _array(items: Any, most: int | None = None) -> dict[str, Any]:
    bounds = {"minItems": 1} if most is None else {"minItems": 1, "maxItems": most}
    return {"type": "array", "items": items, **bounds}


_TEXT = {"type": "string"}
_URL = {"anyOf": [_TEXT, URL]}
_SOME_TEXT = {"type": "string", "minLength": 1}
_ABSENT = {"type": "null"}
_IDS = _array({"type": "integer", **TOKEN_ID})
_TEXTS = [_SOME_TEXT, _array(_SOME_TEXT, MAX_PROMPTS)]
_ID_LISTS = [_IDS, _array(_IDS, MAX_PROMPTS)]
# 1 to 256 characters, none of them a control character, no white space at an end.
_NAME = {
    "type": "string",
    "pattern": r"^[^\s\x00-\x1f\x7f-\x9f]([^\x00-\x1f\x7f-\x9f]{0,254}[^\s\x00-\x1f\x7f-\x9f])?$",
}
_OPTIONAL = {
    "description": {"type": ["string", "null"]},
    "parameters": {"type": ["object", "null"], "description": "A JSON schema of an object."},
    "strict": {"type": ["boolean", "null"]},
}
_FUNCTION = {"type": "object", **_needs(_OPTIONAL, name=_NAME)}
_KIND = {"type": {"enum": ["function", None]}}

_TYPE_FUNCTION = {"enum": ["function"]}
_NAMED = _needs({}, type=_TYPE_FUNCTION, name=_NAME)
_CHOSEN = _needs({}, type=_TYPE_FUNCTION, function={"type": "object", **_needs(name=_NAME)})
_ALLOWED = _needs(
    mode={"enum": ["auto", "required"]}, tools=_array({"type": "object", "anyOf": [_NAMED, _CHOSEN]})
)
_TYPE_ALLOWED = {"enum": ["allowed_tools"]}

SOME = Meta(extra_json_schema={"minItems": 1})
RoleField: TypeAlias = Annotated[str, Meta(extra_json_schema={"enum": list(ROLES)})]
CallTypeField: TypeAlias = Annotated[str, Meta(extra_json_schema={"enum": ["function"]})]
EffortField: TypeAlias = Annotated[str, Meta(extra_json_schema={"enum": list(EFFORTS)})]
PriorityField: TypeAlias = Annotated[
    int, Meta(extra_json_schema={"minimum": -MOST_PRIORITY, "maximum": MOST_PRIORITY})
]
SaltField: TypeAlias = Annotated[str, Meta(extra_json_schema={"maxLength": MAX_SALT_CHARACTERS})]
MaxTokensField: TypeAlias = Annotated[int, Meta(extra_json_schema={"minimum": 0})]
TopField: TypeAlias = Annotated[int, Meta(extra_json_schema={"minimum": 0, "maximum": MOST_TOP_LOGPROBS})]
StartField: TypeAlias = Annotated[int, Meta(extra_json_schema={"minimum": -1})]
IdField: TypeAlias = Annotated[int, Meta(extra_json_schema=dict(TOKEN_ID))]
PromptField: TypeAlias = Annotated[
    str | list[str | int | list[int]], _instead({"anyOf": [*_TEXTS, *_ID_LISTS]})
]
TextField: TypeAlias = Annotated[str | list[str], _instead({"anyOf": _TEXTS})]
IdsField: TypeAlias = Annotated[list[int | list[int]], _instead({"anyOf": _ID_LISTS})]
ToolField: TypeAlias = Annotated[
    dict[str, Any],
    _instead(
        {
            "description": "A function; its fields may stand beside `type`, as in the Responses API.",
            "anyOf": [
                {"type": "object", **_needs(_KIND, function=_FUNCTION)},
                {"type": "object", **_needs({**_KIND, **_OPTIONAL, "function": _ABSENT}, name=_NAME)},
            ],
        }
    ),
]
ToolChoiceField: TypeAlias = Annotated[
    str | dict[str, Any],
    _instead(
        {
            "description": "A function and allowed tools may be spelt flat, as in the Responses API.",
            "anyOf": [
                {"enum": ["auto", "none", "required"]},
                {"type": "object", **_CHOSEN},
                {"type": "object", **_needs({"function": _ABSENT}, type=_TYPE_FUNCTION, name=_NAME)},
                {
                    "type": "object",
                    **_needs(type=_TYPE_ALLOWED, allowed_tools={"type": "object", **_ALLOWED}),
                },
                {
                    "type": "object",
                    **_needs({"allowed_tools": _ABSENT}, type=_TYPE_ALLOWED, **_ALLOWED["properties"]),
                },
            ],
        }
    ),
]

_WHOLE_IF_SCORED = [_needs({"prompt_logprobs": _ABSENT}), _needs({"stream": {"enum": [False, None]}})]

# What holds between the fields of a body, by the name of its schema.
TOGETHER: Mapping[str, Any] = MappingProxyType(
    {
        "PartBody": [
            _needs(type={"enum": ["text", "input_text", "output_text"]}, text=_TEXT),
            _needs(type={"enum": ["refusal"]}, refusal=_TEXT),
            _needs(type={"enum": ["image_url"]}, image_url=_URL),
            _needs(type={"enum": ["video_url"]}, video_url=_URL),
        ],
        "MessageBody": [
            _needs(role={"enum": [role for role in ROLES if role != "tool"]}),
            _needs(role={"enum": ["tool"]}, tool_call_id=_TEXT),
        ],
        "ChatBody": _WHOLE_IF_SCORED,
        "CompletionBody": _WHOLE_IF_SCORED,
        "GenerateBody": [
            _needs({"input_ids": _ABSENT}, text={"type": ["string", "array"]}),
            _needs({"text": _ABSENT}, input_ids={"type": "array"}),
        ],
        "TokenizeBody": [
            _needs({"messages": _ABSENT}, prompt=_TEXT),
            _needs({"prompt": _ABSENT}, messages={"type": "array"}),
        ],
    }
)
