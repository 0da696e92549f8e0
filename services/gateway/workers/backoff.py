"""How long to wait before the next attempt."""

from __future__ import annotations


class Backoff:
    """Doubling delays in seconds, from `first` to `most`; `reset` after a success."""

    def __init__(self, first: float = 0.1, most: float = 2.0) -> None:
        self._first, self._most = first, most
        self._next = first

    def reset(self) -> None:
        self._next = self._first

    def delay(self) -> float:
        """The delay to wait now, in seconds; the next one is twice as long."""
        delay = self._next
        self._next = min(self._most, delay * 2)
        return delay
