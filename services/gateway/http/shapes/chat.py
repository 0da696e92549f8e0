"""Schemas of a whole chat completion."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, UnsetType

from services.gateway.http.shapes.base import AnswerShape
from services.gateway.http.shapes.prompt_logprobs import PromptLogprobsAnswer
from services.gateway.http.shapes.usage import UsageAnswer


class TokenEntry(AnswerShape):
    """A token and its log-probability."""

    token: str
    logprob: float
    bytes: list[int]


class PositionEntry(TokenEntry):
    """The sampled token, and the likeliest."""

    top_logprobs: list[TokenEntry]


class ChatLogprobs(AnswerShape):
    """One entry per token."""

    content: list[PositionEntry]
    refusal: None = None


class FunctionAnswer(AnswerShape):
    """`arguments`: JSON text."""

    name: str
    arguments: str


class ToolCallAnswer(AnswerShape):
    """A call the model made."""

    id: str
    type: Literal["function"]
    function: FunctionAnswer


ReasoningField = Literal["reasoning_content", "reasoning"]


class MessageAnswer(AnswerShape):
    """The assistant's turn. The gateway's setting decides which of the two names its reasoning has."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None = None
    reasoning_content: str | UnsetType | None = UNSET
    reasoning: str | UnsetType | None = UNSET
    tool_calls: list[ToolCallAnswer] | UnsetType = UNSET


FinishReason = Literal["stop", "length", "tool_calls"]


class ChatChoice(AnswerShape):
    """One answer of n."""

    index: int
    message: MessageAnswer
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason


class ChatAnswer(AnswerShape):
    """A whole chat completion."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsageAnswer
    prompt_logprobs: PromptLogprobsAnswer | UnsetType = UNSET
