"""Python clients of a Perigee gateway over gRPC: `Client` and, for asyncio, `AsyncClient`.

Requests are built from plain values or are the messages of `perigee.v1`; answers are always such messages.
Failures raise PerigeeError or a class below it.
"""

from perigee.client.async_client import AsyncClient
from perigee.client.async_stream import AsyncStream
from perigee.client.channel import Keepalive, RetryPolicy
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
from perigee.client.joining import join_chat, join_generate
from perigee.client.messages import conversation
from perigee.client.sync_client import Client
from perigee.client.sync_stream import Stream

__all__ = [
    "AsyncClient",
    "AsyncStream",
    "Cancelled",
    "Client",
    "ContextLengthExceeded",
    "DeadlineExceeded",
    "Incompatible",
    "InternalError",
    "InvalidRequest",
    "InvalidToolCall",
    "Keepalive",
    "ModelNotFound",
    "NotFound",
    "Overloaded",
    "PerigeeError",
    "PermissionDenied",
    "PreconditionFailed",
    "RateLimited",
    "RetryPolicy",
    "ShuttingDown",
    "Stream",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "UnsupportedOperation",
    "UnsupportedValue",
    "conversation",
    "join_chat",
    "join_generate",
]
