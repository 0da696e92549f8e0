"""What a stream's caller sends, as a queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

T = TypeVar("T")


async def until_none(queue: asyncio.Queue[T | None]) -> AsyncIterator[T]:
    """What the queue gives, up to the first None."""
    while (message := await queue.get()) is not None:
        yield message
