"""Schemas of the events of a chat's stream."""

from __future__ import annotations

from typing import Literal

from services.gateway.http.answers.shapes.base import AnswerShape
from services.gateway.http.answers.shapes.chat import ChatLogprobs, FinishReason
from services.gateway.http.answers.shapes.usage import UsageAnswer


class FunctionDelta(AnswerShape):
    """`name`: once, whole; `arguments`: appended by the client."""

    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(AnswerShape):
    """`index`: of the call in this message; `id` and `type` come once."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta | None = None


class DeltaAnswer(AnswerShape):
    """A message's increment: reasoning, content or one call, never two. Clients append the texts."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class ChunkChoice(AnswerShape):
    """The increment of one choice; a `finish_reason` comes with an empty delta."""

    index: int
    delta: DeltaAnswer
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason | None


class ChatChunk(AnswerShape):
    """An event of a chat's stream; the last one when usage was asked for has no choices."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: UsageAnswer | None = None
