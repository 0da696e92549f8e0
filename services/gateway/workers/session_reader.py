"""Reads a session's responses, together where more than one has come."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

import grpc

from perigee.v1 import decode_pb2

_AT_ONCE_S = 0.0005
_MORE_S = 0.001
_MOST = 32


class SessionReader:
    """Of one call. `close` in the end.

    A response costs the loop time for each of its tokens. If the next one is there as soon as that is over,
    the loop may be falling behind the worker: then all that have come, up to a bound, are given at once, so
    that less is done for each.
    """

    def __init__(self, call: Any) -> None:
        """`call`: grpc.aio's."""
        self._call = call
        self._reading: asyncio.Task[Any] | None = None
        self._idle_since = math.inf

    async def next(self) -> list[decode_pb2.SessionResponse]:
        """At least one; none at the end of the call. Raises what the call fails with."""
        # Runs behind everything that the last responses have woken, and behind what that has written.
        self._idle_since = math.inf
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, self._note_idle)
        response = await self._read()
        behind = time.monotonic() - self._idle_since < _AT_ONCE_S
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
        """Whether another one has come. The end of the call and its failure are for the next `next`."""
        self._reading = reading = asyncio.create_task(self._call.read())
        await asyncio.wait({reading}, timeout=_MORE_S)
        if not reading.done() or reading.exception() is not None:
            return False
        return reading.result() is not grpc.aio.EOF  # type: ignore[attr-defined]

    def _note_idle(self) -> None:
        self._idle_since = time.monotonic()
