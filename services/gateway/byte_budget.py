"""Bounds the memory of request bodies before they are parsed."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from services.common.errors import Overloaded, RateLimited
from services.common.fairness.share import within_share
from services.gateway.access.tenant import Tenant


class ByteBudget:
    """Bytes of requests held at once, over all doors. Used on the event loop only.

    When full, refuses the longest body that is still being read, or one at least half as long, so that many
    endless long bodies cannot keep a short one out. A tenant holds no more than its share (`within_share`).
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._by_tenant: dict[str, int] = {}
        # Buckets by bit length of the size, oldest first: finds a long one without scanning all.
        self._growing: list[dict[Hold, None]] = [{} for _ in range(limit.bit_length() + 1)]

    def hold(self, tenant: Tenant | None = None) -> Hold:
        """A hold for one request; `tenant`: whose it is, if that is known."""
        return Hold(self, tenant)

    def grow(self, hold: Hold, count: int) -> None:
        """Called by a Hold."""
        if hold.tenant is not None:
            self._require_share(hold.tenant, count)
        while self._held + count > self._limit:
            longest = self._longest_beside(hold)
            if longest.size <= hold.size + count:
                raise self.full()
            self.drop(longest)
            longest.refuse()
        self.keep(hold)
        hold.size += count
        self._held += count
        self._count(hold.tenant, count)
        self._growing[hold.size.bit_length()][hold] = None

    def keep(self, hold: Hold) -> None:
        """Called by a Hold."""
        self._growing[hold.size.bit_length()].pop(hold, None)

    def drop(self, hold: Hold) -> None:
        """Called by a Hold."""
        self.keep(hold)
        self._held -= hold.size
        self._count(hold.tenant, -hold.size)
        hold.size = 0

    def _require_share(self, tenant: Tenant, count: int) -> None:
        held = self._by_tenant.get(tenant.label, 0)
        if held and not within_share(held + count, tenant.weight, self._limit - self._held - count):
            raise RateLimited(
                f"the requests of this API key have {held} bytes, its share of the gateway's; retry later",
                1.0,
            )

    def _count(self, tenant: Tenant | None, count: int) -> None:
        if tenant is not None:
            held = self._by_tenant.get(tenant.label, 0) + count
            if held:
                self._by_tenant[tenant.label] = held
            else:
                self._by_tenant.pop(tenant.label, None)

    def _longest_beside(self, hold: Hold) -> Hold:
        """The longest other hold, within a factor of two; `hold` itself if there is no other."""
        for alike in reversed(self._growing):
            for each in alike:
                if each is not hold:
                    return each
        return hold

    def full(self) -> Overloaded:
        """The error for a request that finds no room."""
        return Overloaded(f"the requests held have {self._limit} bytes, the limit; retry later", 1.0)


class Hold:
    """The bytes of one request until the end of the `with` block. `refused`: others needed the room."""

    def __init__(self, budget: ByteBudget, tenant: Tenant | None) -> None:
        self._budget = budget
        self.tenant = tenant
        self._when_refused: Callable[[], None] = lambda: None
        self.size = 0
        self.refused = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._budget.drop(self)

    def read(self, when_refused: Callable[[], None]) -> None:
        """Marks the start of reading; `when_refused` is called at most once, and never after `keep`."""
        self._when_refused = when_refused

    def grow(self, count: int) -> None:
        """Raises Overloaded where there is no room, RateLimited where the tenant has its share."""
        if self.refused:
            raise self._budget.full()
        self._budget.grow(self, count)

    def keep(self) -> None:
        """Marks the body as complete; it can no longer be refused."""
        self._budget.keep(self)

    def refuse(self) -> None:
        """Called by the budget."""
        self.refused = True
        self._when_refused()
