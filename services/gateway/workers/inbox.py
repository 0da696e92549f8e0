"""What the workers say of one request, until it is fetched."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from perigee.v1 import decode_pb2
from services.common.errors import PerigeeError

if TYPE_CHECKING:
    from services.gateway.workers.token_stream import TokenStream

News: TypeAlias = "tuple[TokenStream, decode_pb2.SequenceDelta | PerigeeError]"


class Inbox:
    """A queue with one reader, on the event loop; every token of the gateway passes through one of these.

    Not asyncio's, which costs three times as much for each.
    """

    def __init__(self, shortcut: Callable[[TokenStream, int, int], bool] | None = None) -> None:
        """`shortcut`: given a stream, a choice and a token while the reader waits; what it takes (True), the
        reader does not see.
        """
        self._shortcut = shortcut
        self._items: deque[News] = deque()
        self._reader: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._items)

    def put(self, news: News) -> None:
        """At the end; wakes the reader."""
        self._items.append(news)
        reader, self._reader = self._reader, None
        if reader is not None and not reader.done():
            reader.set_result(None)

    def put_token(self, stream: TokenStream, choice: int, token_id: int, *, shortcut: bool = True) -> None:
        """A delta of one token and nothing else. `shortcut`: whether it may take that."""
        waits = self._reader is not None and not self._reader.done()
        if shortcut and waits and self._shortcut is not None and self._shortcut(stream, choice, token_id):
            return
        delta = decode_pb2.SequenceDelta(handle=stream.handle, choice=choice, token_ids=(token_id,))
        self.put((stream, delta))

    def close(self) -> None:
        """Asks the shortcut no more."""
        self._shortcut = None

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
