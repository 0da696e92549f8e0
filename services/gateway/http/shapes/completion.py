"""Schemas of /v1/completions, whole and streamed."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, UnsetType

from services.gateway.http.shapes.base import AnswerShape
from services.gateway.http.shapes.prompt_logprobs import PromptLogprobsAnswer
from services.gateway.http.shapes.usage import UsageAnswer

TextFinish = Literal["stop", "length"]


class CompletionLogprobs(AnswerShape):
    """Lists that belong together, one entry per token; `text_offset`: where in the text it begins. Null: the
    first token of an echoed prompt.
    """

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(AnswerShape):
    """One text; in a stream, what is new of it."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: TextFinish | None
    prompt_logprobs: PromptLogprobsAnswer | UnsetType = UNSET


class CompletionAnswer(AnswerShape):
    """A whole completion, or an event of its stream: only there is usage null, absent, or all there is."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: UsageAnswer | UnsetType | None = UNSET
