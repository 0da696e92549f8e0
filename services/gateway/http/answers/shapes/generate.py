"""Schemas of /generate, whole and streamed."""

from __future__ import annotations

from typing import Any, Literal

from services.gateway.http.answers.shapes.base import AnswerShape


class FinishAnswer(AnswerShape):
    """`matched`: the token id or stop string that ended it; `length`: how many tokens there were."""

    type: Literal["stop", "length"]
    matched: int | str | None = None
    length: int | None = None


class MetaInfo(AnswerShape):
    """Beside a text. A log-probability is a list: itself, the token's id, and its text if asked for."""

    id: str
    finish_reason: FinishAnswer | None
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    input_token_logprobs: list[list[Any]] | None = None
    output_token_logprobs: list[list[Any]] | None = None
    output_top_logprobs: list[list[list[Any]]] | None = None
    e2e_latency: float | None = None


class GenerateAnswer(AnswerShape):
    """All there is of a text so far; `output_ids`: at its end; `index`: in a stream of several."""

    text: str
    meta_info: MetaInfo
    output_ids: list[int] | None = None
    index: int | None = None
