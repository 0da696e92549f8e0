"""Reads a session's responses, together where more than one has come."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

import grpc

from perigee.v1 import decode_pb2

_AT_ONCE_S = 0.0005
_MORE_S = 0.001
_MOST = 32


class SessionReader:
    """Reads one call. `close` must be called in the end.

    A response costs the loop time for each of its tokens. If the next response is there as soon as that is
    over, the loop may be falling behind the worker: then all responses that have come, up to a bound, are
    returned together, which costs less for each.
    """

    def __init__(self, call: Any, clock: Callable[[], float] = time.monotonic) -> None:
        """`call`: grpc.aio's stream call; `clock`: seconds."""
        self._call = call
        self._clock = clock
        self._reading: asyncio.Task[Any] | None = None
        self._idle_since = math.inf

    async def next(self) -> list[decode_pb2.SessionResponse]:
        """Returns at least one response; none at the end of the call. Raises what the call fails with."""
        # Runs after everything that the last responses have woken, and after what that has written.
        self._idle_since = math.inf
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, self._note_idle)
        response = await self._read()
        behind = self._clock() - self._idle_since < _AT_ONCE_S
        if response is grpc.aio.EOF:  # type: ignore[attr-defined]  # the stubs lack it
            return []
        responses = [response]
        while behind and len(responses) < _MOST and await self._more():
            responses.append(await self._read())
        return responses

    def close(self) -> None:
        """Reads no more."""
        if self._reading is not None:
            self._reading.cancel()

    async def _read(self) -> Any:
        if self._reading is None:
            return await self._call.read()
        reading, self._reading = self._reading, None
        return await reading

    async def _more(self) -> bool:
        """Whether another response has come. The next `next` gives the end of the call, or its failure."""
        self._reading = reading = asyncio.create_task(self._call.read())
        # Not asyncio.wait, which costs three times as much.
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        timer = loop.call_later(_MORE_S, _end, over)
        reading.add_done_callback(lambda _: _end(over))
        try:
            await over
        finally:
            timer.cancel()
        if not reading.done() or reading.exception() is not None:
            return False
        return reading.result() is not grpc.aio.EOF  # type: ignore[attr-defined]

    def _note_idle(self) -> None:
        self._idle_since = self._clock()


def _end(wait: asyncio.Future[None]) -> None:
    if not wait.done():
        wait.set_result(None)
