"""Reading the golden vectors of the prompt format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from services.gateway.chat.messages import (
    Conversation,
    ImagePart,
    Message,
    Part,
    TextPart,
    ToolCall,
    VideoPart,
)


def read_vectors(shared_dir: Path, name: str) -> list[dict[str, Any]]:
    """The lines of a file of golden vectors; never none."""
    lines = (shared_dir / "data" / "golden" / name).read_text(encoding="utf-8").splitlines()
    assert lines
    return [json.loads(line) for line in lines]


def conversation(given: dict[str, Any]) -> Conversation:
    """A vector's input, nulls taken as the template takes them."""
    return Conversation(
        messages=tuple(_message(message) for message in given["messages"]),
        tools=tuple(given.get("tools") or ()),
        thinking=given.get("thinking") is not False,
        add_generation_prompt=given["add_generation_prompt"],
    )


def _message(given: dict[str, Any]) -> Message:
    content = given.get("content") or ()
    return Message(
        role=given["role"],
        content=(TextPart(content),) if isinstance(content, str) else tuple(map(_part, content)),
        name=given.get("name") or "",
        reasoning_content=given.get("reasoning_content") or "",
        tool_calls=tuple(map(_call, given.get("tool_calls") or ())),
        tool_call_id=str(given.get("tool_call_id", "")),
    )


def _part(given: dict[str, Any]) -> Part:
    if given["type"] in ("image", "image_url"):
        return ImagePart()
    if given["type"] in ("video", "video_url"):
        return VideoPart()
    return TextPart(given["text"])


def _call(given: dict[str, Any]) -> ToolCall:
    function = given["function"]
    return ToolCall(str(given.get("id", "")), function["name"], function["arguments"])
