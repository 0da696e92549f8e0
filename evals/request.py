"""Converts a case to the body of a chat completion, and the answer's message to what is scored."""

from __future__ import annotations

import base64
from typing import Any

from services.families.conversation import Conversation, ImagePart, Message, Part, TextPart
from training.skills.expectation import Call
from training.skills.strict_json import read_json


def chat_body(conversation: Conversation, model: str, max_tokens: int) -> dict[str, Any]:
    """Body of a chat completion with greedy decoding, so that the same model gets the same score."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [_message(message) for message in conversation.messages],
        "temperature": 0,
        "max_tokens": max_tokens,
        "chat_template_kwargs": {"thinking": conversation.thinking},
    }
    return body | ({"tools": list(conversation.tools)} if conversation.tools else {})


def answer_of(response: dict[str, Any]) -> tuple[str, tuple[Call, ...]]:
    """Content and tool calls of the response. ValueError if it does not have the form of a chat completion,
    or if the arguments of a call are not a JSON object.
    """
    try:
        message = response["choices"][0]["message"]
        made = [call["function"] for call in message.get("tool_calls") or ()]
        calls = tuple(Call(function["name"], read_json(function["arguments"])) for function in made)
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"no chat completion: {str(response)[:200]}") from error
    if not all(isinstance(call.arguments, dict) for call in calls):
        raise ValueError("a call's arguments are no JSON object")
    return message.get("content") or "", calls


def _message(message: Message) -> dict[str, Any]:
    parts = [_part(part) for part in message.content]
    plain = all(part["type"] == "text" for part in parts)
    turn: dict[str, Any] = {"role": message.role, "content": parts or None}
    if parts and plain:
        turn["content"] = "".join(part["text"] for part in parts)
    turn |= {"name": message.name} if message.name else {}
    turn |= {"tool_call_id": message.tool_call_id} if message.tool_call_id else {}
    turn |= {"reasoning_content": message.reasoning_content} if message.reasoning_content else {}
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in message.tool_calls
    ]
    return turn | ({"tool_calls": calls} if calls else {})


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    if isinstance(part, ImagePart):
        url = f"data:image/png;base64,{base64.b64encode(part.data).decode()}"
        return {"type": "image_url", "image_url": {"url": url}}
    raise ValueError("cases have no videos")
