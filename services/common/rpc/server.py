"""Servers of Perigee: built, bound, described and declared healthy in one way."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.common.errors import ConfigError
from services.common.rpc.channel import MAX_MESSAGE_BYTES
from services.common.rpc.interceptors import ErrorInterceptor
from services.common.rpc.keepalive import Keepalive


def build_server(
    interceptors: Sequence[grpc.aio.ServerInterceptor[Any, Any]] = (),
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    keepalive: Keepalive | None = None,
    share_port: bool = False,
    more_options: Sequence[tuple[str, int]] = (),
) -> grpc.aio.Server:
    """An aio server, neither bound nor started; errors are mapped outside of the `interceptors` given."""
    options = [
        *(keepalive or Keepalive()).server_options(),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        # Two servers on one port share its calls in silence: never by mistake.
        ("grpc.so_reuseport", int(share_port)),
        *more_options,
    ]
    return grpc.aio.server(interceptors=[ErrorInterceptor(), *interceptors], options=options)


class Health:
    """The health of a server as a whole and of each of its services; they change together."""

    def __init__(self, services: Sequence[str]) -> None:
        self.servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]  # the stubs lack it
        self._services = ("", *services)

    async def set_serving(self) -> None:
        """From now on checks answer SERVING."""
        await self._set(health_pb2.HealthCheckResponse.SERVING)

    async def set_not_serving(self) -> None:
        """From now on checks answer NOT_SERVING."""
        await self._set(health_pb2.HealthCheckResponse.NOT_SERVING)

    async def say(self, ability: str, *, serving: bool) -> None:
        """Has checks of this name, which is no service's, say whether the server can do one thing."""
        kinds = health_pb2.HealthCheckResponse
        await self.servicer.set(ability, kinds.SERVING if serving else kinds.NOT_SERVING)

    async def _set(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for service in self._services:
            await self.servicer.set(service, status)


async def add_health(server: grpc.aio.Server, services: Iterable[str]) -> Health:
    """Adds health (NOT_SERVING until told otherwise) and reflection; `services` are full names such as
    perigee.v1.ChatService. Call before the server starts."""
    names = list(services)
    state = Health(names)
    await state.set_not_serving()
    health_pb2_grpc.add_HealthServicer_to_server(state.servicer, server)
    reflection.enable_server_reflection([*names, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    return state


def bind(server: grpc.aio.Server, host: str, port: int, flag: str = "--port") -> int:
    """Listens on `host:port` and returns the port (the one picked, for 0).

    Raises ConfigError naming the address and `flag` when that is impossible.
    """
    if not 0 <= port < 65536:
        raise ConfigError(f"{port} is not a port; choose one with {flag}")
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        return server.add_insecure_port(address)
    except RuntimeError as error:
        raise ConfigError(
            f"cannot listen on {address}: {_why(host, port)}; choose another with {flag}"
        ) from error


def _why(host: str, port: int) -> str:
    """gRPC does not say; a bare socket does."""
    try:
        family, kind, proto, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, proto) as probe:
            probe.bind(where)
    except OSError as error:
        return (
            "the port is taken"
            if error.errno == errno.EADDRINUSE
            else error.strerror or os.strerror(error.errno or 0)
        )
    return "the address was refused"
