"""Clients that read streamed chat completions at low cost, and record when each token arrives.

What they do with a token must not delay the next one: for streams, they note when bytes arrive, and decrypt
and read them when no more come.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from dataclasses import dataclass, field
from typing import cast

from msgspec import json

from benchmarks.gateways.stamps import Stamps
from benchmarks.gateways.tls import TlsStream

_CONTENT = re.compile(rb'"content": ?"([^"]*)"')
_DONE = b"[DONE]"
_END = b"0\r\n\r\n"
_HOST = "127.0.0.1"
_QUIET_S = 0.06
"""Longer than the engine's steps: a stream in which nothing arrives for so long has most likely ended."""


@dataclass
class Load:
    """`lags`: seconds from the engine's sending of a token to its arrival, without the first one of each
    stream; `firsts`: seconds from a request to its first token; `seconds`: until the last byte arrived.

    By its lag, a first token would be the later the sooner a gateway has sent the request on.
    """

    lags: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    seconds: float = 0.0
    last: float = 0.0


class _Connection(asyncio.Protocol):
    """One keep-alive connection, with one request at a time. The network may split the text anywhere."""

    def __init__(self, stamps: Stamps, load: Load, key: str, tls: ssl.SSLContext | None) -> None:
        self._tls = None if tls is None else TlsStream(tls, _HOST)
        self._arrived: list[tuple[float, bytes]] = []
        self._reads_at_once = True
        self.ready = asyncio.get_running_loop().create_future()
        self._stamps = stamps
        self._load = load
        self._asked_at = 0.0
        self._key = key
        self._unread = b""
        self._stream = 0
        self._tokens = 0
        self._done: asyncio.Future[int] | None = None
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio's."""
        self._transport = cast(asyncio.Transport, transport)
        if self._tls is None:
            self.ready.set_result(None)
        else:
            self._transport.write(self._tls.shake())

    def ask(self, stream: int, length: int, model: str) -> asyncio.Future[int]:
        """Sends a request; resolves to the number of tokens that arrived. An answer of several tokens is read
        by `read` alone.
        """
        body = json.encode(
            {
                "model": model,
                "messages": [{"role": "user", "content": f"Stream {stream}"}],
                "stream": True,
                "max_tokens": length,
                "seed": stream,
                "thinking": {"type": "disabled"},
            }
        )
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
            f"authorization: Bearer {self._key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self._stream, self._tokens, self._unread = stream, 0, b""
        self._asked_at = time.monotonic()
        self._done = asyncio.get_running_loop().create_future()
        self._reads_at_once = length == 1
        request = head.encode() + body
        self._transport.write(request if self._tls is None else self._tls.encrypt(request))
        return self._done

    def data_received(self, data: bytes) -> None:
        """asyncio's."""
        now = time.monotonic()
        if self._tls is not None and not self._tls.ready:
            self._transport.write(self._tls.shake(data))
            if self._tls.ready:
                self.ready.set_result(None)
            return
        self._arrived.append((now, data))
        self._load.last = now
        if self._reads_at_once:
            self.read()

    def read(self) -> None:
        """Reads what has arrived since the last time."""
        arrived, self._arrived = self._arrived, []
        for when, data in arrived:
            self._read(when, data if self._tls is None else self._tls.decrypt(data))

    def _read(self, now: float, data: bytes) -> None:
        text = self._unread + data
        cut = text.rfind(b"\n\n") + 2
        if cut < 2 and not text.endswith(_END):
            self._unread = text
            return
        whole, self._unread = text[:cut], text[cut:]
        for content in _CONTENT.findall(whole):
            for _ in content:
                if self._tokens:
                    self._load.lags.append(now - self._stamps.get(self._stream, self._tokens))
                else:
                    self._load.firsts.append(now - self._asked_at)
                self._tokens += 1
        if self._done is not None and not self._done.done():
            if whole.startswith(b"HTTP/1.1 ") and not whole.startswith(b"HTTP/1.1 200"):
                self._done.set_exception(RuntimeError(text.decode(errors="replace")))
            elif _DONE in whole and text.endswith(_END):
                self._done.set_result(self._tokens)
            elif _DONE in whole:
                self._unread = whole[whole.rfind(b"data: ") :] + self._unread

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's."""
        self.closed = True
        if not self.ready.done():
            self.ready.set_exception(exc or ConnectionError("the gateway refused a connection"))
        if self._done is not None and not self._done.done():
            self._done.set_exception(exc or ConnectionError("the gateway closed a connection"))


class Clients:
    """Several connections to one gateway."""

    def __init__(
        self, port: int, model: str, stamps: Stamps, tls: ssl.SSLContext | None = None, key: str = "any"
    ) -> None:
        self._port = port
        self._tls = tls
        self._key = key
        self._model = model
        self._stamps = stamps
        self._load = Load()
        self._connections: list[_Connection] = []

    async def open(self, number: int) -> None:
        """Opens connections up to this number; replaces idle ones that were closed."""
        loop = asyncio.get_running_loop()
        self._connections = [connection for connection in self._connections if not connection.closed]
        while len(self._connections) < number:
            _, connection = await loop.create_connection(
                lambda: _Connection(self._stamps, self._load, self._key, self._tls), _HOST, self._port
            )
            await connection.ready
            self._connections.append(connection)

    async def stream(self, number: int, length: int) -> Load:
        """Runs so many streams at once to their end. Raises RuntimeError if tokens are missing."""
        await self.open(number)
        self._load.lags.clear()
        self._load.firsts.clear()
        began = time.monotonic()
        connections = self._connections[:number]
        asked = [each.ask(index, length, self._model) for index, each in enumerate(connections)]
        while not all(answer.done() for answer in asked):
            await asyncio.sleep(_QUIET_S)
            if time.monotonic() - self._load.last > _QUIET_S:
                for each in connections:
                    each.read()
        counts = await asyncio.gather(*asked)
        seconds = self._load.last - began
        if set(counts) != {length}:
            raise RuntimeError(f"not every stream had {length} tokens: {sorted(set(counts))}")
        return Load(list(self._load.lags), list(self._load.firsts), seconds)

    async def count(self, number: int, seconds: float) -> float:
        """Requests of one token per second that `number` connections get answered."""
        await self.open(number)
        end, answered = time.monotonic() + seconds, 0

        async def ask_on(index: int, connection: _Connection) -> None:
            nonlocal answered
            while time.monotonic() < end:
                await connection.ask(index, 1, self._model)
                answered += 1

        began = time.monotonic()
        await asyncio.gather(*(ask_on(*each) for each in enumerate(self._connections[:number])))
        return answered / (time.monotonic() - began)
