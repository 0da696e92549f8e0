"""Starts, supervises and stops the suite."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from services.cli.run.keeper import Keeper
from services.cli.run.progress import Progress
from services.common.graces import WORKER_CLOSE_S


class Supervisor:
    """Owns the keepers' tasks and, through them, every child process."""

    def __init__(
        self,
        keepers: Sequence[Keeper],
        progress: Progress,
        stop_timeout_s: float,
        connected: Callable[[], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`stop_timeout_s`: the children are gone so long after a stop, or killed. `connected` returns when
        the gateway has found the workers; it is asked when all are healthy.
        """
        self._keepers = list(keepers)
        self._progress = progress
        self._stop_timeout_s = stop_timeout_s
        self._connected = connected
        self._clock = clock

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
            await self._stop_all(hurry)

    async def _all_ready(self) -> None:
        for keeper in self._keepers:
            await keeper.ready.wait()
        await self._connected()

    async def _stop_all(self, hurry: asyncio.Event) -> None:
        self._progress.print("stopping…")
        stopping = asyncio.ensure_future(self._stop_in_order())
        hurried = asyncio.create_task(hurry.wait())
        waiting: set[asyncio.Future[Any]] = {stopping, hurried}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            for keeper in self._keepers:
                keeper.kill()
        hurried.cancel()
        await stopping

    async def _stop_in_order(self) -> None:
        """Workers serve until the gateway is gone: its last requests may still need each of them."""
        give_up = self._clock() + self._stop_timeout_s
        doors = [keeper for keeper in self._keepers if keeper.role == "gateway"]
        workers = [keeper for keeper in self._keepers if keeper.role != "gateway"]
        await self._stop(doors, give_up - min(WORKER_CLOSE_S, self._stop_timeout_s / 2))
        await self._stop(workers, give_up)

    async def _stop(self, keepers: Sequence[Keeper], give_up: float) -> None:
        await asyncio.gather(*(self._stop_one(keeper, give_up) for keeper in keepers))

    async def _stop_one(self, keeper: Keeper, give_up: float) -> None:
        if not await keeper.stop(max(0.0, give_up - self._clock())):
            self._progress.print(
                f"{keeper.role} did not stop within the suite's {self._stop_timeout_s:.0f} s and was killed"
            )
