"""The tools that a gRPC chat declares: as messages, or as an OpenAI array in JSON."""

from __future__ import annotations

from typing import Any

import msgspec

from perigee.v1 import chat_pb2
from services.common.errors import InvalidRequest
from services.gateway.pipeline.prompt.declared_tools import declared_functions
from services.gateway.pipeline.prompt.json_counts import check_counts


def declared_tools(request: chat_pb2.ChatRequest) -> tuple[dict[str, Any], ...]:
    """Returns the declared tools as an OpenAI array. Raises InvalidRequest or UnsupportedValue naming the
    field.
    """
    return _from_messages(request) if request.tools else _from_json(request.tools_json)


def tool_paths(request: chat_pb2.ChatRequest) -> dict[str, Any]:
    """Returns how errors spell the tools, as arguments of OutputFormat.

    Raises InvalidRequest if both fields declare tools.
    """
    if request.tools and request.tools_json:
        raise InvalidRequest("tools and tools_json are both set; declare all tools in one of them", "tools")
    if request.tools:
        return {"tools_param": "tools", "function_path": "", "parameters_path": ".parameters_json"}
    return {"tools_param": "tools_json"}


def _from_messages(request: chat_pb2.ChatRequest) -> tuple[dict[str, Any], ...]:
    # The bounds apply to all schemas together. Text behind a malformed schema may be counted wrongly, but
    # decoding ends at that schema.
    check_counts(b",".join(tool.parameters_json.encode() for tool in request.tools), "tools")
    return tuple(_from_message(tool, f"tools[{index}]") for index, tool in enumerate(request.tools))


def _from_message(tool: chat_pb2.Tool, param: str) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    if tool.parameters_json:
        place = f"{param}.parameters_json"
        function["parameters"] = _decoded(tool.parameters_json, dict[str, Any], place, "object")
    if tool.strict:
        function["strict"] = True
    return {"type": "function", "function": function}


def _from_json(text: str) -> tuple[dict[str, Any], ...]:
    if not text:
        return ()
    check_counts(text.encode(), "tools_json")
    given = _decoded(text, list[dict[str, Any]], "tools_json", "array of objects")
    return declared_functions(given, "tools_json")


def _decoded(text: str, kind: Any, param: str, wanted: str) -> Any:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest(f"{param} is no JSON {wanted}: {error}", param) from error
