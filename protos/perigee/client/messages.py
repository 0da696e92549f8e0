"""Conversations as protobuf messages, built from strings, bytes and OpenAI's dicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from perigee.client.errors import InvalidRequest
from perigee.v1 import chat_pb2

MessageLike = Mapping[str, Any] | chat_pb2.Message | chat_pb2.ChatChoice

_TEXTS = ("role", "name", "reasoning_content", "tool_call_id")


def conversation(messages: str | Iterable[MessageLike]) -> list[chat_pb2.Message]:
    """Returns the messages of a request.

    A string is one user turn. A ChatChoice, the model's own answer, is an assistant's turn. A dict has the
    keys of OpenAI's messages. Its content is a string or a list of parts: a string, the bytes of an image, or
    a dict: `{"type": "text", "text": ...}`, `{"type": "image", "data": bytes}`, `{"type": "video", "data":
    bytes}`, or OpenAI's `image_url` and `video_url`. Raises InvalidRequest naming the place.
    """
    if isinstance(messages, str):
        return [chat_pb2.Message(role="user", content=[chat_pb2.ContentPart(text=messages)])]
    return [_message(each, f"messages[{index}]") for index, each in enumerate(messages)]


def _message(given: Any, param: str) -> chat_pb2.Message:
    if isinstance(given, chat_pb2.Message):
        return given
    if isinstance(given, chat_pb2.ChatChoice):
        return chat_pb2.Message(
            role="assistant",
            content=[chat_pb2.ContentPart(text=given.content)] if given.content else [],
            reasoning_content=given.reasoning_content,
            tool_calls=given.tool_calls,
        )
    if not isinstance(given, Mapping):
        raise InvalidRequest(f"{param} is a {_kind(given)}; a dict, Message or ChatChoice is needed", param)
    fields = {key: value for key, value in given.items() if value is not None}
    parts = _parts(fields.pop("content", ()), f"{param}.content")
    calls = _list(fields.pop("tool_calls", ()), f"{param}.tool_calls")
    for key, value in fields.items():
        _check_text(key, value, param)
    return chat_pb2.Message(
        content=parts,
        tool_calls=[_call(call, f"{param}.tool_calls[{index}]") for index, call in enumerate(calls)],
        **fields,
    )


def _check_text(key: str, value: Any, param: str) -> None:
    if key not in _TEXTS:
        known = ", ".join((*_TEXTS, "content", "tool_calls"))
        raise InvalidRequest(f"{param} has the unknown key {key!r}; known: {known}", f"{param}.{key}")
    if not isinstance(value, str):
        raise InvalidRequest(f"{param}.{key} is a {_kind(value)}; a string is needed", f"{param}.{key}")


def _parts(content: Any, param: str) -> list[chat_pb2.ContentPart]:
    if isinstance(content, str | bytes):
        return [_part(content, param)]
    return [_part(part, f"{param}[{index}]") for index, part in enumerate(_list(content, param))]


def _part(part: Any, param: str) -> chat_pb2.ContentPart:
    if isinstance(part, chat_pb2.ContentPart):
        return part
    if isinstance(part, str):
        return chat_pb2.ContentPart(text=part)
    if isinstance(part, bytes):
        return chat_pb2.ContentPart(image=chat_pb2.Image(data=part))
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return chat_pb2.ContentPart(text=part["text"])
    if kind in ("image", "video") and isinstance(part.get("data"), bytes):
        return _medium(kind, {"data": part["data"]})
    if kind in ("image_url", "video_url"):
        source = part.get(kind)
        url = source.get("url") if isinstance(source, Mapping) else source
        if isinstance(url, str):
            return _medium(kind.removesuffix("_url"), {"url": url})
    raise InvalidRequest(
        f"{param} is no content part: a string, the bytes of an image, or a dict of the type text (with a"
        " string `text`), image or video (with bytes as `data`), image_url or video_url is needed",
        param,
    )


def _medium(kind: str, source: Mapping[str, Any]) -> chat_pb2.ContentPart:
    if kind == "image":
        return chat_pb2.ContentPart(image=chat_pb2.Image(**source))
    return chat_pb2.ContentPart(video=chat_pb2.Video(**source))


def _call(call: Any, param: str) -> chat_pb2.ToolCall:
    if isinstance(call, chat_pb2.ToolCall):
        return call
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        raise InvalidRequest(
            f"{param} is no tool call: `function` with `name` and `arguments` is needed", param
        )
    texts = {
        "id": call.get("id", ""),
        "name": function.get("name"),
        "arguments": function.get("arguments", ""),
    }
    for key, value in texts.items():
        if not isinstance(value, str):
            raise InvalidRequest(f"{param}: {key} is a {_kind(value)}; a string is needed", f"{param}.{key}")
    return chat_pb2.ToolCall(**texts)


def _list(value: Any, param: str) -> list[Any]:
    if isinstance(value, Mapping) or not isinstance(value, Iterable):
        raise InvalidRequest(f"{param} is a {_kind(value)}; a list is needed", param)
    return list(value)


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__
