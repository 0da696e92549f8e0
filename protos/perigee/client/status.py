"""Converts the statuses of failed calls to exceptions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from perigee.client.errors import (
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
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedOperation,
    UnsupportedValue,
)

Detail = TypeVar("Detail", bound=Message)

_DOMAIN = "perigee"
_REQUEST_ID = "x-request-id"
_DETAILS = "grpc-status-details-bin"

_BY_REASON: Mapping[str, type[PerigeeError]] = MappingProxyType(
    {
        "INVALID_REQUEST": InvalidRequest,
        "UNSUPPORTED_VALUE": UnsupportedValue,
        "CONTEXT_LENGTH_EXCEEDED": ContextLengthExceeded,
        "UNSUPPORTED_OPERATION": UnsupportedOperation,
        "NOT_FOUND": NotFound,
        "MODEL_NOT_FOUND": ModelNotFound,
        "OVERLOADED": Overloaded,
        "RATE_LIMIT_EXCEEDED": RateLimited,
        "UNAVAILABLE": Unavailable,
        "SHUTTING_DOWN": ShuttingDown,
        "INCOMPATIBLE": Incompatible,
        "PRECONDITION_FAILED": PreconditionFailed,
        "PERMISSION_DENIED": PermissionDenied,
        "INVALID_API_KEY": Unauthenticated,
        "INVALID_TOOL_CALL": InvalidToolCall,
        "DEADLINE_EXCEEDED": DeadlineExceeded,
        "CANCELLED": Cancelled,
        "INTERNAL": InternalError,
    }
)
# For reasons that are not in the table above, and for statuses that gRPC itself or a proxy makes.
_BY_CODE: Mapping[grpc.StatusCode, type[PerigeeError]] = MappingProxyType(
    {
        grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
        grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
        grpc.StatusCode.UNIMPLEMENTED: UnsupportedOperation,
        grpc.StatusCode.NOT_FOUND: NotFound,
        grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
        grpc.StatusCode.UNAVAILABLE: Unavailable,
        grpc.StatusCode.ALREADY_EXISTS: Unavailable,
        grpc.StatusCode.ABORTED: Unavailable,
        grpc.StatusCode.FAILED_PRECONDITION: PreconditionFailed,
        grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
        grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
        grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
        grpc.StatusCode.CANCELLED: Cancelled,
        grpc.StatusCode.INTERNAL: InternalError,
        grpc.StatusCode.DATA_LOSS: InternalError,
    }
)


def error_of(failed: grpc.RpcError) -> PerigeeError:
    """Returns the exception for a failed call, sync or aio: by its ErrorInfo, else by its code."""
    code: grpc.StatusCode = failed.code()
    message: str = failed.details() or f"the call ended with {code.name}"
    trailing = list(failed.trailing_metadata() or ())
    details = list(_details(trailing))
    infos = (info for info in _of(error_details_pb2.ErrorInfo, details) if info.domain == _DOMAIN)
    reason: str = next((info.reason for info in infos), "")
    common: dict[str, Any] = {"code": code, "reason": reason, "request_id": _request_id(trailing)}
    kind = _BY_REASON.get(reason) or _BY_CODE.get(code, PerigeeError)
    if kind is Overloaded and not reason and "larger than max" in message:
        kind = TooLarge  # gRPC has no code of its own for it
    if issubclass(kind, InvalidRequest | NotFound):
        fields = (v.field for bad in _of(error_details_pb2.BadRequest, details) for v in bad.field_violations)
        return kind(message, next(fields, None), **common)
    if issubclass(kind, Overloaded | Unavailable):
        delays = (retry.retry_delay for retry in _of(error_details_pb2.RetryInfo, details))
        return kind(message, next((delay.ToNanoseconds() / 1e9 for delay in delays), None), **common)
    return kind(message, **common)


def _request_id(trailing: Iterable[Any]) -> str:
    return next((str(value) for key, value in trailing if key == _REQUEST_ID), "")


def _details(trailing: Iterable[Any]) -> Iterator[any_pb2.Any]:
    for key, value in trailing:
        if key == _DETAILS:
            # A proxy may have sent this; code and message stand without it.
            with contextlib.suppress(DecodeError):
                yield from status_pb2.Status.FromString(value).details


def _of(kind: type[Detail], details: Iterable[any_pb2.Any]) -> Iterator[Detail]:
    for detail in details:
        found = kind()
        if detail.TypeName() == kind.DESCRIPTOR.full_name:
            with contextlib.suppress(DecodeError):
                detail.Unpack(found)
                yield found
