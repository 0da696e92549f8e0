"""Declared tools, and answers that call them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def tool(name: str) -> dict[str, Any]:
    """A tool that takes anything."""
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}


def checked_tool(name: str) -> dict[str, Any]:
    """A tool whose schema has what no grammar enforces: `{"city": null}` does not fit."""
    city = {"not": {"type": "null"}}
    schema = {"type": "object", "properties": {"city": city}}
    return {"type": "function", "function": {"name": name, "parameters": schema}}


TOOLS = [tool("get_weather"), tool("a.b-c")]


def call(name: str, index: int, arguments: str) -> str:
    """A call as the model writes it."""
    written = f"functions.{name}:{index}<|tool_call_argument_begin|>{arguments}"
    return f"<|tool_call_begin|>{written}<|tool_call_end|>"


def section(*calls: str) -> str:
    """A tool section."""
    return f"<|tool_calls_section_begin|>{''.join(calls)}<|tool_calls_section_end|>"


PARIS, ROME = '{"city": "Paris 🗼"}', '{"city": "Rome"}'
TWO_CALLS = section(call("get_weather", 0, PARIS), call("a.b-c", 1, ROME))


def joined_calls(pieces: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The `tool_calls` of a whole message, of the pieces in a stream's deltas, whose form it checks."""
    calls: list[dict[str, Any]] = []
    for piece in pieces:
        function = piece["function"]
        if "id" in piece:
            assert set(piece) == {"index", "id", "type", "function"}
            assert set(function) == {"name", "arguments"}
            assert (piece["index"], function["arguments"]) == (len(calls), "")
            calls.append({"id": piece["id"], "type": piece["type"], "function": dict(function)})
            continue
        assert set(piece) == {"index", "function"}
        assert set(function) == {"arguments"}
        assert function["arguments"]
        assert piece["index"] == len(calls) - 1, "calls interleave"
        calls[-1]["function"]["arguments"] += function["arguments"]
    return calls
