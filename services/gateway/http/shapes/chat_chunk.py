"""Schemas of the events of a chat's stream."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, UnsetType

from services.gateway.http.shapes.base import AnswerShape
from services.gateway.http.shapes.chat import ChatLogprobs, FinishReason
from services.gateway.http.shapes.usage import UsageAnswer


class FunctionDelta(AnswerShape):
    """`arguments`: to be appended; together JSON text. `name`: whole, in the call's first delta alone."""

    arguments: str
    name: str | UnsetType = UNSET


class ToolCallDelta(AnswerShape):
    """A piece of a call; `index`: of it in this message.

    The call's first delta has `id`, `type`, the name and empty arguments; the others have arguments alone.
    """

    index: int
    function: FunctionDelta
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET


class DeltaAnswer(AnswerShape):
    """A message's increment: reasoning, content or a piece of a call, never two. Clients append the texts."""

    role: Literal["assistant"] | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    content: str | UnsetType = UNSET
    tool_calls: list[ToolCallDelta] | UnsetType = UNSET


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
    usage: UsageAnswer | UnsetType | None = UNSET
