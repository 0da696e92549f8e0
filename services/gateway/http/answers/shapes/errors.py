"""Schemas of error answers."""

from __future__ import annotations

from typing import Literal

from services.gateway.http.answers.shapes.base import AnswerShape


class ErrorDetail(AnswerShape):
    """`param`: the guilty field as the caller spelt it; `code`: stable, for programs."""

    message: str
    type: Literal["invalid_request_error", "rate_limit_error", "server_error"]
    param: str | None
    code: str | None


class ErrorAnswer(AnswerShape):
    """Every failure; mid-stream the last event."""

    error: ErrorDetail
