"""Lets many requests that arrive together begin a few at a time."""

from __future__ import annotations

import asyncio
from collections import deque

from services.common.fairness.virtual_time import VirtualTime

WIDTH = 4
"""Requests per turn of the event loop. To begin one takes as long as to deliver about twenty tokens."""


class Turnstile:
    """Lets `width` requests begin per turn, so that running ones get their tokens. Event loop only."""

    def __init__(self, width: int = WIDTH) -> None:
        self._width = width
        self._left = width
        self._waiting: dict[int, deque[tuple[asyncio.Future[None], int]]] = {}
        self._time = VirtualTime()
        self._turning = False

    async def enter(self, tenant: int = 0, weight: int = 1) -> None:
        """Returns when it is this request's turn: tenants share the turns by weight, and the requests of one
        come in the order they came.
        """
        if self._left:
            self._left -= 1
            self._turn_later()
            return
        turn = asyncio.get_running_loop().create_future()
        if tenant not in self._waiting:
            self._waiting[tenant] = deque()
            self._time.wait(tenant)
        self._waiting[tenant].append((turn, weight))
        await turn

    def _turn_later(self) -> None:
        if not self._turning:
            self._turning = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._turning = False
        self._left = self._width
        while self._left and self._waiting:
            turn = self._take()
            if not turn.done():
                turn.set_result(None)
                self._left -= 1
        if self._left < self._width:
            self._turn_later()

    def _take(self) -> asyncio.Future[None]:
        tenant = self._time.next()
        waiting = self._waiting[tenant]
        turn, weight = waiting.popleft()
        if not turn.done():
            self._time.charge(tenant, weight, 1)
        if not waiting:
            del self._waiting[tenant]
            self._time.leave(tenant)
        return turn
