"""Schemas of error answers."""

from __future__ import annotations

from typing import Literal

from services.gateway.http.shapes.base import AnswerShape

ErrorType = Literal["invalid_request_error", "rate_limit_error", "server_error"]


class ErrorDetail(AnswerShape):
    """`param`: the guilty field as the caller spelt it; `code`: stable, for programs."""

    message: str
    type: ErrorType
    param: str | None
    code: str | None


class ErrorAnswer(AnswerShape):
    """Every failure; mid-stream the last event."""

    error: ErrorDetail
