"""uvicorn's HTTP/1.1, made for many streams of small events."""

from __future__ import annotations

import asyncio

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from services.gateway.http.connection.answer_transport import AnswerTransport
from services.gateway.http.connection.request_protocol import RequestProtocol

BODY_CHUNKS = "perigee.body_chunks"
"""The ASGI extension's name; it is a BodyChunks."""


class StreamingProtocol(RequestProtocol):
    """Offers the body of an answer as BodyChunks; for older clients it ends with the connection.

    The start of an answer is sent as AnswerTransport says.
    """

    _answers: AnswerTransport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """asyncio's."""
        super().connection_made(transport)
        self._answers = AnswerTransport(transport, self.loop)
        self.transport = self._answers  # type: ignore[assignment]

    def on_headers_complete(self) -> None:
        """httptools'."""
        super().on_headers_complete()
        if self.parser.should_upgrade():
            return
        self._answers.begin()
        if self.scope["http_version"] == "1.1":
            self.scope["extensions"] = {BODY_CHUNKS: BodyChunks(self.flow, self._answers)}  # type: ignore[dict-item]
        else:
            # uvicorn has no place to choose another; nothing of the answer is sent yet.
            self.cycle.__class__ = _CloseDelimited

    def on_response_complete(self) -> None:
        """uvicorn's."""
        self._answers.flush()
        super().on_response_complete()


class _CloseDelimited(RequestResponseCycle):
    """An answer of no announced length ends where the connection does."""

    _announced = True

    async def send(self, message: ASGISendEvent) -> None:
        """ASGI's."""
        if message["type"] == "http.response.start":
            self._announced = any(name.lower() == b"content-length" for name, _ in message.get("headers", ()))
            self.keep_alive = False
            if not self._announced:
                self.chunked_encoding = False
        elif message["type"] == "http.response.body" and not self._announced:
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)


class BodyChunks:
    """Chunks of an answer's body, between `http.response.start` and the last piece, without a coroutine.

    Through `send`, a token's event costs twice the time that all else about the token does. `written`: set by
    every chunk, for those who clear it.
    """

    def __init__(self, flow: FlowControl, transport: AnswerTransport) -> None:
        self._flow = flow
        self._transport = transport
        self.written = False

    @property
    def open(self) -> bool:
        """Whether the client has room for more, as far as is known; a lost one has."""
        return not self._flow.write_paused

    def join(self) -> None:
        """Joins what is written from now on, as AnswerTransport does at the start of an answer."""
        self._transport.begin()

    def write(self, data: bytes) -> None:
        """One chunk, not empty. A connection may have been lost since; then there is nobody to write to."""
        self.written = True
        if not self._transport.is_closing():
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))
