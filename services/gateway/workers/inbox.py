"""What the workers say of one request, until it is fetched."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, TypeAlias

from perigee.v1 import decode_pb2
from services.common.errors import PerigeeError

if TYPE_CHECKING:
    from services.gateway.workers.token_stream import TokenStream

News: TypeAlias = "tuple[TokenStream, decode_pb2.SequenceDelta | PerigeeError]"


class Inbox:
    """A queue with one reader, on the event loop.

    Not asyncio's, which costs three times as much for each item.
    """

    def __init__(self) -> None:
        self._items: deque[News] = deque()
        self._reader: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._items)

    @property
    def idle(self) -> bool:
        """Whether it is empty, and the reader waits."""
        return self._reader is not None and not self._reader.done()

    def put(self, news: News) -> None:
        """At the end; wakes the reader."""
        self._items.append(news)
        reader, self._reader = self._reader, None
        if reader is not None and not reader.done():
            reader.set_result(None)

    def take(self) -> News:
        """The first; IndexError where there is none."""
        return self._items.popleft()

    def put_back(self, news: News) -> None:
        """By the reader, what it has taken."""
        self._items.appendleft(news)

    async def wait(self) -> None:
        """Until there is something. For one reader at a time."""
        while not self._items:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
