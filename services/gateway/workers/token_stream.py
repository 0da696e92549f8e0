"""The tokens of one submitted request, as they come down the session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from perigee.v1 import decode_pb2
from services.common.errors import PerigeeError


class TokenStream:
    """A queue of deltas, filled by the session and read by one request. Used on the event loop only.

    What it holds is bounded by the request's token limit. `close` tells the worker to stop unless every
    choice has finished; idempotent.
    """

    def __init__(self, handle: int, choices: int, on_close: Callable[[TokenStream], None]) -> None:
        self.handle = handle
        self._unfinished = choices
        self._on_close = on_close
        self._queue: asyncio.Queue[decode_pb2.SequenceDelta | PerigeeError] = asyncio.Queue()
        self._failed = False

    @property
    def finished(self) -> bool:
        """Whether the worker has finished every choice, so that there is nothing left to cancel."""
        return self._unfinished <= 0

    def put(self, delta: decode_pb2.SequenceDelta) -> None:
        """Called by the session."""
        if delta.finish_reason:
            self._unfinished -= 1
        self._queue.put_nowait(delta)

    def fail(self, error: PerigeeError) -> None:
        """Called by the session; the first failure counts."""
        if not self._failed:
            self._failed = True
            self._queue.put_nowait(error)

    async def next(self) -> decode_pb2.SequenceDelta:
        """The next delta, in the order received; raises what the request failed with."""
        item = await self._queue.get()
        if isinstance(item, PerigeeError):
            raise item
        return item

    def close(self) -> None:
        self._on_close(self)
