"""One HTTP request on a connection of its own, with the moment at which each part of the answer arrived."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

from services.cli.bench.targets.target import Clock
from services.common.errors import ConfigError

LineReader = Callable[[bytes, float], None]
_MOST_ERROR_BYTES = 64 << 10
_MOST_LINE_BYTES = 64 << 20


class Exchange(asyncio.Protocol):
    """Sends `request` when connected; gives each line of a good answer's body to `on_line`, without its end,
    with its moment. `done` resolves when the answer is whole, and fails if it is not or is an error.
    """

    def __init__(self, request: bytes, on_line: LineReader, clock: Clock) -> None:
        try:
            from httptools import HttpResponseParser
        except ModuleNotFoundError as error:
            raise ConfigError("httptools is missing: pip install 'perigee[bench]'") from error
        self._parser = HttpResponseParser(self)
        self._request = request
        self._on_line = on_line
        self._clock = clock
        self._now = 0.0
        self._unread = b""
        self._until_closed = True
        self._begun = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Sends the request."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Parses what arrived."""
        self._now = self._clock()
        try:
            self._parser.feed_data(data)
        except Exception as error:  # noqa: BLE001  # the parser hides what its callbacks raised
            self._fail(error.__context__ or RuntimeError(f"the answer is no HTTP: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Fails the exchange unless it was whole."""
        if self._begun and self._until_closed and exc is None:
            self.on_message_complete()
        self._fail(exc or ConnectionError("the connection closed before the answer was whole"))

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools': a header of the answer."""
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._until_closed = False

    def on_headers_complete(self) -> None:
        """httptools': the body follows."""
        self._begun = True

    def on_body(self, body: bytes) -> None:
        """httptools': a part of the body."""
        if self._parser.get_status_code() != 200:
            self._unread = (self._unread + body)[:_MOST_ERROR_BYTES]
            return
        *lines, self._unread = (self._unread + body).split(b"\n")
        for line in lines:
            self._on_line(line.strip(), self._now)
        if len(self._unread) > _MOST_LINE_BYTES:
            raise ValueError(f"a line of the answer is longer than {_MOST_LINE_BYTES} bytes")

    def on_message_complete(self) -> None:
        """httptools': the answer is whole."""
        status = self._parser.get_status_code()
        if status == 200:
            if self._unread:
                self._on_line(self._unread.strip(), self._now)
            if not self.done.done():
                self.done.set_result(None)
        else:
            self._fail(RuntimeError(f"HTTP status {status}: {self._unread.decode(errors='replace')[:500]}"))

    def _fail(self, error: BaseException) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def abort(self) -> None:
        """Closes the connection at once."""
        if hasattr(self, "_transport"):
            self._transport.abort()


async def exchange(
    host: str, port: int, tls: ssl.SSLContext | None, request: bytes, on_line: LineReader, clock: Clock
) -> None:
    """Connects, sends a request and reads its whole answer.

    Raises OSError, ssl.SSLError, or RuntimeError with status and text of an answer that is an error.
    """
    loop = asyncio.get_running_loop()
    _, made = await loop.create_connection(
        lambda: Exchange(request, on_line, clock),
        host,
        port,
        ssl=tls,
        server_hostname=host if tls else None,
    )
    try:
        await made.done
    finally:
        made.abort()
