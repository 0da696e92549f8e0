"""How many tokens of prompts a pass computes, as tenants come and go."""

from __future__ import annotations

from services.common.fairness.competition import Competition
from services.engine.batch import PAGE_TOKENS

_PARTS = 4
_LEAST = 2 * PAGE_TOKENS
"""Shorter passes would take as long: most of their time does not depend on their tokens."""


class PassBudget:
    """A request that comes during a pass waits for its end. So passes are a quarter as long, though not below
    128 tokens, while tenants compete.
    """

    def __init__(self, most: int, competition: Competition) -> None:
        """`most`: tokens of a pass while nobody competes, a multiple of 64."""
        self._most = most
        self._competition = competition

    def tokens(self) -> int:
        """The most tokens of the next pass: whole pages."""
        if not self._competition.goes_on:
            return self._most
        return min(self._most, max(_LEAST, self._most // _PARTS // PAGE_TOKENS * PAGE_TOKENS))
