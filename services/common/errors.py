"""The tree of all errors; only the edge maps them to gRPC and HTTP statuses.

PerigeeError
├── InvalidRequest              the caller's mistake: names the field
│   ├── UnsupportedValue        understood, but not offered
│   └── ContextLengthExceeded   prompt (plus completion) does not fit
├── UnsupportedOperation        this server never does that; another one may
├── NotFound
│   └── ModelNotFound
├── Overloaded                  refused before any work was done: retry later
│   ├── PagesExhausted          too few KV pages are free or evictable
│   └── RateLimited             the caller has used up what its API key may
├── Unavailable                 no worker of a role, or one died
│   ├── WorkerLost              the worker that had the request died or fell silent
│   ├── AlreadyPaired           another process holds the reader's name at the owner
│   ├── TransferFailed          KV pages or an embedding did not arrive complete and in time
│   ├── MediaLost               an embedding left the vision pool before it was read: encode again
│   └── ShuttingDown            the server stops: another one, or a restarted one, may answer
├── Incompatible                two workers differ in layout or model
├── PreconditionFailed          the server's state forbids it; the message says what would allow it
├── PermissionDenied            the caller may not do that, whatever the state is
├── Unauthenticated             no valid API key came with the request
├── InvalidToolCall             the model's call violates its schema; asking again may help
├── DeadlineExceeded
├── Cancelled
├── InternalError               a bug in Perigee
├── ConfigError                 start-up: an unknown key or a bad value
└── CheckpointError             start-up: the checkpoint contradicts its configuration
"""

from __future__ import annotations

from typing import Self


class PerigeeError(Exception):
    """Base of all errors that may cross a service's edge.

    `message` is for people; `reason` is stable, upper-case, for programs.
    """

    reason = "INTERNAL"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def about(self, subject: str) -> Self:
        """Prefixes the message with what the error is about, and returns the error."""
        return self._with_message(f"{subject}: {self.message}")

    def after(self, cause: PerigeeError | None) -> Self:
        """Prefixes the message with that of an earlier error, if any, and returns the error."""
        return self if cause is None else self._with_message(f"{cause.message}; then {self.message}")

    def _with_message(self, message: str) -> Self:
        self.message = message
        self.args = (message,)
        return self


class InvalidRequest(PerigeeError):
    """The request is wrong; `param` names the field as the caller spelt it, e.g. ``messages[0].role``."""

    reason = "INVALID_REQUEST"

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class UnsupportedValue(InvalidRequest):
    """A known field with a value this server does not offer."""

    reason = "UNSUPPORTED_VALUE"


class ContextLengthExceeded(InvalidRequest):
    """The prompt, or prompt plus requested completion, is longer than the model's context.

    `tokens`, `most`: of the prompt (or fewer, where it is not encoded yet) and of the context; 0: not known.
    """

    reason = "CONTEXT_LENGTH_EXCEEDED"

    def __init__(self, message: str, param: str | None = None, tokens: int = 0, most: int = 0) -> None:
        super().__init__(message, param)
        self.tokens, self.most = tokens, most


class UnsupportedOperation(PerigeeError):
    """This server does not serve this kind of request; the message names one that does."""

    reason = "UNSUPPORTED_OPERATION"


class NotFound(PerigeeError):
    """Something named in the request does not exist; `param` as in InvalidRequest."""

    reason = "NOT_FOUND"

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class ModelNotFound(NotFound):
    """No model is served under that name."""

    reason = "MODEL_NOT_FOUND"


class Overloaded(PerigeeError):
    """Refused before any work was done; the caller may retry after `retry_after_s` seconds."""

    reason = "OVERLOADED"

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PagesExhausted(Overloaded):
    """Fewer KV pages are free or evictable than requested."""

    reason = "PAGES_EXHAUSTED"


class RateLimited(Overloaded):
    """The caller's API key has used up one of its limits, which frees `retry_after_s` seconds from now."""

    reason = "RATE_LIMIT_EXCEEDED"


class Unavailable(PerigeeError):
    """No worker of a role can serve, or the worker that served died; the message names it.

    The caller may retry after `retry_after_s` seconds: about what a restart takes, so that clients that retry
    twice, as most do by default, find the suite again.
    """

    reason = "UNAVAILABLE"
    retry_after_s = 5.0


class WorkerLost(Unavailable):
    """The worker that had the request has died or is silent."""

    reason = "WORKER_LOST"


class AlreadyPaired(Unavailable):
    """The owner of memory has paired with a reader of this name, which did not prove to be the same one."""

    reason = "ALREADY_PAIRED"


class TransferFailed(Unavailable):
    """Pages or embeddings did not arrive complete and in time."""

    reason = "TRANSFER_FAILED"


class MediaLost(Unavailable):
    """An embedding is no longer in the vision worker's pool; encode the image again."""

    reason = "MEDIA_LOST"


class ShuttingDown(Unavailable):
    """The server is shutting down: it admits nothing, and ends what outlasts its grace."""

    reason = "SHUTTING_DOWN"


class Incompatible(PerigeeError):
    """Two workers differ in model or KV layout; the message names the difference."""

    reason = "INCOMPATIBLE"


class PreconditionFailed(PerigeeError):
    """The request is valid, but the server's present state forbids it."""

    reason = "PRECONDITION_FAILED"


class PermissionDenied(PerigeeError):
    """The caller is known and may not do this."""

    reason = "PERMISSION_DENIED"


class Unauthenticated(PerigeeError):
    """The request has no valid API key. The message is the same whatever is wrong with the key."""

    reason = "INVALID_API_KEY"


class InvalidToolCall(PerigeeError):
    """The model's tool call violates the tool's schema, which no grammar could enforce."""

    reason = "INVALID_TOOL_CALL"


class DeadlineExceeded(PerigeeError):
    """The request's time ran out."""

    reason = "DEADLINE_EXCEEDED"


class Cancelled(PerigeeError):
    """The caller cancelled or disconnected."""

    reason = "CANCELLED"


class InternalError(PerigeeError):
    """A bug in Perigee; the message is safe to show to clients."""

    reason = "INTERNAL"


class ConfigError(PerigeeError):
    """A setting is unknown or has a bad value; the message names the key."""

    reason = "CONFIG"


class CheckpointError(PerigeeError):
    """The checkpoint contradicts its configuration; the message lists all findings."""

    reason = "CHECKPOINT"
