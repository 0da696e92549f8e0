"""A queue that tenants share by weight; within a tenant by priority."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from services.common.fairness.virtual_time import VirtualTime
from services.engine.scheduler.priority_line import PriorityLine, Ranked


class Owned(Ranked, Protocol):
    """Has a tenant, 0 for all who have none, and that tenant's weight; neither changes."""

    @property
    def tenant(self) -> int: ...

    @property
    def weight(self) -> int: ...


R = TypeVar("R", bound=Owned)


class FairLine(Generic[R]):
    """The next item is the first of the tenant that has had the least service for its weight.

    A tenant's own items are in the order of a PriorityLine: with one tenant, so are all. Priorities do not
    compare between tenants. Users report service by `charge`, and bound the length.
    """

    def __init__(self) -> None:
        self._lines: dict[int, PriorityLine[R]] = {}
        self._time = VirtualTime()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[R]:
        """From the next tenant's items to the last one's."""
        for tenant in self._time.in_order():
            yield from self._lines[tenant]

    def append(self, item: R) -> None:
        """Inserts an item after all of its tenant and priority."""
        self._line(item).append(item)

    def append_front(self, item: R) -> None:
        """Inserts an item before all of its tenant and priority, after those of a higher one."""
        self._line(item).append_front(item)

    def first(self) -> R:
        """The next item. Raises ValueError if there is none."""
        return self._lines[self._time.next()].first()

    def firsts(self) -> Iterator[R]:
        """Yields the first item of each tenant, in the order of their turns."""
        for tenant in self._time.in_order():
            yield self._lines[tenant].first()

    def remove(self, item: R) -> None:
        """Removes an item. Raises ValueError if it is not in the queue."""
        line = self._lines.get(item.tenant)
        if line is None:
            raise ValueError("the item is not in the queue")
        line.remove(item)
        self._length -= 1
        if not line:
            del self._lines[item.tenant]
            self._time.leave(item.tenant)

    def charge(self, item: R, cost: float) -> None:
        """The item has got service, in the queue or as it leaves it."""
        self._time.charge(item.tenant, item.weight, cost)

    def precedes(self, tenant: int, other: int) -> bool:
        """Whether a tenant has had less service for its weight than another one."""
        return self._time.precedes(tenant, other)

    def count(self, tenant: int) -> int:
        """Number of a tenant's items."""
        line = self._lines.get(tenant)
        return 0 if line is None else len(line)

    def _line(self, item: R) -> PriorityLine[R]:
        line = self._lines.get(item.tenant)
        if line is None:
            line = self._lines[item.tenant] = PriorityLine()
            self._time.wait(item.tenant)
        self._length += 1
        return line


def one_tenant(items: Iterable[R]) -> Iterator[R]:
    """Yields the items of the first one's tenant: those of others do not make its pass longer."""
    tenant: int | None = None
    for item in items:
        if tenant is None:
            tenant = item.tenant
        if item.tenant == tenant:
            yield item
