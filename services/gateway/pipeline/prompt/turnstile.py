"""Lets many requests that arrive together begin a few at a time."""

from __future__ import annotations

import asyncio

from services.common.fairness.turns import TurnLine

WIDTH = 4
"""Requests per turn of the event loop. To begin one takes as long as to deliver about twenty tokens."""


class Turnstile:
    """Lets `width` requests begin per turn, so that running ones get their tokens. Event loop only."""

    def __init__(self, width: int = WIDTH) -> None:
        self._width = width
        self._left = width
        self._line = TurnLine()
        self._turning = False

    async def enter(self, tenant: int = 0, weight: int = 1) -> None:
        """Returns when it is this request's turn: tenants share the turns by weight, and the requests of one
        come in the order they came.
        """
        if self._left:
            self._left -= 1
            self._turn_later()
            return
        await self._line.enter(tenant, weight, 1)

    def _turn_later(self) -> None:
        if not self._turning:
            self._turning = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._turning = False
        self._left = self._width
        while self._left and self._line.let_next():
            self._left -= 1
        if self._left < self._width:
            self._turn_later()
