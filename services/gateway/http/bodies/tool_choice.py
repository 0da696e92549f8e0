"""The `tool_choice` of a chat body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.common.errors import InvalidRequest
from services.gateway.constraint.output_format import ToolChoice


@dataclass(frozen=True)
class ChosenTools:
    """`name`: with the choice "function"; `allowed`: the only tools that may be called; None: all."""

    choice: ToolChoice = "auto"
    name: str = ""
    allowed: frozenset[str] | None = None


def read_tool_choice(value: str | dict[str, Any] | None) -> ChosenTools:
    """Null means auto. A function and allowed tools may be spelt as in chats or, flat, as in Responses.

    Raises InvalidRequest naming the field.
    """
    if value is None or value == "auto":
        return ChosenTools()
    if value == "none":
        return ChosenTools("none")
    if value == "required":
        return ChosenTools("required")
    if isinstance(value, dict) and value.get("type") == "function" and (name := _name(value)):
        return ChosenTools("function", name)
    if isinstance(value, dict) and value.get("type") == "allowed_tools":
        return _allowed(value)
    raise InvalidRequest(
        'tool_choice is \'auto\', \'none\', \'required\', {"type": "function", "function": {"name": …}} or'
        ' {"type": "allowed_tools", "allowed_tools": {"mode": …, "tools": […]}}',
        "tool_choice",
    )


def _allowed(value: Mapping[str, Any]) -> ChosenTools:
    nested = value.get("allowed_tools")
    where = "tool_choice" if nested is None else "tool_choice.allowed_tools"
    given = value if nested is None else nested
    if not isinstance(given, dict):
        raise InvalidRequest(f"{where} is no object", where)
    mode, tools = given.get("mode"), given.get("tools")
    if mode not in ("auto", "required"):
        raise InvalidRequest(f"{where}.mode is 'auto' or 'required'", f"{where}.mode")
    if not isinstance(tools, list) or not tools:
        raise InvalidRequest(f"{where}.tools must list one tool or more", f"{where}.tools")
    names = [
        _name(tool) if isinstance(tool, dict) and tool.get("type") == "function" else "" for tool in tools
    ]
    if "" in names:
        wrong = f"{where}.tools[{names.index('')}]"
        raise InvalidRequest(f"{wrong} is no function with a name", wrong)
    return ChosenTools("required" if mode == "required" else "auto", allowed=frozenset(names))


def _name(tool: Mapping[str, Any]) -> str:
    """Returns the name of a function, in the form of chats or of Responses; empty if there is none."""
    function = tool.get("function")
    name = function.get("name") if isinstance(function, dict) else tool.get("name")
    return name if isinstance(name, str) else ""
