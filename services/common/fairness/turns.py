"""Waiting for one's turn, on an event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.common.fairness.virtual_time import VirtualTime


class TurnLine:
    """Tasks of tenants that wait: tenants share the turns by weight, and the tasks of one come in the order
    they came. Event loop only.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, deque[tuple[asyncio.Future[None], int, float]]] = {}
        self._time = VirtualTime()

    def enter(self, tenant: int, weight: int, cost: float) -> asyncio.Future[None]:
        """Returns a future that has a result when it is this task's turn; cancel it to leave. `cost`: what
        the turn counts, in a unit common to all.
        """
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if tenant not in self._waiting:
            self._waiting[tenant] = deque()
            self._time.wait(tenant)
        self._waiting[tenant].append((turn, weight, cost))
        return turn

    def charge(self, tenant: int, weight: int, cost: float) -> None:
        """A tenant has had a turn without waiting."""
        self._time.charge(tenant, weight, cost)

    def let_next(self) -> bool:
        """Gives the next task its turn. Returns False if none waits."""
        while self._waiting:
            tenant = self._time.next()
            waiting = self._waiting[tenant]
            turn, weight, cost = waiting.popleft()
            goes = not turn.done()
            if goes:
                self._time.charge(tenant, weight, cost)
                turn.set_result(None)
            if not waiting:
                del self._waiting[tenant]
                self._time.leave(tenant)
            if goes:
                return True
        return False


class FairSemaphore:
    """Lets `width` tasks in at a time; those that wait take turns by tenant. Event loop only."""

    def __init__(self, width: int) -> None:
        self._free = width
        self._line = TurnLine()

    @asynccontextmanager
    async def turn(self, tenant: int, weight: int, cost: float) -> AsyncIterator[None]:
        """Waits for a turn that lasts as long as the block. `cost` as in TurnLine."""
        await self._enter(tenant, weight, cost)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, tenant: int, weight: int, cost: float) -> None:
        if self._free:
            self._free -= 1
            self._line.charge(tenant, weight, cost)
            return
        turn = self._line.enter(tenant, weight, cost)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # the turn came at the same moment
                self._leave()
            raise

    def _leave(self) -> None:
        if not self._line.let_next():
            self._free += 1
