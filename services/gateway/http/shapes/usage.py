"""The schema of token accounting."""

from __future__ import annotations

from services.gateway.http.shapes.base import AnswerShape


class PromptTokens(AnswerShape):
    """Kinds of prompt tokens."""

    cached_tokens: int
    image_tokens: int
    video_tokens: int


class CompletionTokens(AnswerShape):
    """Kinds of generated tokens."""

    reasoning_tokens: int


class UsageAnswer(AnswerShape):
    """Token accounting."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokens
    completion_tokens_details: CompletionTokens
