"""Declared tools, and answers that call them."""

from __future__ import annotations

from typing import Any


def tool(name: str) -> dict[str, Any]:
    """A tool that takes anything."""
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}


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
