"""Runs uvicorn next to other servers on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator
from functools import partial

import uvicorn
from starlette.types import ASGIApp

from services.common.errors import ConfigError
from services.gateway.http.connection.request_protocol import Patience
from services.gateway.http.connection.streaming_protocol import StreamingProtocol
from services.gateway.waiting import Waiting

_BACKLOG = 2048


class _Uvicorn(uvicorn.Server):
    """Signals when it listens; leaves signal handling to the process, which runs other servers too."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class HttpServer:
    """Serves an ASGI application; `start` returns once it listens, `stop` once every connection is closed."""

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        patience: Patience,
        waiting: Waiting,
        *,
        share_port: bool = False,
    ) -> None:
        """`waiting`: its connections without a whole request.

        `share_port`: with other processes of this user; each gets its share of the connections.
        """
        self._host, self._wanted, self._share_port = host, port, share_port
        config = uvicorn.Config(
            app,
            http=partial(StreamingProtocol, patience, waiting),  # type: ignore[arg-type]
            ws="none",
            loop="none",
            lifespan="off",
            access_log=False,
            proxy_headers=False,
            log_config=None,
            backlog=_BACKLOG,
            timeout_graceful_shutdown=1,
            timeout_keep_alive=patience.keep_alive_s,
        )
        self._server = _Uvicorn(config)
        self._task: asyncio.Task[None] | None = None
        self.port = 0

    async def start(self) -> None:
        """Raises ConfigError naming the address when it cannot be bound."""
        listener = self._bind()
        self.port = listener.getsockname()[1]
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))
        await self._server.listening.wait()

    async def stop(self) -> None:
        self._server.should_exit = True
        if self._task is not None:
            await self._task

    def _bind(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        # The protocol is named because asyncio switches Nagle's delay off only for a socket that says TCP.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._share_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            listener.bind((self._host, self._wanted))
        except OSError as error:
            listener.close()
            raise ConfigError(
                f"cannot listen on {self._host}:{self._wanted}: {error.strerror or error};"
                " choose another port with --http-port"
            ) from error
        listener.setblocking(False)
        return listener
