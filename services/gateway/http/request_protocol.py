"""uvicorn's HTTP/1.1, strict about where a request ends: each gets one answer."""

from __future__ import annotations

from collections.abc import Iterator

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from services.gateway.http.errors import envelope

_MALFORMED = "this is not an HTTP/1.1 request that can be read"
# What stands behind others on one connection. Few clients pipeline at all.
_MAX_WAITING = 16


class Refusal(Exception):
    """Why a connection is read no further."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class RequestProtocol(HttpToolsProtocol):
    """Reads requests by their framing alone; offers to speak another protocol are ignored (RFC 9110, 7.8).

    After a request that cannot be read, nothing more of its connection is: those before it are answered, then
    the connection is closed.
    """

    _unanswered: tuple[RequestResponseCycle, ...] = ()
    _deaf = False

    def data_received(self, data: bytes) -> None:
        """asyncio's."""
        self._unset_keepalive_if_required()
        rest = memoryview(data)
        while rest and not self._deaf:
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as offer:
                rest = rest[offer.args[0] :]
                self._read_again_without_offer()
            except httptools.HttpParserError as error:
                cause = error.__context__
                self.refuse(cause if isinstance(cause, Refusal) else Refusal(400, _MALFORMED))

    def on_headers_complete(self) -> None:
        """httptools'."""
        if self.parser.should_upgrade():
            return  # not begun: it is read again
        before = (*self._unanswered, self.cycle) if self.cycle is not None else ()
        self._unanswered = tuple(cycle for cycle in before if not cycle.response_complete)
        if len(self._unanswered) > _MAX_WAITING:
            raise Refusal(429, f"more than {_MAX_WAITING} requests wait on this connection")
        for name, value in self.headers:
            if name == b"transfer-encoding" and value.lower() != b"chunked":
                raise Refusal(501, f"transfer-encoding: {value.decode('latin-1')} is not known here")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """httptools'."""
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's."""
        super().connection_lost(exc)
        # uvicorn tells the last request alone; of those that it was sent behind, nobody would hear.
        for cycle in self._unanswered:
            _tell_gone(cycle)

    def refuse(self, refusal: Refusal) -> None:
        """Reads nothing more, and closes the connection once what was read whole is answered.

        The refusal itself is sent only where the client waits for no other answer.
        """
        self._deaf = True
        broken = self.cycle if self.cycle is not None and self.cycle.more_body else None
        ahead = [cycle for cycle in self._read_whole() if not cycle.response_complete]
        if broken is not None:
            _tell_gone(broken)
        if ahead:
            self.pipeline = type(self.pipeline)(pair for pair in self.pipeline if pair[0] is not broken)
            ahead[-1].keep_alive = False
            return
        if broken is None or not broken.response_started:
            self._write(refusal)
        self.transport.close()

    def _read_whole(self) -> Iterator[RequestResponseCycle]:
        yield from self._unanswered
        if self.cycle is not None and not self.cycle.more_body:
            yield self.cycle

    def _write(self, refusal: Refusal) -> None:
        body = orjson.dumps(envelope(refusal.message, None))
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(
            body
        )
        self.transport.write(STATUS_LINE[refusal.status] + head + body)

    def _read_again_without_offer(self) -> None:
        """The parser skips the body of a request with an offer, as if it were taken up; one that has not seen
        the offer does not. A CONNECT has no body and no end.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version()
        if method == b"CONNECT":
            self.refuse(Refusal(405, "CONNECT is not offered"))
            return
        lines = [b"%b %b HTTP/%b" % (method, self.url, version.encode())]
        lines += [b"%b: %b" % field for field in self.headers if field[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.parser.feed_data(b"\r\n".join([*lines, b"", b""]))


def _tell_gone(cycle: RequestResponseCycle) -> None:
    cycle.disconnected = True
    cycle.message_event.set()
