"""Tasks of the event loop that another thread starts and stops."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Hashable
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=Hashable)
Order = TypeVar("Order")


class NamedTasks(Generic[Name, Order]):
    """One task at a time per name. Made on the event loop; `start` and `stop` may be called on any thread."""

    def __init__(
        self, run: Callable[[Name, Order], Coroutine[None, None, None]], on_unbegun: Callable[[Name], None]
    ) -> None:
        """`run` must report its own end, a cancellation included, as the last thing it does.

        `on_unbegun` is called for a task that was stopped before its first step and so never entered `run`.
        """
        self._run = run
        self._on_unbegun = on_unbegun
        self._loop = asyncio.get_running_loop()
        self._running: dict[Name, asyncio.Task[None]] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def start(self, name: Name, order: Order) -> None:
        """Starts a task; the previous one of this name must have reported its end."""
        self._loop.call_soon_threadsafe(self._start, name, order)

    def stop(self, name: Name) -> None:
        """Cancels a task; ignores one that has ended."""
        self._loop.call_soon_threadsafe(self._stop, name)

    def close_later(self, work: Coroutine[None, None, None]) -> None:
        """Runs the work that is left after the end of a task. Event loop only."""
        task = asyncio.create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _start(self, name: Name, order: Order) -> None:
        task = asyncio.create_task(self._run(name, order))
        self._running[name] = task
        task.add_done_callback(functools.partial(self._done, name))

    def _stop(self, name: Name) -> None:
        task = self._running.get(name)
        if task is not None:
            task.cancel()

    def _done(self, name: Name, task: asyncio.Task[None]) -> None:
        # After the report of its end, the next task of this name may have started already.
        if self._running.get(name) is task:
            del self._running[name]
        if task.cancelled():
            self._on_unbegun(name)
