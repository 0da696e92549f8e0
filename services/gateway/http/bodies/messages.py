"""The messages of a chat body as the conversation's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from services.common.errors import InvalidRequest, UnsupportedValue
from services.families.conversation import ImagePart, Message, Part, TextPart, ToolCall, VideoPart
from services.gateway.http.bodies.chat import REFUSED_IN_MESSAGES, MessageBody, PartBody, ToolCallBody
from services.gateway.http.bodies.fields.nested import read_url
from services.gateway.media.images import ImageSource
from services.gateway.media.request_media import MediaSource
from services.gateway.media.videos import VideoSource
from services.gateway.pipeline.roles import template_role

# The Responses API's names are read too: clients send back parts of its answers.
_TEXT_TYPES = ("text", "input_text", "output_text")


def read_message(
    body: MessageBody, param: str, media: list[MediaSource], reasoning_fields: Sequence[str]
) -> Message:
    """The message, which came in the field `param`; adds its media to `media`. `reasoning_fields`: where past
    reasoning is read from, as in ModelProfile.

    Raises InvalidRequest or UnsupportedValue naming the field.
    """
    for field in REFUSED_IN_MESSAGES:
        if getattr(body, field) is not None:
            raise UnsupportedValue(f"{param}.{field} is not supported by this server", f"{param}.{field}")
    role = template_role(body.role, f"{param}.role")
    if role == "tool" and body.tool_call_id is None:
        raise InvalidRequest(f"{param}.tool_call_id must name the call answered", f"{param}.tool_call_id")
    calls = body.tool_calls or ()
    return Message(
        role=role,
        content=_content(body, param, media),
        name=body.name or "",
        reasoning_content=_reasoning(body, reasoning_fields) or "",
        tool_calls=tuple(_tool_call(call, f"{param}.tool_calls[{i}]") for i, call in enumerate(calls)),
        tool_call_id=body.tool_call_id or "",
    )


def lacks_reasoning(body: MessageBody) -> bool:
    """Whether it is an assistant's message with calls and without a field of past reasoning."""
    return (
        body.role == "assistant"
        and bool(body.tool_calls)
        and _reasoning(body, ("reasoning_content", "reasoning")) is None
    )


def _reasoning(body: MessageBody, fields: Sequence[str]) -> str | None:
    """Past reasoning; None: no field has any. The first of `fields` that is there wins, be it empty."""
    for field in fields:
        given: str | None = getattr(body, field)
        if given is not None:
            return given
    if not body.reasoning_details:
        return None
    return "".join(each.text or "" for each in body.reasoning_details if each.type == "reasoning.text")


def _content(body: MessageBody, param: str, media: list[MediaSource]) -> tuple[Part, ...]:
    if isinstance(body.content, list):
        parts = enumerate(body.content)
        return tuple(_part(part, body.role, f"{param}.content[{index}]", media) for index, part in parts)
    text = body.content
    if not text and body.role == "assistant":
        text = body.refusal or text
    return () if text is None else (TextPart(text),)


def _part(part: PartBody, role: str, param: str, media: list[MediaSource]) -> Part:
    if part.type in _TEXT_TYPES:
        return TextPart(_required(part.text, "a text part needs text", f"{param}.text"))
    if part.type == "refusal" and role == "assistant":
        return TextPart(_required(part.refusal, "a refusal part needs refusal", f"{param}.refusal"))
    if part.type == "image_url":
        media.append(ImageSource(*_url(part.image_url, "image_url", param)))
        return ImagePart()
    if part.type == "video_url":
        media.append(VideoSource(*_url(part.video_url, "video_url", param)))
        return VideoPart()
    offered = "'text', 'image_url', 'video_url'" + (", 'refusal'" if role == "assistant" else "")
    raise InvalidRequest(f"part type {part.type!r} is not one of {offered}", f"{param}.type")


def _tool_call(call: ToolCallBody, param: str) -> ToolCall:
    if call.type not in (None, "function"):
        raise UnsupportedValue(f"{param}.type is {call.type!r}; calls are of functions", f"{param}.type")
    return ToolCall(id=call.id or "", name=call.function.name or "", arguments=call.function.arguments)


def _url(given: dict[str, Any] | str | None, kind: str, param: str) -> tuple[str, str]:
    """The URL, and the field it is in."""
    if given is None:
        raise InvalidRequest(f"a part of type {kind} needs {kind}", f"{param}.{kind}")
    return read_url(given, f"{param}.{kind}")


def _required(text: str | None, message: str, param: str) -> str:
    if text is None:
        raise InvalidRequest(message, param)
    return text
