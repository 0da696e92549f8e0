"""Maps errors to HTTP: the status and OpenAI error object of every exception."""

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
    PreconditionFailed,
    Unavailable,
    UnsupportedOperation,
    UnsupportedValue,
)


@dataclass(frozen=True)
class _Row:
    status: int
    type: str
    code: str | None


# The nearest base class in the table applies; other exceptions are a 500 without their cause.
_ROWS: Mapping[type[BaseException], _Row] = MappingProxyType(
    {
        InvalidRequest: _Row(400, "invalid_request_error", None),
        UnsupportedValue: _Row(400, "invalid_request_error", "unsupported_value"),
        ContextLengthExceeded: _Row(400, "invalid_request_error", "context_length_exceeded"),
        UnsupportedOperation: _Row(501, "invalid_request_error", "unsupported_operation"),
        NotFound: _Row(404, "invalid_request_error", "not_found"),
        ModelNotFound: _Row(404, "invalid_request_error", "model_not_found"),
        Overloaded: _Row(429, "rate_limit_error", "overloaded"),
        Unavailable: _Row(503, "server_error", "unavailable"),
        Incompatible: _Row(503, "server_error", "incompatible"),
        PreconditionFailed: _Row(412, "invalid_request_error", "precondition_failed"),
        InvalidToolCall: _Row(502, "server_error", "invalid_tool_call"),
        DeadlineExceeded: _Row(504, "server_error", "deadline_exceeded"),
        Cancelled: _Row(499, "server_error", "cancelled"),
        InternalError: _Row(500, "server_error", "internal"),
    }
)
_UNKNOWN = _Row(500, "server_error", "internal")


@dataclass(frozen=True)
class HttpError:
    """An HTTP response: `body` is the JSON object to send, with `headers`."""

    status: int
    body: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict)


def to_http(error: BaseException, request_id: str = "") -> HttpError:
    """Returns the response for `error`. For an exception outside the tree it shows only `request_id`."""
    row = next((_ROWS[cls] for cls in type(error).__mro__ if cls in _ROWS), None)
    if row is None or not isinstance(error, PerigeeError):
        row, message = _UNKNOWN, "internal error" + (f", request id {request_id}" if request_id else "")
    else:
        message = error.message
    param = error.param if isinstance(error, InvalidRequest | NotFound) else None
    headers = {}
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    body = {"error": {"message": message, "type": row.type, "param": param, "code": row.code}}
    return HttpError(row.status, body, headers)
