"""Bounds the clients whose request has not arrived yet."""

from __future__ import annotations

from collections.abc import Callable, Hashable


class Waiting:
    """Holds at most `most` clients; for one more, sends away the one that has waited longest.

    So clients that send nothing cannot keep others out. Used on the event loop only.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_age: dict[Hashable, Callable[[], None]] = {}

    def enter(self, who: Hashable, send_away: Callable[[], None]) -> None:
        """Adds `who`; `send_away` is called if the place is needed, and never after `leave`."""
        self._by_age[who] = send_away
        if len(self._by_age) > self._most:
            self._by_age.pop(next(iter(self._by_age)))()

    def leave(self, who: Hashable) -> None:
        """Removes `who`: its request has arrived, or its connection is closed. Idempotent."""
        self._by_age.pop(who, None)
