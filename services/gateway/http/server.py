"""Runs uvicorn next to other servers on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Generator
from functools import partial

import uvicorn
from starlette.types import ASGIApp

from services.common.rpc.endpoints import Endpoints
from services.gateway.http.connection.request_protocol import Patience
from services.gateway.http.connection.streaming_protocol import StreamingProtocol
from services.gateway.http.connection.tls_listener import TlsListener
from services.gateway.waiting import Waiting

_BACKLOG = 2048


class _Uvicorn(uvicorn.Server):
    """Signals when it listens; leaves signal handling to the process, which runs other servers too."""

    def __init__(
        self, config: uvicorn.Config, tls: ssl.SSLContext | None, patience: Patience, waiting: Waiting
    ) -> None:
        """`tls`: None for plain TCP."""
        super().__init__(config)
        self._tls, self._patience, self._waiting = tls, patience, waiting
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets if self._tls is None else [])
        if self._tls is not None:
            for listener in sockets or []:
                listener.listen(_BACKLOG)
                taking = TlsListener(
                    listener, self._protocol, self._tls, self._patience.header_s, self._waiting
                )
                self.servers.append(taking)  # type: ignore[arg-type]
        self.listening.set()

    def _protocol(self) -> asyncio.Protocol:
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class HttpServer:
    """Serves an ASGI application; `start` returns once it listens, `stop` once every connection is closed."""

    def __init__(
        self,
        app: ASGIApp,
        endpoints: Endpoints,
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
        self._endpoints = endpoints
        self._host, self._wanted, self._share_port = host, port, share_port
        tls = endpoints.security.door_context()
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
        self._server = _Uvicorn(config, tls, patience, waiting)
        self._tls = tls
        self._task: asyncio.Task[None] | None = None
        self.port = 0

    async def start(self) -> None:
        """Raises ConfigError naming the address when it cannot be bound."""
        listener = self._endpoints.bound_socket(
            self._host, self._wanted, "--http-port", share_port=self._share_port
        )
        listener.setblocking(False)
        self._follow_certificates(asyncio.get_running_loop())
        self.port = listener.getsockname()[1]
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))
        await self._server.listening.wait()

    def _follow_certificates(self, loop: asyncio.AbstractEventLoop) -> None:
        """Has new connections see a new certificate; those that are open do not notice."""
        security, tls = self._endpoints.security, self._tls
        if security.door is None or tls is None:
            return

        def changed() -> None:
            # Handshakes run on the loop, so none sees a context that is being changed.
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(security.load_door, tls)

        security.door.on_change(changed)

    async def stop(self) -> None:
        self._server.should_exit = True
        if self._task is not None:
            await self._task
