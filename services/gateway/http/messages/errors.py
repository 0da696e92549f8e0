"""Failures in the form of Messages."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from services.common.errors import ContextLengthExceeded, InvalidRequest
from services.gateway.http.answers.reply_form import ReplyForm
from services.gateway.http.errors import HttpError, to_http
from services.gateway.http.messages.shapes.errors import (
    MessagesErrorAnswer,
    MessagesErrorDetail,
    MessagesErrorType,
)
from services.gateway.http.shapes.errors import ErrorAnswer

# All other 4xx are invalid_request_error, all other 5xx api_error.
_TYPES: Mapping[int, MessagesErrorType] = MappingProxyType(
    {
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        503: "overloaded_error",
        504: "timeout_error",
    }
)


def messages_error(error: BaseException, name: str) -> HttpError:
    """The answer for `error`: status and headers are as on the other routes. `name`: the request's."""
    answer = to_http(error, name)
    assert isinstance(answer.body, ErrorAnswer)
    text = _text(error, answer.body.error.message)
    return HttpError(answer.status, messages_refusal(answer.status, text, name), answer.headers)


def messages_refusal(status: int, message: str, name: str) -> MessagesErrorAnswer:
    """The error object of an answer with this status."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return MessagesErrorAnswer(MessagesErrorDetail(kind, message), name)


MESSAGES = ReplyForm(messages_error, names_events=True)
"""The routes under /v1/messages."""


def _text(error: BaseException, message: str) -> str:
    """What the other routes say, `message`, and the field, which has no place of its own here. Agents
    recognise a prompt that is too long by the beginning of the text, and read both numbers.
    """
    if isinstance(error, ContextLengthExceeded):
        if error.most:
            return f"prompt is too long: {error.tokens} tokens > {error.most} maximum"
        return f"prompt is too long: {message}"
    if isinstance(error, InvalidRequest) and error.param and error.param not in message:
        return f"{error.param}: {message}"
    return message
