"""Ends what still runs when the grace is over."""

from __future__ import annotations

import asyncio
from types import TracebackType

from services.common.errors import ShuttingDown


class CutOff:
    """Ends blocks of code from outside: each raises ShuttingDown where it waits. Used on one event loop."""

    def __init__(self) -> None:
        self._blocks: set[_Watched] = set()
        self._cut: set[asyncio.Task[object]] = set()

    def watched(self) -> _Watched:
        """A block that `now` ends; its task may be in several of them, one within the other."""
        return _Watched(self._blocks, self._cut)

    def now(self) -> int:
        """Ends all blocks that are watched; returns the number of their tasks."""
        tasks = {block.task for block in self._blocks} - self._cut
        self._cut |= tasks
        for task in tasks:
            task.cancel()
        return len(tasks)


class _Watched:
    """Costs a third of a generator with `contextmanager`; every request has one."""

    def __init__(self, blocks: set[_Watched], cut: set[asyncio.Task[object]]) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task: asyncio.Task[object] = task
        self._blocks = blocks
        self._cut = cut

    def __enter__(self) -> None:
        self._blocks.add(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._blocks.discard(self)
        if isinstance(error, asyncio.CancelledError) and self.task in self._cut:
            self._cut.discard(self.task)
            self.task.uncancel()
            raise ShuttingDown("the gateway is shutting down and waits no longer for requests") from None
