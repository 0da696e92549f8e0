"""Whether tenants compete."""

from __future__ import annotations

from collections.abc import Callable

_RECENT_S = 10.0


class Competition:
    """Tenants compete while requests of more than one have come in the last 10 seconds. One thread notes what
    comes; any thread may ask.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: seconds."""
        self._clock = clock
        # Who came last and when, and when another one came last.
        self._last, self._last_at = 0, float("-inf")
        self._other_at = float("-inf")

    def note(self, tenant: int) -> None:
        """A request of a tenant has come; tenant 0 stands for all who have none."""
        if tenant != self._last:
            self._other_at = self._last_at
        self._last, self._last_at = tenant, self._clock()

    @property
    def goes_on(self) -> bool:
        """Whether tenants compete now."""
        return self._clock() - self._other_at < _RECENT_S
