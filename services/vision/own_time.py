"""The limit of the time that is spent on a file, as opposed to the time it waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.common.errors import DeadlineExceeded


class OwnTime:
    """Counts the seconds of the blocks in `spend` and breaks off the one that exceeds the limit."""

    def __init__(self, limit_s: float | None) -> None:
        """`limit_s`: None for no limit."""
        self._limit_s = limit_s
        self._spent_s = 0.0

    def restart(self) -> None:
        """Counts from zero again: the next chunk of a video begins."""
        self._spent_s = 0.0

    @asynccontextmanager
    async def spend(self) -> AsyncIterator[None]:
        """Cancels the block when the limit is reached. Raises DeadlineExceeded then."""
        clock = asyncio.get_running_loop().time
        began = clock()
        limit_s = self._limit_s
        left_s = None if limit_s is None else max(0.0, limit_s - self._spent_s)
        limit = asyncio.timeout(left_s)
        try:
            async with limit:
                yield
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise DeadlineExceeded(f"encoding it takes more than {limit_s:g} s") from error
        finally:
            self._spent_s += clock() - began
