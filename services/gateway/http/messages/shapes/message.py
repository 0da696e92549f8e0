"""Schemas of a whole message, of counted tokens, and of the list of models."""

from __future__ import annotations

from typing import Any, Literal

from services.gateway.http.shapes.base import AnswerShape

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]


class ThinkingAnswer(AnswerShape, tag_field="type", tag="thinking"):
    """The model's reasoning."""

    thinking: str
    signature: str


class TextAnswer(AnswerShape, tag_field="type", tag="text"):
    """A piece of the answer's text."""

    text: str


class ToolUseAnswer(AnswerShape, tag_field="type", tag="tool_use"):
    """A finished call of a tool."""

    id: str
    name: str
    input: dict[str, Any]


class MessagesUsage(AnswerShape):
    """Token accounting. The first three add up to the whole prompt."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int


class AssistantMessage(AnswerShape, tag_field="type", tag="message"):
    """A message of the assistant. In a stream's first event it is empty, and its `stop_reason` null."""

    id: str
    role: Literal["assistant"]
    model: str
    content: list[ThinkingAnswer | TextAnswer | ToolUseAnswer]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: MessagesUsage


class CountAnswer(AnswerShape):
    """Counted tokens."""

    input_tokens: int


class MessagesModel(AnswerShape, tag_field="type", tag="model"):
    """A served name."""

    id: str
    display_name: str
    created_at: str


class MessagesModels(AnswerShape):
    """All served names, on one page."""

    data: list[MessagesModel]
    first_id: str
    last_id: str
    has_more: bool
