"""TLS handshakes of REST connections: each counts as waiting and has a time limit."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from services.gateway.waiting import Waiting


class TlsHandshake(asyncio.Protocol):
    """A new connection until its handshake is done; then the protocol that `make` returns has it."""

    def __init__(
        self,
        make: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext,
        limit_s: float,
        waiting: Waiting,
    ) -> None:
        """`limit_s`: how long the handshake may take; `waiting`: all connections without a whole request."""
        self._make = make
        self._context = context
        self._limit_s = limit_s
        self._waiting = waiting
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """asyncio's."""
        # What comes before the TLS layer is there would be lost.
        transport.pause_reading()
        self._waiting.enter(self, transport.abort)
        self._task = asyncio.get_running_loop().create_task(self._shake(transport))

    async def _shake(self, transport: asyncio.Transport) -> None:
        protocol = self._make()
        try:
            secured = await self._secured(transport, protocol)
        finally:
            self._waiting.leave(self)
        # uvloop reports no failure for a connection that was closed meanwhile.
        if secured is not None and not transport.is_closing():
            protocol.connection_made(secured)

    async def _secured(
        self, transport: asyncio.Transport, protocol: asyncio.Protocol
    ) -> asyncio.Transport | None:
        """The connection under TLS; None if the handshake fails, which closes it."""
        if transport.is_closing():
            return None
        try:
            return await asyncio.get_running_loop().start_tls(
                transport, protocol, self._context, server_side=True, ssl_handshake_timeout=self._limit_s
            )
        except OSError:  # TimeoutError and ssl.SSLError too
            return None
