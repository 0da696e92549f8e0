"""Converts the failure that a worker reports to an error of this process."""

from __future__ import annotations

from perigee.v1 import decode_pb2, sampling_pb2
from services.common.errors import PerigeeError, Unavailable
from services.common.rpc.status import make_error

_LOST = (sampling_pb2.FINISH_REASON_ERROR, sampling_pb2.FINISH_REASON_CANCELLED)


def failure_of(delta: decode_pb2.SequenceDelta, worker: str) -> PerigeeError | None:
    """Returns the failure that the delta reports, naming the worker; None if there is none."""
    if not delta.finish_reason:
        return None  # tokens are many, and only an end can be a failure
    if delta.HasField("error"):
        error = delta.error
        message = error.message or "failed without a message"
        named = message if worker in message else f"{worker}: {message}"
        retry_after_s = error.retry_after_ms / 1000 or 1.0
        return make_error(error.code, error.reason, named, retry_after_s=retry_after_s)
    if delta.finish_reason in _LOST:
        # We cancel only what nobody reads any more, so the worker gave this one up by itself.
        return Unavailable(f"{worker} ended the request")
    return None
