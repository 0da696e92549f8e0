"""Schemas of a stream's events."""

from __future__ import annotations

from typing import TypeAlias

from services.gateway.http.messages.shapes.message import (
    AssistantMessage,
    MessagesUsage,
    StopReason,
    TextAnswer,
    ThinkingAnswer,
    ToolUseAnswer,
)
from services.gateway.http.shapes.base import AnswerShape


class MessageStart(AnswerShape, tag_field="type", tag="message_start"):
    """The first event."""

    message: AssistantMessage


class BlockStart(AnswerShape, tag_field="type", tag="content_block_start"):
    """A block begins, empty."""

    index: int
    content_block: ThinkingAnswer | TextAnswer | ToolUseAnswer


class ThinkingDelta(AnswerShape, tag_field="type", tag="thinking_delta"):
    """More reasoning."""

    thinking: str


class SignatureDelta(AnswerShape, tag_field="type", tag="signature_delta"):
    """The end of reasoning."""

    signature: str


class TextDelta(AnswerShape, tag_field="type", tag="text_delta"):
    """More text."""

    text: str


class InputDelta(AnswerShape, tag_field="type", tag="input_json_delta"):
    """More of a call's input."""

    partial_json: str


class BlockDelta(AnswerShape, tag_field="type", tag="content_block_delta"):
    """More of the block that began last."""

    index: int
    delta: ThinkingDelta | SignatureDelta | TextDelta | InputDelta


class BlockStop(AnswerShape, tag_field="type", tag="content_block_stop"):
    """The block is whole. None comes for a call that is cut."""

    index: int


class MessageEnd(AnswerShape):
    """Why the message ended."""

    stop_reason: StopReason
    stop_sequence: str | None


class MessageDelta(AnswerShape, tag_field="type", tag="message_delta"):
    """The message has ended."""

    delta: MessageEnd
    usage: MessagesUsage


class MessageStop(AnswerShape, tag_field="type", tag="message_stop"):
    """The last event."""


class Ping(AnswerShape, tag_field="type", tag="ping"):
    """Nothing is new."""


MessageEvent: TypeAlias = (
    MessageStart | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop | Ping
)
