"""Everything that can go wrong, as one tree; mapped to gRPC and HTTP at the edge only.

PerigeeError
├── InvalidRequest              the caller's mistake: names the field
│   ├── UnsupportedValue        understood, but not offered
│   └── ContextLengthExceeded   prompt (plus completion) does not fit
├── UnsupportedOperation        this server never does that: another one may
├── NotFound
│   └── ModelNotFound
├── Overloaded                  shed before any work was spent: retry later
│   └── PagesExhausted          no KV page is free or evictable
├── Unavailable                 no worker of a role, or one died
│   ├── WorkerLost              the worker that had the request died or fell silent
│   ├── TransferFailed          bytes of the KV cache or an embedding did not arrive whole
│   └── MediaLost               an embedding left the vision pool before it was read: encode again
├── Incompatible                two workers differ in layout or model
├── PreconditionFailed          the state of the server forbids it; the message says what allows it
├── InvalidToolCall             the model's call is not valid under its schema: asking again may help
├── DeadlineExceeded
├── Cancelled
├── InternalError               a defect of ours
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

    def about(self, who: str) -> Self:
        """This error, its message beginning with whom it is about."""
        return self._saying(f"{who}: {self.message}")

    def after(self, cause: PerigeeError | None) -> Self:
        """This error, its message beginning with what came before it."""
        return self if cause is None else self._saying(f"{cause.message}; then {self.message}")

    def _saying(self, message: str) -> Self:
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
    """The prompt, or prompt plus requested completion, is longer than the model's context."""

    reason = "CONTEXT_LENGTH_EXCEEDED"


class UnsupportedOperation(PerigeeError):
    """Understood, but no request of this kind is served here; the message names who serves it."""

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
    """Shed before any work was spent; the caller may retry after `retry_after_s` seconds."""

    reason = "OVERLOADED"

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PagesExhausted(Overloaded):
    """Fewer KV pages are free or evictable than asked for."""

    reason = "PAGES_EXHAUSTED"


class Unavailable(PerigeeError):
    """No worker of a role can serve, or the one that did went away; the message names it."""

    reason = "UNAVAILABLE"


class WorkerLost(Unavailable):
    """The worker that had the request is gone or silent: the fault is the worker's."""

    reason = "WORKER_LOST"


class TransferFailed(Unavailable):
    """Pages or embeddings did not arrive whole and in time."""

    reason = "TRANSFER_FAILED"


class MediaLost(Unavailable):
    """An embedding is no longer in the vision worker's pool; encoding the image again cures it."""

    reason = "MEDIA_LOST"


class Incompatible(PerigeeError):
    """Two workers differ in model or KV layout; the message names the difference."""

    reason = "INCOMPATIBLE"


class PreconditionFailed(PerigeeError):
    """Nothing is wrong with the request, but the state of the server forbids it now."""

    reason = "PRECONDITION_FAILED"


class InvalidToolCall(PerigeeError):
    """The model finished a call that is not valid under its tool's schema; no grammar could prevent it."""

    reason = "INVALID_TOOL_CALL"


class DeadlineExceeded(PerigeeError):
    """The request's time ran out."""

    reason = "DEADLINE_EXCEEDED"


class Cancelled(PerigeeError):
    """The caller went away or cancelled."""

    reason = "CANCELLED"


class InternalError(PerigeeError):
    """A defect of ours; the message is safe to show."""

    reason = "INTERNAL"


class ConfigError(PerigeeError):
    """A setting is unknown or has a bad value; the message names the key."""

    reason = "CONFIG"


class CheckpointError(PerigeeError):
    """The checkpoint directory does not hold what its configuration promises; all findings are listed."""

    reason = "CHECKPOINT"
