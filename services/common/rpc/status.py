"""Maps errors to rich gRPC statuses and back."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeVar, cast

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.common.errors import (
    AlreadyPaired,
    Cancelled,
    CheckpointError,
    ConfigError,
    ContextLengthExceeded,
    DeadlineExceeded,
    Incompatible,
    InternalError,
    InvalidRequest,
    InvalidToolCall,
    MediaLost,
    ModelNotFound,
    NotFound,
    Overloaded,
    PagesExhausted,
    PerigeeError,
    PermissionDenied,
    PreconditionFailed,
    RateLimited,
    ShuttingDown,
    TransferFailed,
    Unauthenticated,
    Unavailable,
    UnsupportedOperation,
    UnsupportedValue,
    WorkerLost,
)

DOMAIN = "perigee"

Detail = TypeVar("Detail", bound=Message)

# Message (percent-encoded) and details share the 8 KiB of headers that a peer accepts.
_MAX_MESSAGE_BYTES = 1500

_CODES: Mapping[type[PerigeeError], grpc.StatusCode] = MappingProxyType(
    {
        InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
        UnsupportedValue: grpc.StatusCode.INVALID_ARGUMENT,
        ContextLengthExceeded: grpc.StatusCode.INVALID_ARGUMENT,
        UnsupportedOperation: grpc.StatusCode.UNIMPLEMENTED,
        NotFound: grpc.StatusCode.NOT_FOUND,
        ModelNotFound: grpc.StatusCode.NOT_FOUND,
        Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
        PagesExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
        RateLimited: grpc.StatusCode.RESOURCE_EXHAUSTED,
        Unavailable: grpc.StatusCode.UNAVAILABLE,
        WorkerLost: grpc.StatusCode.UNAVAILABLE,
        AlreadyPaired: grpc.StatusCode.ALREADY_EXISTS,
        TransferFailed: grpc.StatusCode.UNAVAILABLE,
        MediaLost: grpc.StatusCode.UNAVAILABLE,
        ShuttingDown: grpc.StatusCode.UNAVAILABLE,
        Incompatible: grpc.StatusCode.FAILED_PRECONDITION,
        PreconditionFailed: grpc.StatusCode.FAILED_PRECONDITION,
        PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
        Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
        InvalidToolCall: grpc.StatusCode.ABORTED,
        DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
        Cancelled: grpc.StatusCode.CANCELLED,
        InternalError: grpc.StatusCode.INTERNAL,
        ConfigError: grpc.StatusCode.FAILED_PRECONDITION,
        CheckpointError: grpc.StatusCode.FAILED_PRECONDITION,
    }
)
_BY_REASON: Mapping[str, type[PerigeeError]] = MappingProxyType({cls.reason: cls for cls in _CODES})
# For statuses of other servers: the first, most general class of each code.
_BY_CODE: Mapping[int, type[PerigeeError]] = MappingProxyType(
    {code.value[0]: cls for cls, code in reversed(list(_CODES.items()))}
    | {
        grpc.StatusCode.FAILED_PRECONDITION.value[0]: Incompatible,
        grpc.StatusCode.OUT_OF_RANGE.value[0]: InvalidRequest,
        grpc.StatusCode.ABORTED.value[0]: Unavailable,
    }
)


def code_of(error: PerigeeError) -> grpc.StatusCode:
    """Returns the code of the error's nearest base class in the table."""
    return next((_CODES[cls] for cls in type(error).__mro__ if cls in _CODES), grpc.StatusCode.INTERNAL)


def to_status(error: PerigeeError, request_id: str = "") -> grpc.Status:
    """Returns the status to abort a call with.

    It has code, message, ErrorInfo (domain "perigee", the error's reason), and BadRequest or RetryInfo if the
    error has a parameter or a delay. A message over 1,500 bytes is cut to fit a peer's header limit.
    Where the server is overloaded the delay is sent as `grpc-retry-pushback-ms` too, which gRPC's own retries
    obey. Where it is unavailable they need not wait so long: they may find another server.
    """
    message = _clipped(error.message)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    if request_id:
        info.metadata["request_id"] = request_id
    status = status_pb2.Status(code=code_of(error).value[0], message=message, details=[_packed(info)])
    if isinstance(error, InvalidRequest | NotFound) and error.param:
        violation = error_details_pb2.BadRequest.FieldViolation(field=_clipped(error.param, 200))
        status.details.append(_packed(error_details_pb2.BadRequest(field_violations=[violation])))
    pushback: tuple[tuple[str, str], ...] = ()
    if isinstance(error, Overloaded | Unavailable):
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        status.details.append(_packed(retry))
        if isinstance(error, Overloaded):
            pushback = (("grpc-retry-pushback-ms", str(math.ceil(error.retry_after_s * 1000))),)
    converted: Any = rpc_status.to_status(status)
    trailing = (*converted.trailing_metadata, *pushback)
    return cast(grpc.Status, converted._replace(trailing_metadata=trailing))


def from_rpc_error(error: grpc.RpcError) -> PerigeeError:
    """Converts a failed call (sync or aio) to an error: by ErrorInfo from a Perigee server, else by code."""
    code: grpc.StatusCode = error.code()
    message: str = error.details() or f"the call ended with {code.name}"
    details = list(_details(error))
    reason = next(
        (info.reason for info in _of(error_details_pb2.ErrorInfo, details) if info.domain == DOMAIN), ""
    )
    fields = (v.field for bad in _of(error_details_pb2.BadRequest, details) for v in bad.field_violations)
    delays = (retry.retry_delay.ToNanoseconds() / 1e9 for retry in _of(error_details_pb2.RetryInfo, details))
    return make_error(
        code.value[0], reason, message, param=next(fields, None), retry_after_s=next(delays, 1.0)
    )


def make_error(
    code: int, reason: str, message: str, *, param: str | None = None, retry_after_s: float = 1.0
) -> PerigeeError:
    """Returns the error for a reason, or for a numeric status code if the reason is "" or unknown."""
    kind = _BY_REASON.get(reason) or _BY_CODE.get(code, InternalError)
    if issubclass(kind, InvalidRequest | NotFound):
        return kind(message, param)
    if issubclass(kind, Overloaded):
        return kind(message, retry_after_s)
    return kind(message)


def _clipped(text: str, limit: int = _MAX_MESSAGE_BYTES) -> str:
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= limit:
        return encoded.decode("utf-8")
    return encoded[:limit].decode("utf-8", "ignore") + "…"


def _packed(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def _details(error: grpc.RpcError) -> Iterator[any_pb2.Any]:
    trailers: Iterable[Any] = error.trailing_metadata() or ()
    for key, value in trailers:
        if key == "grpc-status-details-bin":
            # Any server may have sent this; code and message stand without it.
            with contextlib.suppress(DecodeError):
                yield from status_pb2.Status.FromString(value).details


def _of(kind: type[Detail], details: Iterable[any_pb2.Any]) -> Iterator[Detail]:
    for detail in details:
        if detail.TypeName() == kind.DESCRIPTOR.full_name:
            found = kind()
            detail.Unpack(found)
            yield found
