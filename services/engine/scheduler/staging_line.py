"""Pages of a staging area, handed out in the order of the requests."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from services.engine.kv_cache.page_pool import PagePool


@dataclass(eq=False)
class _Place:
    """A waiting request: how many pages it wants, and the future that gets them."""

    count: int
    turn: asyncio.Future[list[int]]


class StagingLine:
    """First come, first served: a small request does not overtake a larger one. Event loop only."""

    def __init__(self, num_pages: int) -> None:
        self._pool = PagePool(num_pages)
        self._line: deque[_Place] = deque()

    def available(self) -> int:
        """Number of free pages."""
        return self._pool.available()

    def check_integrity(self) -> None:
        """Raises InternalError if pages were lost or handed out twice."""
        self._pool.check_integrity()

    async def take(self, count: int) -> list[int]:
        """Takes that many pages, at most all there are; the caller must give them back."""
        place = _Place(count, asyncio.get_running_loop().create_future())
        self._line.append(place)
        self._serve()
        try:
            return await place.turn
        except asyncio.CancelledError:
            if place.turn.cancelled():
                self._serve()  # the requests behind it
            else:
                self.give(place.turn.result())  # it was served just before it was cancelled
            raise

    def give(self, pages: list[int]) -> None:
        """Takes pages back, and serves the requests that wait for them."""
        self._pool.release(pages)
        self._serve()

    def _serve(self) -> None:
        while self._line:
            place = self._line[0]
            if not place.turn.cancelled():  # a cancelled request gets nothing, even before its task has ended
                if self._pool.available() < place.count:
                    return
                place.turn.set_result(self._pool.allocate(place.count))
            self._line.popleft()
