"""Accepts the connections of REST over TLS: each counts as waiting at once, and has a time limit."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from functools import partial

import structlog

from services.gateway.waiting import Waiting

log = structlog.get_logger()

_AT_ONCE = 64
_PAUSE_S = 1.0
"""After the process or the system has run out of file descriptors."""


class TlsListener:
    """Takes connections from a listening socket and gives each, once its handshake is done, a protocol.

    The loop's own servers neither count unfinished handshakes nor let one be ended. Event loop only.
    """

    def __init__(
        self,
        listener: socket.socket,
        make: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext,
        limit_s: float,
        waiting: Waiting,
    ) -> None:
        """`limit_s`: how long a handshake may take. `waiting`: all connections without a whole request."""
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._make = make
        self._context = context
        self._limit_s = limit_s
        self._waiting = waiting
        self._shaking: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._listen()

    def close(self) -> None:
        """Accepts nothing more, and ends handshakes. The socket is the caller's to close."""
        self._loop.remove_reader(self._listener)
        if self._pause is not None:
            self._pause.cancel()
        for task in self._shaking:
            task.cancel()

    async def wait_closed(self) -> None:
        """Returns when no handshake goes on."""
        await asyncio.gather(*self._shaking, return_exceptions=True)

    def _listen(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                log.error("no connection can be accepted", detail=error.strerror, again_in_s=_PAUSE_S)
                self._loop.remove_reader(self._listener)
                self._pause = self._loop.call_later(_PAUSE_S, self._listen)
                return
            connection.setblocking(False)
            task = self._loop.create_task(self._shake(connection))
            self._shaking.add(task)
            task.add_done_callback(self._shaking.discard)
            self._waiting.enter(task, partial(_end, task))
            task.add_done_callback(self._waiting.leave)

    async def _shake(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._make, connection, ssl=self._context, ssl_handshake_timeout=self._limit_s
            )
        except OSError as error:  # a time limit and ssl.SSLError are such; the connection is closed
            log.debug("TLS handshake failed", detail=type(error).__name__)


def _end(task: asyncio.Task[None]) -> None:
    """Ends a handshake; cancelling it closes the connection."""
    task.cancel()
