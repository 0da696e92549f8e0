"""Schemas of failures."""

from __future__ import annotations

from typing import Literal

from services.gateway.http.shapes.base import AnswerShape

MessagesErrorType = Literal[
    "invalid_request_error",
    "authentication_error",
    "permission_error",
    "not_found_error",
    "request_too_large",
    "rate_limit_error",
    "api_error",
    "overloaded_error",
    "timeout_error",
]


class MessagesErrorDetail(AnswerShape):
    """`type`: for programs."""

    type: MessagesErrorType
    message: str


class MessagesErrorAnswer(AnswerShape, tag_field="type", tag="error"):
    """Every failure; mid-stream the last event."""

    error: MessagesErrorDetail
    request_id: str
