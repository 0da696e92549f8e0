"""Schemas of /generate, whole and streamed."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import UNSET, UnsetType

from services.gateway.http.shapes.base import AnswerShape


class FinishAnswer(AnswerShape):
    """`matched`: the token id or stop string that ended it; `length`: how many tokens there were."""

    type: Literal["stop", "length"]
    matched: int | str | UnsetType | None = UNSET
    length: int | UnsetType = UNSET


class MetaInfo(AnswerShape):
    """Beside a text. A log-probability is a list: itself, the token's id, and its text if asked for. That of
    the input's first token is null, and so are its alternatives.
    """

    id: str
    finish_reason: FinishAnswer | None
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    input_token_logprobs: list[list[Any]] | UnsetType = UNSET
    input_top_logprobs: list[list[list[Any]] | None] | UnsetType = UNSET
    output_token_logprobs: list[list[Any]] | UnsetType = UNSET
    output_top_logprobs: list[list[list[Any]]] | UnsetType = UNSET
    e2e_latency: float | UnsetType = UNSET


class GenerateAnswer(AnswerShape, kw_only=True):
    """All there is of a text so far; `output_ids`: at its end; `index`: in a stream of several."""

    text: str
    output_ids: list[int] | UnsetType = UNSET
    meta_info: MetaInfo
    index: int | UnsetType = UNSET
