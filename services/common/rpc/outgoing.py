"""The outgoing side of a stream, fed by a queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

T = TypeVar("T")


async def until_none(queue: asyncio.Queue[T | None]) -> AsyncIterator[T]:
    """Yields items of the queue until the first None."""
    while (message := await queue.get()) is not None:
        yield message
