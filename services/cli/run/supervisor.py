"""Starts, supervises and stops the suite."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from services.cli.run.keeper import Keeper
from services.cli.run.progress import Progress
from services.cli.run.stopping import Stopping


class Supervisor:
    """Owns the keepers' tasks and, through them, every child process."""

    def __init__(
        self,
        keepers: Sequence[Keeper],
        progress: Progress,
        stopping: Stopping,
        connected: Callable[[], Awaitable[None]],
    ) -> None:
        """`connected` returns when the gateway has found the workers; it is asked when all are healthy."""
        self._keepers = list(keepers)
        self._progress = progress
        self._stopping = stopping
        self._connected = connected

    async def run(self, stop: asyncio.Event, hurry: asyncio.Event, on_ready: Callable[[], None]) -> None:
        """Runs the suite until `stop` is set; calls `on_ready` when all are healthy for the first time and
        know each other.

        Raises Unavailable if a first start fails. No child is left running in any case. Setting `hurry` while
        the children stop kills those that are left.
        """
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(keeper.run()) for keeper in self._keepers]
        stopped = asyncio.create_task(stop.wait())
        ready = asyncio.create_task(self._all_ready())
        try:
            self._progress.begin()
            await asyncio.wait({*tasks, stopped, ready}, return_when=asyncio.FIRST_COMPLETED)
            self._progress.end()
            if ready.done() and not stop.is_set():
                on_ready()
                await asyncio.wait({*tasks, stopped}, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in (*tasks, stopped, ready):
                task.cancel()
            await asyncio.gather(*tasks, stopped, ready, return_exceptions=True)
            await self._stopping.run(hurry)

    async def _all_ready(self) -> None:
        for keeper in self._keepers:
            await keeper.ready.wait()
        await self._connected()
