"""Pages of a staging area, handed out in the order they were asked for."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass

from services.engine.kv_cache.page_pool import PagePool


@dataclass(eq=False)
class _Place:
    """Somebody in the line: how many pages, and where they are given."""

    count: int
    turn: asyncio.Future[list[int]]


class StagingLine:
    """First come, first served: a newcomer does not pass whoever waits for more. Event loop only."""

    def __init__(self, num_pages: int) -> None:
        self._pool = PagePool(num_pages)
        self._line: deque[_Place] = deque()

    def available(self) -> int:
        """Pages that nobody has."""
        return self._pool.available()

    def check_integrity(self) -> None:
        """InternalError where pages were lost or given out twice."""
        self._pool.check_integrity()

    async def take(self, count: int) -> list[int]:
        """That many pages, at most all there are; the caller gives them back."""
        place = _Place(count, asyncio.get_running_loop().create_future())
        self._line.append(place)
        self._serve()
        try:
            return await place.turn
        except asyncio.CancelledError:
            if place.turn.cancelled():
                self._serve()  # those behind it
            else:
                self.give(place.turn.result())  # its turn came in the moment it left
            raise

    def give(self, pages: list[int]) -> None:
        """Back; those who are next get theirs."""
        self._pool.release(pages)
        self._serve()

    def _serve(self) -> None:
        while self._line:
            place = self._line[0]
            if not place.turn.cancelled():  # else it has left, perhaps without having been told so yet
                if self._pool.available() < place.count:
                    return
                place.turn.set_result(self._pool.allocate(place.count))
            self._line.popleft()
