"""A connection's transport that sends the start of an answer in one piece."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT


class AnswerTransport:
    """Joins what an answer writes in its first turn of the event loop; what comes later is written at once.

    An answer that is complete by then is a single system call and wakes its client once, where its head and
    each event would do so otherwise. `begin` announces an answer; everything else is the real transport's.
    """

    write: Callable[[bytes], None]

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []
        self._bytes = 0
        self.write = transport.write
        self.is_closing = transport.is_closing

    def begin(self) -> None:
        """Joins what is written from the next write on, until the loop's next turn."""
        self.write = self._join

    def flush(self) -> None:
        """Sends what was joined, and joins no more."""
        self.write = self._transport.write
        if not self._parts:
            return
        data = b"".join(self._parts)
        self._parts.clear()
        self._bytes = 0
        # The connection may have been lost since; then there is nobody to write to.
        if not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """asyncio's."""
        self.flush()
        self._transport.close()

    def write_eof(self) -> None:
        """asyncio's."""
        self.flush()
        self._transport.write_eof()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def _join(self, data: bytes) -> None:
        if not self._parts:
            self._loop.call_soon(self._end_turn)
        self._parts.append(data)
        self._bytes += len(data)
        if self._bytes > HIGH_WATER_LIMIT:
            self.flush()  # only the real transport knows when the client does not keep up

    def _end_turn(self) -> None:
        # An answer that is over has been flushed; perhaps the next one is announced, but not begun.
        if self._parts:
            self.flush()
