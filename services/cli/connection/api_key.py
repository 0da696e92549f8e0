"""The API key of whoever runs a command, from the environment, for the calls it makes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import grpc

from services.common.errors import ConfigError

# Generic only in the stubs, not at run time.
if TYPE_CHECKING:
    UnaryInterceptor: TypeAlias = grpc.UnaryUnaryClientInterceptor[Any, Any]
    StreamInterceptor: TypeAlias = grpc.UnaryStreamClientInterceptor[Any, Any]
else:
    UnaryInterceptor, StreamInterceptor = grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor

VARIABLE = "PERIGEE_API_KEY"


class _Details(NamedTuple):
    """What gRPC reads of a call's details."""

    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class _WithKey(UnaryInterceptor, StreamInterceptor):
    def __init__(self, key: str) -> None:
        self._key = key

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        return continuation(self._keyed(details), request)

    def intercept_unary_stream(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        return continuation(self._keyed(details), request)

    def _keyed(self, details: Any) -> _Details:
        metadata = [*(details.metadata or ()), ("authorization", f"Bearer {self._key}")]
        return _Details(
            details.method, details.timeout, metadata, details.credentials, details.wait_for_ready,
            details.compression,
        )  # fmt: skip


def with_api_key(channel: grpc.Channel) -> grpc.Channel:
    """Returns a channel whose calls carry the key in PERIGEE_API_KEY; the same channel without one.

    A variable, because every user of the machine can read a command's arguments. Raises ConfigError for a
    value that no header can hold.
    """
    key = os.environ.get(VARIABLE, "")
    if not key:
        return channel
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"{VARIABLE}: is not an API key")
    return grpc.intercept_channel(channel, _WithKey(key))
