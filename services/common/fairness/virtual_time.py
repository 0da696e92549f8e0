"""Whose turn it is, among tenants that wait."""

from __future__ import annotations

_MOST_REMEMBERED = 16_384


class VirtualTime:
    """Start-time fair queueing (Goyal, Vin and Cheng 1996): next is the tenant that has had the least service
    for its weight; of equals, the one that has waited longest.

    A tenant that begins to wait does so at the time of the others: nothing is saved up while it does not
    wait, and what it has had ahead of the others still counts.
    """

    def __init__(self) -> None:
        # Service for its weight, of tenants that wait and of those that have had more than `_now`.
        self._had: dict[int, float] = {}
        self._waiting: dict[int, None] = {}
        self._now = 0.0

    def wait(self, tenant: int) -> None:
        """A tenant waits from now on; nothing if it does already."""
        if tenant in self._waiting:
            return
        if len(self._had) >= _MOST_REMEMBERED:
            self._had = {each: self._had[each] for each in self._waiting}
        self._had[tenant] = max(self._now, self._had.get(tenant, 0.0))
        self._waiting[tenant] = None

    def leave(self, tenant: int) -> None:
        """A tenant does not wait any more."""
        del self._waiting[tenant]
        if self._had[tenant] <= self._now:
            del self._had[tenant]

    def next(self) -> int:
        """The tenant whose turn it is. Raises ValueError if none waits."""
        if len(self._waiting) == 1:
            return next(iter(self._waiting))
        return min(self._waiting, key=self._had.__getitem__)

    def in_order(self) -> list[int]:
        """All tenants that wait, the next one first."""
        return sorted(self._waiting, key=self._had.__getitem__)

    def precedes(self, tenant: int, other: int) -> bool:
        """Whether a tenant has had less service for its weight than another one, whether they wait or not."""
        return self._had.get(tenant, self._now) < self._had.get(other, self._now)

    def charge(self, tenant: int, weight: int, cost: float) -> None:
        """A tenant has got service, whether it still waits or not."""
        began = self._had.get(tenant, self._now)
        self._now = max(self._now, began)
        self._had[tenant] = began + cost / weight
