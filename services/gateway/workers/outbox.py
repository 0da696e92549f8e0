"""What is on its way to a decode worker: submits and cancels, sent together if more than one waits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from perigee.v1 import decode_pb2

MESSAGE_BYTES = 1 << 20
"""A message holds one submit, and more of them only up to this size."""


class Outbox:
    """The outgoing side of a session. Used on the event loop only.

    A message costs more than what is in it: while one is written, or while many requests arrive at once, what
    comes is joined into the next one.
    """

    def __init__(self) -> None:
        self._submits: deque[decode_pb2.Submit] = deque()
        self._cancels: list[decode_pb2.Cancel] = []
        self._closed = False
        self._filled = asyncio.Event()

    def submit(self, submit: decode_pb2.Submit) -> None:
        """Sends a request."""
        self._submits.append(submit)
        self._filled.set()

    def cancel(self, handle: int) -> None:
        """Cancels a request that was sent before."""
        self._cancels.append(decode_pb2.Cancel(handle=handle))
        self._filled.set()

    def close(self) -> None:
        """Ends `messages`; what was not sent yet is dropped."""
        self._closed = True
        self._filled.set()

    async def messages(self) -> AsyncIterator[decode_pb2.SessionRequest]:
        """Yields what is to be sent, until closed. Iterate once."""
        while True:
            await self._filled.wait()
            if self._closed:
                return
            yield self._take()

    def _take(self) -> decode_pb2.SessionRequest:
        message, size = decode_pb2.SessionRequest(), 0
        while self._submits:
            size += self._submits[0].ByteSize()
            if message.submits and size > MESSAGE_BYTES:
                return message  # without cancels: none may overtake its request
            message.submits.append(self._submits.popleft())
        message.cancels.extend(self._cancels)
        self._cancels.clear()
        self._filled.clear()
        return message
