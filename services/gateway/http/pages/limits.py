"""Limits that the types of bodies do not have, for their schemas in /openapi.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import fields

from services.common.sampling.control import TOKEN_ID
from services.gateway.http.bodies.chat import REFUSED_IN_MESSAGES, ChatBody, MessageBody
from services.gateway.http.bodies.completions import REFUSED as REFUSED_OF_COMPLETIONS
from services.gateway.http.bodies.completions import CompletionBody
from services.gateway.http.bodies.fields.known import KNOWN, NOTHING, CallerMetadata
from services.gateway.http.bodies.fields.limited import INSTEAD, TOGETHER
from services.gateway.http.bodies.generate import REFUSED as REFUSED_OF_GENERATE
from services.gateway.http.bodies.generate import REFUSED_PARAMS, GenerateBody, GenerateParams
from services.gateway.http.bodies.unsupported import NEUTRAL
from services.gateway.http.routes.tokenize import UNSUPPORTED, TokenizeBody

_UNSUPPORTED = "Not supported: any other value is refused."
REFUSED = "x-refused"
"""The keyword that marks fields of which only the values that change nothing are taken."""
_FIRST = ("model", "messages", "prompt", "text", "input_ids", "tokens", "sampling_params", "role", "content")
_IGNORED = frozenset(field.name for field in fields(CallerMetadata))

_Values = Mapping[str, tuple[Any, ...]]


def narrowed(components: Mapping[str, Any], vocab_size: int) -> dict[str, Any]:
    """The schemas, by name, with all that is checked behind the decoder and can be said of a body.

    `vocab_size`: token ids are below it.
    """
    made = {name: _replaced(schema, vocab_size) for name, schema in components.items()}
    for name, usual in _usual_values().items():
        for field, values in usual.items():
            refused = {"description": _UNSUPPORTED, "enum": values, "default": None, REFUSED: True}
            made[name]["properties"][field] = refused
    for name, kinds in TOGETHER.items():
        made[name]["anyOf"] = _replaced(kinds, vocab_size)
    made["TokenizeBody"]["properties"]["messages"] = {
        "anyOf": [made["ChatBody"]["properties"]["messages"], {"type": "null"}]
    }
    for schema in made.values():
        if "properties" in schema:
            schema["properties"] = dict(sorted(schema["properties"].items(), key=_place))
    return made


def _place(field: tuple[str, Mapping[str, Any]]) -> tuple[int, int]:
    """Sort key: the most important first, then as declared, then the caller's own, then refused ones."""
    name, node = field
    if node.get(REFUSED):
        return 3, 0
    if name in _FIRST:
        return 0, _FIRST.index(name)
    return (2, 0) if name in _IGNORED else (1, int(name == "priority"))


def _replaced(node: Any, vocab_size: int) -> Any:
    """A copy in which schemas stand for the types that they describe, and token ids have their limit."""
    if isinstance(node, list):
        return [_replaced(each, vocab_size) for each in node]
    if not isinstance(node, Mapping):
        return node
    if INSTEAD in node:
        rest = {key: node[key] for key in ("description", "default") if key in node}
        return {**rest, **_replaced(node[INSTEAD], vocab_size)}
    copied = {key: _replaced(value, vocab_size) for key, value in node.items()}
    if node.get("format") == TOKEN_ID["format"]:
        copied["maximum"] = vocab_size - 1
    return copied


def _usual_values() -> dict[str, dict[str, list[Any]]]:
    """What known fields that are not supported may hold, by the name of the body's schema and the field's."""
    chat = {field: (None, *values) for field, values in NEUTRAL.items()}
    generate = {field: (*NOTHING, [None]) for field in REFUSED_OF_GENERATE} | {"prompt_logprobs": (None,)}
    params = dict.fromkeys(REFUSED_PARAMS, NOTHING) | dict.fromkeys(
        ("stream_interval", "beam_width"), (None, 0, 1)
    )
    return {
        kind.__name__: _typed(kind, values)
        for kind, values in (
            (MessageBody, dict.fromkeys(REFUSED_IN_MESSAGES, (None,))),
            (ChatBody, {**KNOWN, **chat}),
            (CompletionBody, {**KNOWN, **dict.fromkeys(REFUSED_OF_COMPLETIONS, NOTHING)}),
            (GenerateBody, {**KNOWN, **generate}),
            (GenerateParams, params),
            (TokenizeBody, dict.fromkeys(UNSUPPORTED, NOTHING)),
        )
    }


def _typed(kind: type[Struct], values: _Values) -> dict[str, list[Any]]:
    """The values that the fields' types allow."""
    types = {field.name: field.type for field in fields(kind)}
    return {name: [value for value in given if _fits(value, types[name])] for name, given in values.items()}


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True
