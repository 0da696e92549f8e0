"""uvicorn's HTTP/1.1, made for many streams of small events."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

BODY_CHUNKS = "perigee.body_chunks"
"""The ASGI extension's name; it is a BodyChunks."""


class StreamingProtocol(HttpToolsProtocol):
    """Offers the body of an answer as BodyChunks."""

    _unanswered: tuple[RequestResponseCycle, ...] = ()

    def on_headers_complete(self) -> None:
        """httptools'."""
        before = (*self._unanswered, self.cycle) if self.cycle is not None else ()
        self._unanswered = tuple(cycle for cycle in before if not cycle.response_complete)
        super().on_headers_complete()
        if self.scope["http_version"] == "1.1":
            self.scope["extensions"] = {BODY_CHUNKS: BodyChunks(self.flow, self.transport)}  # type: ignore[dict-item]

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's."""
        super().connection_lost(exc)
        # uvicorn tells the last request alone; of those that it was sent behind, nobody would hear.
        for cycle in self._unanswered:
            cycle.disconnected = True
            cycle.message_event.set()


class BodyChunks:
    """Chunks of an answer's body, between `http.response.start` and the last piece, without a coroutine.

    Through `send`, a token's event costs twice the time that all else about the token does.
    """

    def __init__(self, flow: FlowControl, transport: asyncio.Transport) -> None:
        self._flow = flow
        self._transport = transport

    @property
    def open(self) -> bool:
        """Whether the client has room for more, as far as is known; a lost one has."""
        return not self._flow.write_paused

    def write(self, data: bytes) -> None:
        """One chunk, not empty. A connection may have been lost since; then there is nobody to write to."""
        if not self._transport.is_closing():
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))
