"""uvicorn's HTTP/1.1, strict about where a request ends: each gets one answer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from services.gateway.http.errors import bad_request
from services.gateway.http.shapes.base import encode
from services.gateway.waiting import Waiting

_MALFORMED = "this is not an HTTP/1.1 request that can be read"
_AUTHORITY = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)")
# Most pipelined requests of one connection. Few clients pipeline at all.
_MAX_BEHIND = 16
# Time to read what is still in flight when a request is answered or refused before it was read whole.
_LINGER_S = 5.0


@dataclass(frozen=True)
class Patience:
    """Limits on a request's headers and on the idle time between two requests."""

    header_bytes: int
    header_s: float
    keep_alive_s: int


class Refusal(Exception):
    """The error that ends reading from a connection."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


class RequestProtocol(HttpToolsProtocol):
    """Reads requests by their framing alone; offers to speak another protocol are ignored (RFC 9110, 7.8).

    After a malformed request it reads nothing more: requests before it are answered, then the connection is
    closed.
    """

    _unanswered: tuple[RequestResponseCycle, ...] = ()
    _refused = False
    # Bytes of the headers or trailers being read.
    _in_head = True
    _head_begun = False
    _head_bytes = 0
    # Bytes fed since the last callback of the parser, which buffers them.
    _buffered_bytes = 0
    _deadline: asyncio.TimerHandle | None = None

    def __init__(self, patience: Patience, waiting: Waiting, **given: Any) -> None:
        """`waiting`: all connections without a whole request. `given`: uvicorn's."""
        super().__init__(**given)
        self._patience = patience
        self._waiting = waiting

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """asyncio's."""
        super().connection_made(transport)
        self._waiting.enter(self, self._make_room)
        self._close_in(self._patience.header_s)

    def data_received(self, data: bytes) -> None:
        """asyncio's."""
        self._unset_keepalive_if_required()
        self._buffered_bytes += len(data)
        self._read(memoryview(data))
        if self._refused:
            return
        if self._buffered_bytes > self._patience.header_bytes:
            self.refuse(self._headers_too_large())
        elif self._in_head and self._deadline is None and (self._head_begun or not self._answering):
            self._close_in(self._patience.header_s)

    def _read(self, rest: memoryview) -> None:
        while rest and not self._refused:
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as offer:
                rest = rest[offer.args[0] :]
                self._read_again_without_offer()
            except httptools.HttpParserError as error:
                cause = error.__context__
                self.refuse(cause if isinstance(cause, Refusal) else Refusal(400, _MALFORMED))

    def on_message_begin(self) -> None:
        """httptools'."""
        super().on_message_begin()
        self._head_begun = True
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """httptools'."""
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools'. What comes behind a body is dropped."""
        self._count_head(len(name) + len(value))
        if self._in_head:
            super().on_header(name, value.rstrip(b" \t"))  # white space around it is no part of it

    def on_headers_complete(self) -> None:
        """httptools'."""
        self._buffered_bytes = 0
        if self.parser.should_upgrade():
            return  # not begun: it is read again
        before = (*self._unanswered, self.cycle) if self.cycle is not None else ()
        self._unanswered = tuple(cycle for cycle in before if not cycle.response_complete)
        if len(self._unanswered) > _MAX_BEHIND:
            raise Refusal(429, f"more than {_MAX_BEHIND} requests wait on this connection")
        for name, value in self.headers:
            if name == b"transfer-encoding" and value.lower() != b"chunked":
                raise Refusal(501, f"transfer-encoding: {value.decode('latin-1')} is not known here")
        self._settle_host()
        self._in_head = False
        self._cancel_deadline()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """httptools'."""
        self._buffered_bytes = 0
        super().on_body(body)

    def on_chunk_header(self) -> None:
        """httptools'."""
        self._buffered_bytes = 0

    def on_message_complete(self) -> None:
        """httptools'."""
        self._buffered_bytes = 0
        if self.parser.should_upgrade():
            return
        self._in_head, self._head_begun = True, False
        self._cancel_deadline()
        super().on_message_complete()
        if self._answering:
            self._waiting.leave(self)
        else:
            # It was answered before it was read.
            self._close_in(self._patience.keep_alive_s)

    def on_response_complete(self) -> None:
        """uvicorn's."""
        super().on_response_complete()
        if self._answering or self.transport.is_closing():
            return
        self._waiting.enter(self, self._make_room)
        if self.cycle.more_body:
            self._unset_keepalive_if_required()
            self._close_in(_LINGER_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's."""
        self._waiting.leave(self)
        self._cancel_deadline()
        super().connection_lost(exc)
        # uvicorn marks only the last request as disconnected, not the unanswered ones before it.
        for cycle in self._unanswered:
            _mark_disconnected(cycle)

    def refuse(self, refusal: Refusal) -> None:
        """Reads nothing more, and closes the connection once what was read whole is answered.

        The refusal itself is sent only where the client waits for no other answer.
        """
        self._refused = True
        broken = self.cycle if self.cycle is not None and self.cycle.more_body else None
        ahead = [cycle for cycle in self._read_whole() if not cycle.response_complete]
        if broken is not None:
            _mark_disconnected(broken)
        if ahead:
            self.pipeline = type(self.pipeline)(pair for pair in self.pipeline if pair[0] is not broken)
            ahead[-1].keep_alive = False
            return
        if broken is not None and broken.response_started:
            self.transport.close()
            return
        self._write(refusal)
        # Closed at once, what still comes would be answered by a reset, which takes the refusal with it.
        self.transport.write_eof()
        self._close_in(_LINGER_S)

    @property
    def _answering(self) -> bool:
        """Whether a request is begun that has no whole answer yet."""
        return self.cycle is not None and not self.cycle.response_complete

    def _count_head(self, count: int) -> None:
        self._head_bytes += count
        if self._head_bytes > self._patience.header_bytes:
            raise self._headers_too_large()

    def _settle_host(self) -> None:
        """Replaces the Host field by the host in the target, if that is a whole URL (RFC 9112, 3.2)."""
        hosts = [field for field in self.headers if field[0] == b"host"]
        if len(hosts) > 1 or (not hosts and self.parser.get_http_version() == "1.1"):
            raise Refusal(400, f"an HTTP/1.1 request has one Host field; this one has {len(hosts)}")
        if (found := _AUTHORITY.match(self.url)) is not None:
            self.headers[:] = [field for field in self.headers if field[0] != b"host"]
            self.headers.append((b"host", found[1]))
            rest = self.url[found.end() :]
            self.url = rest if rest.startswith(b"/") else b"/" + rest

    def _headers_too_large(self) -> Refusal:
        return Refusal(431, f"the headers are larger than {self._patience.header_bytes} bytes")

    def _close_in(self, seconds: float) -> None:
        self._cancel_deadline()
        self._deadline = self.loop.call_later(seconds, self._give_up)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if self._head_begun and self._in_head and not self._refused:
            self.refuse(Refusal(408, f"the headers did not arrive within {self._patience.header_s:g} s"))
        else:
            self.transport.close()

    def _make_room(self) -> None:
        """Gives up this connection, because others need its place."""
        if self._head_begun and not self._refused:
            self.refuse(Refusal(503, "too many connections wait for their request to arrive; retry later"))
        self.transport.close()

    def _read_whole(self) -> Iterator[RequestResponseCycle]:
        yield from self._unanswered
        if self.cycle is not None and not self.cycle.more_body:
            yield self.cycle

    def _write(self, refusal: Refusal) -> None:
        body = encode(bad_request(refusal.message))
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


def _mark_disconnected(cycle: RequestResponseCycle) -> None:
    cycle.disconnected = True
    cycle.message_event.set()
