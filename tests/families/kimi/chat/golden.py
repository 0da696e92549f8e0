"""Reading the golden vectors of the prompt format."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.families.conversation import (
    Conversation,
    ImagePart,
    Message,
    Part,
    TextPart,
    ToolCall,
    VideoPart,
)
from services.families.kimi.chat.call_ids import normalise_call_ids

_ROLES = frozenset({"system", "user", "assistant", "tool"})
_PART_TYPES = frozenset({"text", "input_text", "image", "image_url"})


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
    """A vector's input as a REST body; its images, however spelt, get `image_urls` in turn, over and over."""
    given = vector["input"]
    urls = itertools.cycle(image_urls)
    messages = []
    for message in given["messages"]:
        message = dict(message)
        if isinstance(message.get("content"), list):
            message["content"] = [
                {"type": "image_url", "image_url": {"url": next(urls)}}
                if part["type"] in ("image", "image_url") and image_urls
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


def refused(vector: dict[str, Any]) -> bool:
    """Whether REST refuses the vector's input: roles, parts, tools and results that are not OpenAI's, and
    video for now.
    """
    given = vector["input"]
    other_tools = any(tool["type"] != "function" for tool in given.get("tools") or ())
    stray = any(each["role"] == "tool" and each.get("tool_call_id", "") is None for each in given["messages"])
    known = _roles(vector) <= {*_ROLES, "developer"} and _parts(vector) <= _PART_TYPES
    return not known or other_tools or stray


def verbatim(vector: dict[str, Any]) -> bool:
    """Whether REST renders the input as it is: `developer` becomes `system`, foreign call ids ours."""
    return not refused(vector) and _roles(vector) <= _ROLES and native_ids(vector)


def native_ids(vector: dict[str, Any]) -> bool:
    """Whether the ids of its tool calls have the model's shape, though perhaps not the numbers they get."""
    calls = [call for message in vector["input"]["messages"] for call in message.get("tool_calls") or ()]
    shapes = ((rf"functions\.{re.escape(call['function']['name'])}:\d+", call.get("id")) for call in calls)
    return all(re.fullmatch(shape, call_id or "") for shape, call_id in shapes)


def numbered_ids(vector: dict[str, Any]) -> bool:
    """Whether they have these numbers too, so that they stay what they are."""
    given = conversation(vector["input"])
    return normalise_call_ids(given) == given


def _roles(vector: dict[str, Any]) -> set[str]:
    return {message["role"] for message in vector["input"]["messages"]}


def _parts(vector: dict[str, Any]) -> set[str]:
    contents = [message.get("content") for message in vector["input"]["messages"]]
    return {part["type"] for content in contents if isinstance(content, list) for part in content}


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
