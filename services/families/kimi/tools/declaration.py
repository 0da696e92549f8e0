"""The body of the `tool_declare` message."""

from __future__ import annotations

import json
from collections.abc import Sequence

from services.common.errors import InvalidRequest
from services.families.conversation import Json
from services.families.kimi.tools.schema import ROOT_NAME, SchemaReader, UnsupportedSchema, description
from services.families.kimi.tools.typescript import Record, TsType, comment


def declare_tools(tools: Sequence[Json]) -> str:
    """A TypeScript namespace of the functions in an OpenAI `tools` array.

    Where one schema cannot be encoded, or no entry is a function, the whole array as compact JSON; keys are
    sorted either way. Raises InvalidRequest where the array is nested too deeply to be read.
    """
    try:
        ordered = [_sorted_keys(tool) for tool in tools]
        return _namespace(ordered) or json.dumps(ordered, ensure_ascii=False, separators=(",", ":"))
    except RecursionError as error:
        raise InvalidRequest("tools are nested too deeply", "tools") from error


def template_variables(tools: Sequence[Json]) -> dict[str, Json]:
    """Returns what the published template is given for an OpenAI `tools` array; nothing for an empty one.

    The template itself writes the JSON if there is no namespace. Raises RecursionError.
    """
    if not tools:
        return {}
    ordered = [_sorted_keys(tool) for tool in tools]
    namespace = _namespace(ordered)
    return {"tools": ordered, **({"tools_ts_str": namespace} if namespace else {})}


def _namespace(ordered: Sequence[Json]) -> str:
    """Returns the functions of tools with sorted keys in TypeScript; empty if they cannot be encoded."""
    try:
        functions = [_function(tool["function"]) for tool in ordered if _is_function(tool)]
    except UnsupportedSchema:
        return ""
    if not functions:
        return ""
    return "\n".join(("# Tools\n\n## functions\nnamespace functions {", *functions, "}\n"))


def declared_names(tools: Sequence[Json]) -> frozenset[str]:
    """The names of the functions in an OpenAI `tools` array, also those that only the fallback shows."""
    functions = (tool.get("function") for tool in tools if isinstance(tool, dict))
    names = (_name(function) for function in functions if isinstance(function, dict))
    return frozenset(name for name in names if isinstance(name, str))


def _name(function: dict[str, Json]) -> Json:
    return function.get("name", "function")


def _is_function(tool: Json) -> bool:
    if not isinstance(tool, dict):
        raise UnsupportedSchema(f"a tool is {tool!r}")
    return (
        tool.get("type") == "function" and isinstance(tool.get("function"), dict) and bool(tool["function"])
    )


def _function(function: dict[str, Json]) -> str:
    reader = SchemaReader()
    parameters = function.get("parameters")
    record = reader.read_object({} if parameters is None else parameters)
    lines: list[str] = []
    written: TsType | str = record
    # Reading a definition may meet more definitions and a `#`: neither is declared then, as published.
    definitions = dict(reader.definitions)
    if reader.refers_to_root:
        fields = sorted(record.fields, key=lambda field: field.name)
        lines.append(f"interface {ROOT_NAME} {Record(tuple(fields)).write('')}")
        written = ROOT_NAME
    for name, schema in definitions.items():
        lines += _interface(reader, name, schema)
    text = description(function)
    if text:
        lines.append(comment(text, ""))
    shape = written if isinstance(written, str) else written.write("")
    lines.append(f"type {_name(function)} = (_: {shape}) => any;")
    return "\n".join(lines)


def _interface(reader: SchemaReader, name: str, schema: Json) -> list[str]:
    if isinstance(schema, bool):
        raise UnsupportedSchema(f"definition {name!r} is {schema}")
    definition = reader.read(schema)
    text = description(schema)
    comments = [comment(text, "")] if text else []
    return [*comments, f"interface {name} {definition.type.write('')}"]


def _sorted_keys(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _sorted_keys(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_sorted_keys(item) for item in value]
    return value
