"""Shares metrics between the gateway processes that serve one port."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from prometheus_client import CollectorRegistry

from services.common.metrics import render
from services.common.rpc.endpoints import Endpoints
from services.gateway.http.pages.fetch import read_all

_TIMEOUT_S = 1.0


class ProcessMetrics:
    """Serves this process's metrics and reads the others', over one Unix socket each in a common directory.

    Event loop only. A client that connects receives the metrics page: its length in bytes, a line
    end, and the page.
    """

    def __init__(self, own: Path, registry: CollectorRegistry, endpoints: Endpoints) -> None:
        """`own`: this process's socket, whose name is its number."""
        self._own = own
        self._registry = registry
        self._endpoints = endpoints
        self._server: asyncio.Server | None = None

    @property
    def name(self) -> str:
        """This process's number."""
        return self._own.name

    async def start(self) -> None:
        """Answers from now on, in place of a process of this number that has crashed."""
        self._own.unlink(missing_ok=True)
        self._server = await self._endpoints.unix_server(self._answer, self._own)

    async def stop(self) -> None:
        """Idempotent."""
        if self._server is not None:
            self._server.close()
            self._own.unlink(missing_ok=True)
            self._server = None

    async def pages(self) -> dict[str, str]:
        """The pages of the other processes by number; omits any not received whole within a second."""
        others = sorted(path for path in self._own.parent.iterdir() if path != self._own and path.is_socket())
        found = await asyncio.gather(*map(_read, others))
        return {path.name: page for path, page in zip(others, found, strict=True) if page}

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            page = render(self._registry)[0]
            writer.write(b"%d\n%b" % (len(page), page))
            await writer.drain()
        writer.close()


async def _read(path: Path) -> str:
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                length, _, page = (await read_all(reader)).partition(b"\n")
            finally:
                writer.close()
        # A process that ends while it writes leaves a page that parses but is cut short.
        return page.decode() if length == b"%d" % len(page) else ""
    except (OSError, TimeoutError, UnicodeDecodeError):
        return ""
