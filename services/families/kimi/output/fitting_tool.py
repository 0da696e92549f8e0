"""The tool that a call without a name means, by its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from services.families.conversation import Json

_TYPES: Mapping[str, tuple[type, ...]] = MappingProxyType(
    {
        "string": (str,),
        "integer": (int,),
        "number": (int, float),
        "boolean": (bool,),
        "array": (list,),
        "object": (dict,),
        "null": (type(None),),
    }
)


def fitting_tool(arguments: str, schemas: Mapping[str, Json]) -> str:
    """The name of the only tool that the arguments, JSON text, fit; empty: none, or several.

    `schemas`: the tools' parameters by name. Arguments fit where they are an object, all of its keys are
    declared properties, each value has a declared type and is among declared values, and no required key is
    missing.
    """
    try:
        given = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return ""
    if not isinstance(given, dict):
        return ""
    fitting = [name for name, schema in schemas.items() if _fits(given, schema)]
    return fitting[0] if len(fitting) == 1 else ""


def _fits(given: dict[str, Json], schema: Json) -> bool:
    read = schema if isinstance(schema, dict) else {}
    properties, required = read.get("properties"), read.get("required")
    known = properties if isinstance(properties, dict) else {}
    needed = required if isinstance(required, list) else []
    return all(key in given for key in needed if isinstance(key, str)) and all(
        key in known and _allows(known[key], value) for key, value in given.items()
    )


def _allows(schema: Json, value: Json) -> bool:
    if not isinstance(schema, dict):
        return schema is not False
    if isinstance(choices := schema.get("enum"), list) and value not in choices:
        return False
    kinds = schema.get("type")
    names = [kinds] if isinstance(kinds, str) else kinds if isinstance(kinds, list) else []
    types = tuple(kind for name in names if isinstance(name, str) for kind in _TYPES.get(name, (object,)))
    if isinstance(value, bool):
        return not types or bool in types or object in types
    return not types or isinstance(value, types)
