"""The only place that opens channels to servers and binds servers to addresses."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import grpc

from services.common.errors import ConfigError
from services.common.rpc.channel import MAX_MESSAGE_BYTES, channel_options
from services.common.rpc.keepalive import Keepalive
from services.common.rpc.role import Role
from services.common.rpc.tls.bundle import Bundle
from services.common.rpc.tls.security import Security, channel_credentials
from services.common.rpc.tls.settings import is_loopback, plain_refused

StreamHandler: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Endpoints:
    """Opens all channels and binds all servers of one process. One is made where a process starts, and passed
    to everything that connects or listens.

    `role`: what this process is. A channel names the role of the server that it dials. With certificates in
    `security`, both ends of every connection show one: a server looks up in `callers.py` what the caller's
    role may call, and a channel accepts a server of the role that it dials only. Without, connections are
    plain TCP.
    """

    def __init__(self, role: Role, security: Security | None = None) -> None:
        self.role = role
        self.security = security or Security()
        # The certificate that each channel shows, for as long as the channel lives.
        self._shown: WeakKeyDictionary[grpc.aio.Channel, Bundle] = WeakKeyDictionary()

    @property
    def mtls(self) -> bool:
        """Whether services and operators are known by their certificates."""
        return self.security.peers is not None

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
        options = channel_options(keepalive or Keepalive(), max_message_bytes)
        if self.security.peers is None:
            return grpc.aio.insecure_channel(address, options)
        shown = self.security.peers.current
        channel = grpc.aio.secure_channel(
            address, channel_credentials(shown), [*options, self._expected(role)]
        )
        self._shown[channel] = shown
        return channel

    def sync_channel(
        self,
        address: str,
        role: Role,
        *,
        keepalive: Keepalive | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> grpc.Channel:
        """A channel for threads; otherwise like `channel`."""
        options = channel_options(keepalive or Keepalive(), max_message_bytes)
        if self.security.peers is None:
            return grpc.insecure_channel(address, options)
        credentials = channel_credentials(self.security.peers.current)
        return grpc.secure_channel(address, credentials, [*options, self._expected(role)])

    def door_channel(self, address: str, ca: bytes | None, *, tls: bool) -> grpc.Channel:
        """A channel for threads to the door for clients, as a client opens it: without a certificate.

        `ca`: the CA that the server's certificate must be from; None: those that gRPC knows. `tls` False:
        plain TCP.
        """
        options = channel_options(Keepalive(), MAX_MESSAGE_BYTES)
        if not tls:
            return grpc.insecure_channel(address, options)
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(ca), options)

    def outdated(self, channel: grpc.aio.Channel) -> bool:
        """Whether the certificates have changed since the channel was opened.

        Its connection lasts, but the channel cannot show another certificate: once the old one has expired,
        or its CA is withdrawn, it does not connect again.
        """
        shown, peers = self._shown.get(channel), self.security.peers
        return shown is not None and peers is not None and shown is not peers.current

    def _expected(self, role: Role) -> tuple[str, str]:
        """The option by which gRPC checks the server's certificate for a name that is not the address."""
        return "grpc.ssl_target_name_override", self.security.trust_domain.dns_name(role)

    def grpc_server(
        self,
        interceptors: Sequence[grpc.aio.ServerInterceptor[Any, Any]] = (),
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        keepalive: Keepalive | None = None,
        share_port: bool = False,
        more_options: Sequence[tuple[str, int]] = (),
        door: bool = False,
    ) -> grpc.aio.Server:
        """An aio server, neither bound nor started; errors are mapped and callers checked outside of the
        `interceptors` given. `door`: for clients, not for services and operators.
        """
        # Only here: a health check opens a channel every few seconds and must not load what servers need.
        from services.common.rpc.authorization import ClientAuthorizer, PeerAuthorizer
        from services.common.rpc.interceptors import ErrorInterceptor

        authorizers: list[grpc.aio.ServerInterceptor[Any, Any]] = []
        if door:
            authorizers = [ClientAuthorizer()]
        elif self.mtls:
            authorizers = [PeerAuthorizer(self.security.trust_domain)]

        options = [
            *(keepalive or Keepalive()).server_options(),
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.max_receive_message_length", max_message_bytes),
            # Two servers on one port share its calls in silence: never by mistake.
            ("grpc.so_reuseport", int(share_port)),
            *more_options,
        ]
        return grpc.aio.server(
            interceptors=[ErrorInterceptor(), *authorizers, *interceptors], options=options
        )

    def bind_grpc(
        self, server: grpc.aio.Server, host: str, port: int, flag: str = "--port", *, door: bool = False
    ) -> int:
        """Has the server listen on `host:port` and returns the port (the one picked, for 0). `door` as in
        `grpc_server`.

        Raises ConfigError naming the address and `flag` when that is impossible, and for an address that
        other machines reach if there is no certificate and plain TCP is not allowed.
        """
        credentials = self.security.server_credentials(door=door)
        if credentials is None and not self.security.insecure and not is_loopback(host):
            raise plain_refused(f"other machines reach {host}", "--public-tls-dir" if door else "--tls-dir")
        if not 0 <= port < 65536:
            raise ConfigError(f"{port} is not a port; choose one with {flag}")
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if credentials is None:
                return server.add_insecure_port(address)
            return server.add_secure_port(address, credentials)
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
