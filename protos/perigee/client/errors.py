"""The exceptions that failed calls raise.

PerigeeError
├── InvalidRequest              a field is wrong: names it
│   ├── UnsupportedValue        understood, but not offered
│   ├── ContextLengthExceeded   the prompt, or prompt plus completion, is too long
│   └── TooLarge                the message has more bytes than one side accepts
├── UnsupportedOperation        this server never does that
├── NotFound
│   └── ModelNotFound
├── Overloaded                  refused before any work was done: retry later
│   └── RateLimited             the API key has used up one of its limits
├── Unavailable                 no gateway, no worker of a role, or one died
│   └── ShuttingDown            the gateway stops: another one, or a later attempt, may answer
├── Incompatible                workers do not fit each other
├── PreconditionFailed          the server's state forbids it
├── PermissionDenied            the caller may not do that
├── Unauthenticated             no valid API key came with the call
├── InvalidToolCall             the model's call violates its schema; asking again may help
├── DeadlineExceeded            the call's time ran out
├── Cancelled                   the call was cancelled, usually by this client
└── InternalError               a defect of Perigee
"""

from __future__ import annotations

import grpc


class PerigeeError(Exception):
    """A call failed.

    `message` is for people. `reason` is stable, upper-case, for programs; "" if no gateway sent the failure.
    `code` is the gRPC status. `request_id` is the call's name in the gateway's log; "" if it is unknown.
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        reason: str = "",
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.request_id = request_id


class InvalidRequest(PerigeeError):
    """The request is wrong. `param` names the field, e.g. ``messages[0].role``; None if no single one is."""

    def __init__(
        self,
        message: str,
        param: str | None = None,
        *,
        code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT,
        reason: str = "INVALID_REQUEST",
        request_id: str = "",
    ) -> None:
        super().__init__(message, code=code, reason=reason, request_id=request_id)
        self.param = param


class UnsupportedValue(InvalidRequest):
    """A known field has a value that the server does not offer."""


class ContextLengthExceeded(InvalidRequest):
    """The prompt, or prompt plus requested completion, is longer than the model's context."""


class TooLarge(InvalidRequest):
    """A message has more bytes than the receiving side accepts; retrying does not help."""


class UnsupportedOperation(PerigeeError):
    """The server does not serve this kind of request."""


class NotFound(PerigeeError):
    """Something that the request names does not exist; `param` as in InvalidRequest."""

    def __init__(
        self,
        message: str,
        param: str | None = None,
        *,
        code: grpc.StatusCode = grpc.StatusCode.NOT_FOUND,
        reason: str = "NOT_FOUND",
        request_id: str = "",
    ) -> None:
        super().__init__(message, code=code, reason=reason, request_id=request_id)
        self.param = param


class ModelNotFound(NotFound):
    """No model is served under that name."""


class Overloaded(PerigeeError):
    """Refused before any work was done, also by the last attempt that the retry policy allows.

    `retry_after_s` is the delay, in seconds, that the server asks for; None if it names none.
    """

    def __init__(
        self,
        message: str,
        retry_after_s: float | None = None,
        *,
        code: grpc.StatusCode = grpc.StatusCode.RESOURCE_EXHAUSTED,
        reason: str = "OVERLOADED",
        request_id: str = "",
    ) -> None:
        super().__init__(message, code=code, reason=reason, request_id=request_id)
        self.retry_after_s = retry_after_s


class RateLimited(Overloaded):
    """The API key has used up one of its limits; `retry_after_s` as in Overloaded."""


class Unavailable(PerigeeError):
    """The gateway is not reachable, no worker of a role can serve, or the worker that served died.

    `retry_after_s` as in Overloaded.
    """

    def __init__(
        self,
        message: str,
        retry_after_s: float | None = None,
        *,
        code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE,
        reason: str = "UNAVAILABLE",
        request_id: str = "",
    ) -> None:
        super().__init__(message, code=code, reason=reason, request_id=request_id)
        self.retry_after_s = retry_after_s


class ShuttingDown(Unavailable):
    """The gateway ended the call because it stops; another one, or a later attempt, may answer."""


class Incompatible(PerigeeError):
    """Workers differ in model or KV layout; the message names the difference."""


class PreconditionFailed(PerigeeError):
    """The request is valid, but the server's present state forbids it."""


class PermissionDenied(PerigeeError):
    """The caller is known and may not do this."""


class Unauthenticated(PerigeeError):
    """The call has no API key, or one that is unknown, expired or revoked."""


class InvalidToolCall(PerigeeError):
    """The model's tool call violates the tool's schema, which no grammar could enforce."""


class DeadlineExceeded(PerigeeError):
    """The call's time ran out."""


class Cancelled(PerigeeError):
    """The call was cancelled: its stream or client was closed, or the server shut down."""


class InternalError(PerigeeError):
    """A defect of Perigee."""
