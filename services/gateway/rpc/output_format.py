"""The form of the answer a gRPC request asks for."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from perigee.v1 import chat_pb2, generation_pb2
from services.common.errors import InvalidRequest
from services.gateway.constraint.output_format import (
    GrammarAnswer,
    JsonAnswer,
    OutputFormat,
    RegexAnswer,
    ToolChoice,
)
from services.gateway.constraint.response_format import json_answer, only_one
from services.gateway.pipeline.prompt.json_counts import check_counts
from services.gateway.rpc.tools import tool_paths

_CHOICES = ("auto", "none", "required", "function")


def chat_output_format(request: chat_pb2.ChatRequest) -> OutputFormat:
    """Raises InvalidRequest or UnsupportedValue naming the field."""
    choice = request.tool_choice or "auto"
    if choice not in _CHOICES:
        raise InvalidRequest(f"tool_choice is not one of {', '.join(_CHOICES)}", "tool_choice")
    if (choice == "function") != bool(request.tool_name):
        raise InvalidRequest("tool_name belongs to the tool_choice 'function', and that to it", "tool_name")
    if request.allowed_tools and choice not in ("auto", "required"):
        raise InvalidRequest("allowed_tools needs the tool_choice auto or required", "allowed_tools")
    body = None
    if request.response_format_json:
        body = _decoded(request.response_format_json, dict[str, Any], "response_format_json")
    parallel = request.parallel_tool_calls if request.HasField("parallel_tool_calls") else True
    return OutputFormat(
        tool_choice=cast(ToolChoice, choice),
        tool_name=request.tool_name,
        allowed_tools=frozenset(request.allowed_tools) or None,
        parallel=parallel,
        names_param=_names_param(request),
        answer=only_one([json_answer(body, "response_format_json"), *_texts(request)]),
        **tool_paths(request),
    )


def _names_param(request: chat_pb2.ChatRequest) -> str:
    """The field that says which tools may be called."""
    if request.allowed_tools:
        return "allowed_tools"
    return "tool_name" if request.tool_name else "tool_choice"


def generate_output_format(request: generation_pb2.GenerateRequest) -> OutputFormat:
    """Raises InvalidRequest naming the field."""
    schema = None
    if request.json_schema:
        schema = JsonAnswer(_decoded(request.json_schema, dict[str, Any], "json_schema"), "json_schema")
    return OutputFormat(answer=only_one([schema, *_texts(request)]))


def _texts(
    request: chat_pb2.ChatRequest | generation_pb2.GenerateRequest,
) -> tuple[RegexAnswer | None, GrammarAnswer | None]:
    return (
        RegexAnswer(request.regex, "regex") if request.regex else None,
        GrammarAnswer(request.ebnf, "ebnf") if request.ebnf else None,
    )


def _decoded(text: str, kind: type[Any], param: str) -> Any:
    check_counts(text.encode(), param)
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequest(f"{param}: {error}", param) from error
