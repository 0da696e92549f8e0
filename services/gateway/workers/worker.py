"""The link and tasks that the gateway keeps for one worker."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from services.gateway.workers.link import WorkerLink
from services.gateway.workers.session import DecodeSession


class Worker:
    """A vision or prefill worker: its link, watched from `start` to `close`. Event loop only."""

    def __init__(self, link: WorkerLink) -> None:
        self.link = link
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def serving(self) -> bool:
        """True while the worker takes new requests."""
        return self.link.serving

    @property
    def idle(self) -> bool:
        """True while no request of this gateway runs there."""
        return self.link.calls == 0

    def start(self) -> None:
        """Begins to watch."""
        self._tasks = [asyncio.create_task(work) for work in self._work()]

    async def close(self) -> None:
        """Ends the watching, what still runs there, and the channel."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.link.close()

    def _work(self) -> list[Coroutine[Any, Any, None]]:
        return [self.link.run()]


class DecodeWorker(Worker):
    """A decode worker: its link and its session."""

    def __init__(self, link: WorkerLink, session: DecodeSession) -> None:
        super().__init__(link)
        self.session = session

    @property
    def serving(self) -> bool:
        return self.link.serving and self.session.connected

    def _work(self) -> list[Coroutine[Any, Any, None]]:
        return [*super()._work(), self.session.run()]
