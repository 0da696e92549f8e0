"""A clock that the test moves."""

from __future__ import annotations


class ManualClock:
    """Seconds in `now`; advance it by assignment."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
