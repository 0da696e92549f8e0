"""300 varied tool schemas, the same for the same seed: those that clients send, and those that are hard to
enforce.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

Schema = dict[str, Any]

# The constant of some of the schemas. Inside a string, a marker is ordinary text.
MARKED = 'fixed "value" with <|tool_call_end|>'

_NOUNS = (
    "city", "name", "query", "path", "user", "order", "item", "price", "date", "status", "tag", "note",
    "code", "level", "unit", "email", "url",
)  # fmt: skip
_FORMATS = ("date", "date-time", "time", "email", "uuid", "ipv4", "ipv6", "uri", "hostname", "duration")
_PATTERNS = (
    r"^[a-z]{3}-\d{2,4}$", r"^\+?[0-9]{6,12}$", r"^#[0-9a-fA-F]{6}$", r"^(foo|bar|baz)(,(foo|bar|baz))*$",
    r"^[A-Z][a-z]+( [A-Z][a-z]+)?$", r"^v\d+\.\d+\.\d+$", r"^/(?:[\w-]+/)*[\w-]+$", r"^\S+$",
)  # fmt: skip
_NAMES = (
    "get_weather",
    "search",
    "files.read",
    "run-query",
    "näher.bestimmen",
    "数据_查询",
    "createOrder",
    "a",
)


def tool_schemas(count: int = 300, seed: int = 2026) -> list[Schema]:
    """OpenAI tools, each with parameters that a grammar can enforce."""
    rng = random.Random(seed)
    tools = []
    for index in range(count):
        shape = _SHAPES[index % len(_SHAPES)]
        name = f"{_NAMES[index % len(_NAMES)]}{index if index >= len(_NAMES) else ''}"
        function = {"name": name, "description": f"Tool {index}.", "parameters": shape(rng)}
        tools.append({"type": "function", "function": function})
    return tools


def _object(rng: random.Random, depth: int = 0, most: int = 4) -> Schema:
    names = rng.sample(_NOUNS, rng.randint(1, most))
    schema: Schema = {"type": "object", "properties": {name: _value(rng, depth + 1) for name in names}}
    if rng.random() < 0.8:
        schema["required"] = rng.sample(names, rng.randint(1, len(names)))
    if rng.random() < 0.5:
        schema["additionalProperties"] = False
    return schema


def _value(rng: random.Random, depth: int) -> Schema:
    kinds: list[Callable[[random.Random, int], Schema]] = [_text, _text, _number, _choice, _nullable, _flag]
    if depth < 3:
        kinds += [_array, lambda rng, depth: _object(rng, depth, 3), _union]
    schema = rng.choice(kinds)(rng, depth)
    if rng.random() < 0.3:
        schema["description"] = "What it is."
    return schema


def _text(rng: random.Random, depth: int) -> Schema:
    kind = rng.randrange(5)
    if kind == 0:
        return {"type": "string"}
    if kind == 1:
        least = rng.randint(0, 8)
        return {"type": "string", "minLength": least, "maxLength": least + rng.randint(0, 30)}
    if kind == 2:
        return {"type": "string", "pattern": rng.choice(_PATTERNS)}
    if kind == 3:
        return {"type": "string", "format": rng.choice(_FORMATS)}
    return {"type": "string", "pattern": r"^[a-z ]+$", "minLength": 2, "maxLength": rng.randint(3, 20)}


def _number(rng: random.Random, depth: int) -> Schema:
    low = rng.randint(-1000, 1000)
    return rng.choice(
        [
            {"type": "integer"},
            {"type": "integer", "minimum": low, "maximum": low + rng.randint(0, 500)},
            {"type": "integer", "exclusiveMinimum": low, "multipleOf": rng.choice([2, 5, 7])},
            {"type": "number", "minimum": low, "maximum": low + rng.randint(1, 500)},
            {"type": "number", "multipleOf": rng.choice([0.5, 0.25]), "minimum": 0, "maximum": 100},
            {"type": "number", "exclusiveMaximum": 0},
        ]
    )


def _choice(rng: random.Random, depth: int) -> Schema:
    return rng.choice(
        [
            {"type": "string", "enum": ["celsius", "fahrenheit", "kelvin"]},
            {"enum": ["a", 1, None, True, {"x": [1]}]},
            {"const": MARKED},
            {"type": "integer", "enum": [1, 10, 100]},
        ]
    )


def _nullable(rng: random.Random, depth: int) -> Schema:
    return rng.choice(
        [
            {"type": ["string", "null"], "maxLength": 20},
            {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 9}, {"type": "null"}]},
            {"type": ["number", "boolean", "null"], "minimum": 0, "maximum": 1},
        ]
    )


def _flag(rng: random.Random, depth: int) -> Schema:
    return {"type": "boolean"}


def _array(rng: random.Random, depth: int) -> Schema:
    schema: Schema = {"type": "array", "items": _value(rng, depth + 1)}
    if rng.random() < 0.6:
        schema["minItems"] = rng.randint(0, 2)
        schema["maxItems"] = schema["minItems"] + rng.randint(0, 3)
    if rng.random() < 0.2:
        return {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False}
    return schema


def _union(rng: random.Random, depth: int) -> Schema:
    return {"anyOf": [_value(rng, depth + 1) for _ in range(rng.randint(2, 3))]}


def _rooted_union(rng: random.Random) -> Schema:
    kinds = ("create", "delete", "move")
    return {
        "anyOf": [
            {
                "type": "object",
                "properties": {"kind": {"const": kind}, rng.choice(_NOUNS): _value(rng, 2)},
                "required": ["kind"],
                "additionalProperties": False,
            }
            for kind in kinds
        ]
    }


def _definitions(rng: random.Random) -> Schema:
    return {
        "type": "object",
        "$defs": {"point": _object(rng, 2, 2), "level": {"type": "string", "enum": ["low", "high"]}},
        "properties": {
            "from": {"$ref": "#/$defs/point"},
            "to": {"anyOf": [{"$ref": "#/$defs/point"}, {"type": "null"}]},
            "level": {"$ref": "#/$defs/level"},
        },
        "required": ["from", "level"],
    }


def _recursive(rng: random.Random) -> Schema:
    node = {
        "type": "object",
        "properties": {
            "value": _value(rng, 3),
            "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2},
            "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
        },
        "required": ["value", "next"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "$defs": {"node": node},
        "properties": {"root": {"$ref": "#/$defs/node"}},
        "required": ["root"],
    }


def _map(rng: random.Random) -> Schema:
    return {
        "type": "object",
        "properties": {
            "labels": {"type": "object", "additionalProperties": _value(rng, 3), "maxProperties": 3}
        },
        "required": ["labels"],
    }


def _merged(rng: random.Random) -> Schema:
    return {
        "type": "object",
        "allOf": [
            {"properties": {"id": {"type": "integer", "minimum": 1}}, "required": ["id"]},
            {"properties": {"text": _text(rng, 2)}, "required": ["text"]},
        ],
        "properties": {"flag": {"type": "boolean"}},
    }


def _nothing(rng: random.Random) -> Schema:
    return {"type": "object", "properties": {}}


_SHAPES: tuple[Callable[[random.Random], Schema], ...] = (
    _object, _object, _object, _object, _object, _rooted_union, _definitions, _recursive, _map, _merged,
    _object, _object, _nothing,
)  # fmt: skip
