"""How many tokens of prompts a pass computes, as tenants come and go."""

from __future__ import annotations

from collections.abc import Callable

from services.engine.batch import PAGE_TOKENS

_RECENT_S = 10.0
_PARTS = 4
_LEAST = 2 * PAGE_TOKENS
"""Shorter passes would take as long: most of their time does not depend on their tokens."""


class PassBudget:
    """A request that comes during a pass waits for its end. So passes are a quarter as long, though not below
    128 tokens, while tenants compete: while requests of more than one have come in the last 10 seconds.
    """

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        """`most`: tokens of a pass while nobody competes, a multiple of 64. `clock`: seconds."""
        self._most = most
        self._clock = clock
        self._came_at: dict[int, float] = {}

    def note(self, tenant: int) -> None:
        """A request of a tenant has come; tenant 0 stands for all who have none."""
        self._came_at.pop(tenant, None)
        self._came_at[tenant] = self._clock()

    def tokens(self) -> int:
        """The most tokens of the next pass: whole pages."""
        oldest = self._clock() - _RECENT_S
        while self._came_at:
            tenant = next(iter(self._came_at))
            if self._came_at[tenant] > oldest:
                break
            del self._came_at[tenant]
        if len(self._came_at) < 2:
            return self._most
        return min(self._most, max(_LEAST, self._most // _PARTS // PAGE_TOKENS * PAGE_TOKENS))
