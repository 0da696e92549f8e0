"""Schemas of /tokenize and /detokenize."""

from __future__ import annotations

from services.gateway.http.shapes.base import AnswerShape


class TokenizeAnswer(AnswerShape):
    """`max_model_len`: null where it is not known; `text`: the rendered prompt."""

    tokens: tuple[int, ...]
    count: int
    max_model_len: int | None
    text: str


class DetokenizeAnswer(AnswerShape):
    """The same text twice, for two kinds of clients."""

    text: str
    prompt: str
