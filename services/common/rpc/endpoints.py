"""The only place that opens channels to servers and binds servers to addresses."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from services.common.errors import ConfigError
from services.common.rpc.channel import MAX_MESSAGE_BYTES, channel_options
from services.common.rpc.keepalive import Keepalive
from services.common.rpc.role import Role

StreamHandler: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Endpoints:
    """Opens all channels and binds all servers of one process. One is made where a process starts, and passed
    to everything that connects or listens. Connections are plain TCP, without encryption or authentication.

    `role`: what this process is. A channel names the role of the server that it dials.
    """

    def __init__(self, role: Role) -> None:
        self.role = role

    def channel(
        self,
        address: str,
        role: Role,
        *,
        keepalive: Keepalive | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> grpc.aio.Channel:
        """A channel for asyncio to the server of `role` at `host:port`; connects on first use. The caller
        closes it.
        """
        return grpc.aio.insecure_channel(
            address, channel_options(keepalive or Keepalive(), max_message_bytes)
        )

    def sync_channel(
        self,
        address: str,
        role: Role,
        *,
        keepalive: Keepalive | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> grpc.Channel:
        """A channel for threads; otherwise like `channel`."""
        return grpc.insecure_channel(address, channel_options(keepalive or Keepalive(), max_message_bytes))

    def grpc_server(
        self,
        interceptors: Sequence[grpc.aio.ServerInterceptor[Any, Any]] = (),
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        keepalive: Keepalive | None = None,
        share_port: bool = False,
        more_options: Sequence[tuple[str, int]] = (),
    ) -> grpc.aio.Server:
        """An aio server, neither bound nor started; errors are mapped outside of the `interceptors` given."""
        # Only here: a health check opens a channel every few seconds and must not load what servers need.
        from services.common.rpc.interceptors import ErrorInterceptor

        options = [
            *(keepalive or Keepalive()).server_options(),
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.max_receive_message_length", max_message_bytes),
            # Two servers on one port share its calls in silence: never by mistake.
            ("grpc.so_reuseport", int(share_port)),
            *more_options,
        ]
        return grpc.aio.server(interceptors=[ErrorInterceptor(), *interceptors], options=options)

    def bind_grpc(self, server: grpc.aio.Server, host: str, port: int, flag: str = "--port") -> int:
        """Has the server listen on `host:port` and returns the port (the one picked, for 0).

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

    def bound_socket(self, host: str, port: int, flag: str, *, share_port: bool = False) -> socket.socket:
        """A TCP socket bound to `host:port` (0: any free port), which does not listen yet; the caller closes
        it.

        `share_port`: with other processes of this user; each gets its share of the connections. Raises
        ConfigError naming the address and `flag` when it cannot be bound.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # The protocol is named because asyncio switches Nagle's delay off only for a socket that says TCP.
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if share_port:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            bound.bind((host, port))
        except OSError as error:
            bound.close()
            raise ConfigError(
                f"cannot listen on {host}:{port}: {_reason(error)}; choose another with {flag}"
            ) from error
        return bound

    async def unix_server(self, handler: StreamHandler, path: Path) -> asyncio.Server:
        """Serves connections to the Unix socket `path`, which must not exist yet."""
        return await asyncio.start_unix_server(handler, path)


def _why(host: str, port: int) -> str:
    """gRPC does not give a reason; a bare socket does."""
    try:
        family, kind, proto, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, proto) as probe:
            probe.bind(where)
    except OSError as error:
        return _reason(error)
    return "the address was refused"


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is taken"
    return error.strerror or os.strerror(error.errno or 0)
