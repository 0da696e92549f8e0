"""Reading the golden vectors of the prompt format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.gateway.chat.call_ids import normalise_call_ids
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


def expected_text(vector: dict[str, Any]) -> str:
    """The prompt as this server renders it: null reasoning is empty."""
    expected = vector["expected"]
    text: str = expected.get("text_null_as_empty", expected["text"])
    return text


def expected_ids(vector: dict[str, Any]) -> list[int]:
    """Its ids as this server encodes them: text from outside is ordinary text."""
    expected = vector["expected"]
    ids: list[int] = expected.get("token_ids_null_as_empty", expected["token_ids"])
    return expected.get("token_ids_literal", ids)


def chat_body(vector: dict[str, Any], image_urls: Sequence[str] = ()) -> dict[str, Any]:
    """A vector's input as a REST body. Its images, in whatever spelling, get `image_urls` in turn, the last
    one again and again."""
    given = vector["input"]
    urls = list(reversed(image_urls))
    messages = []
    for message in given["messages"]:
        message = dict(message)
        if isinstance(message.get("content"), list):
            message["content"] = [
                {"type": "image_url", "image_url": {"url": urls.pop() if len(urls) > 1 else urls[0]}}
                if part["type"] in ("image", "image_url") and urls
                else part
                for part in message["content"]
            ]
        messages.append(message)
    body: dict[str, Any] = {"messages": messages}
    if "tools" in given:
        body["tools"] = given["tools"]
    if "thinking" in given:
        body["chat_template_kwargs"] = {"thinking": given["thinking"]}
    return body


def offered(vector: dict[str, Any]) -> bool:
    """Whether REST takes the vector's input as it is meant: OpenAI's roles and parts, no video yet."""
    messages = vector["input"]["messages"]
    parts = [
        part
        for message in messages
        if isinstance(message.get("content"), list)
        for part in message["content"]
    ]
    return {message["role"] for message in messages} <= {"system", "user", "assistant", "tool"} and {
        part["type"] for part in parts
    } <= {"text", "image", "image_url"}


def native_ids(vector: dict[str, Any]) -> bool:
    """Whether the ids of its tool calls are those that the server would give them."""
    given = conversation(vector["input"])
    return normalise_call_ids(given) == given


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
