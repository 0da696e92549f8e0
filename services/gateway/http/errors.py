"""The REST side of the error table: status and OpenAI error object of every exception."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from services.common.errors import (
    Cancelled,
    ContextLengthExceeded,
    DeadlineExceeded,
    Incompatible,
    InternalError,
    InvalidRequest,
    InvalidToolCall,
    ModelNotFound,
    NotFound,
    Overloaded,
    PerigeeError,
    PermissionDenied,
    PreconditionFailed,
    RateLimited,
    ShuttingDown,
    Unauthenticated,
    Unavailable,
    UnsupportedOperation,
    UnsupportedValue,
)
from services.gateway.http.shapes.base import AnswerShape
from services.gateway.http.shapes.errors import ErrorAnswer, ErrorDetail, ErrorType


class BodyTooLarge(InvalidRequest):
    """The body is longer than this gateway takes."""

    reason = "BODY_TOO_LARGE"


class BodyTooSlow(InvalidRequest):
    """The body did not arrive in time."""

    reason = "BODY_TOO_SLOW"


class UnknownEncoding(InvalidRequest):
    """The body is encoded in a way that this gateway does not take: 415."""

    reason = "UNKNOWN_ENCODING"


@dataclass(frozen=True)
class _Row:
    status: int
    type: ErrorType
    code: str | None


# The nearest row up the class tree counts; what has none is a 500 whose cause stays ours.
_ROWS: Mapping[type[BaseException], _Row] = MappingProxyType(
    {
        InvalidRequest: _Row(400, "invalid_request_error", None),
        BodyTooLarge: _Row(413, "invalid_request_error", None),
        BodyTooSlow: _Row(408, "invalid_request_error", None),
        UnknownEncoding: _Row(415, "invalid_request_error", None),
        UnsupportedValue: _Row(400, "invalid_request_error", "unsupported_value"),
        ContextLengthExceeded: _Row(400, "invalid_request_error", "context_length_exceeded"),
        UnsupportedOperation: _Row(501, "invalid_request_error", "unsupported_operation"),
        NotFound: _Row(404, "invalid_request_error", "not_found"),
        ModelNotFound: _Row(404, "invalid_request_error", "model_not_found"),
        Overloaded: _Row(429, "rate_limit_error", "overloaded"),
        RateLimited: _Row(429, "rate_limit_error", "rate_limit_exceeded"),
        Unavailable: _Row(503, "server_error", "unavailable"),
        ShuttingDown: _Row(503, "server_error", "shutting_down"),
        Incompatible: _Row(503, "server_error", "incompatible"),
        PreconditionFailed: _Row(412, "invalid_request_error", "precondition_failed"),
        PermissionDenied: _Row(403, "invalid_request_error", "permission_denied"),
        Unauthenticated: _Row(401, "invalid_request_error", "invalid_api_key"),
        InvalidToolCall: _Row(502, "server_error", "invalid_tool_call"),
        DeadlineExceeded: _Row(504, "server_error", "deadline_exceeded"),
        Cancelled: _Row(499, "server_error", "cancelled"),
        InternalError: _Row(500, "server_error", "internal"),
    }
)
_UNKNOWN = _Row(500, "server_error", "internal")


@dataclass(frozen=True)
class HttpError:
    """An HTTP answer: `headers` go beside `body`."""

    status: int
    body: AnswerShape
    headers: Mapping[str, str] = field(default_factory=dict)


def to_http(error: BaseException, request_id: str = "") -> HttpError:
    """The answer for `error`. Of an exception outside our tree nothing is shown but `request_id`."""
    row = next((_ROWS[cls] for cls in type(error).__mro__ if cls in _ROWS), None)
    if row is None or not isinstance(error, PerigeeError):
        row, message = _UNKNOWN, "internal error" + (f", request id {request_id}" if request_id else "")
    else:
        message = error.message
    param = error.param if isinstance(error, InvalidRequest | NotFound) else None
    headers = {}
    if isinstance(error, Overloaded | Unavailable):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, BodyTooSlow):
        headers["Connection"] = "close"
    if isinstance(error, UnknownEncoding):
        headers["Accept-Encoding"] = "gzip, identity"
    return HttpError(row.status, ErrorAnswer(ErrorDetail(message, row.type, param, row.code)), headers)


def bad_request(message: str, code: str | None = None) -> ErrorAnswer:
    """The error object of a request that reaches no route."""
    return ErrorAnswer(ErrorDetail(message, "invalid_request_error", None, code))
