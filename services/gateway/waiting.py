"""Who keeps the gateway waiting for their request."""

from __future__ import annotations

from collections.abc import Callable, Hashable


class Waiting:
    """At most so many; for one more, the one who has waited longest is sent away.

    So whoever sends nothing, however many they are, keeps nobody out. Used on the event loop only.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_age: dict[Hashable, Callable[[], None]] = {}

    def enter(self, who: Hashable, send_away: Callable[[], None]) -> None:
        """From now on `who` waits; `send_away` is called where the place is needed, and not after `leave`."""
        self._by_age[who] = send_away
        if len(self._by_age) > self._most:
            self._by_age.pop(next(iter(self._by_age)))()

    def leave(self, who: Hashable) -> None:
        """The request is there, or nobody who would send it. Idempotent."""
        self._by_age.pop(who, None)
