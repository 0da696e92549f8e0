"""Ends what still runs when the grace is over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from services.common.errors import ShuttingDown


class CutOff:
    """Ends blocks of code from outside: each raises ShuttingDown where it waits. Used on one event loop."""

    def __init__(self) -> None:
        self._blocks: dict[object, asyncio.Task[object]] = {}
        self._cut: set[asyncio.Task[object]] = set()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """A block that `now` ends; its task may be in several of them, one within the other."""
        task, key = asyncio.current_task(), object()
        assert task is not None
        self._blocks[key] = task
        try:
            yield
        except asyncio.CancelledError:
            if task not in self._cut:
                raise
            self._cut.discard(task)
            task.uncancel()
            raise ShuttingDown("the gateway is shutting down and waits no longer for requests") from None
        finally:
            del self._blocks[key]

    def now(self) -> int:
        """Ends all blocks that are watched; returns the number of their tasks."""
        tasks = set(self._blocks.values()) - self._cut
        self._cut |= tasks
        for task in tasks:
            task.cancel()
        return len(tasks)
