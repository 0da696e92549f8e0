"""A queue by priority: higher priority first, first come, first served among equals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class Ranked(Protocol):
    """Has a priority, larger first, that does not change."""

    @property
    def priority(self) -> int: ...


R = TypeVar("R", bound=Ranked)


class PriorityLine(Generic[R]):
    """Iterates from the next item to the last. Its users bound its length, so that a linear insert
    is cheap.
    """

    def __init__(self) -> None:
        self._items: list[R] = []

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[R]:
        return iter(self._items)

    def append(self, item: R) -> None:
        """Inserts an item after all of its priority."""
        place = len(self._items)
        while place and self._items[place - 1].priority < item.priority:
            place -= 1
        self._items.insert(place, item)

    def append_front(self, item: R) -> None:
        """Inserts an item before all of its priority, after those of a higher one."""
        place = 0
        while place < len(self._items) and self._items[place].priority > item.priority:
            place += 1
        self._items.insert(place, item)

    def first(self) -> R:
        """The next item. Raises IndexError if there is none."""
        return self._items[0]

    def remove(self, item: R) -> None:
        """Removes an item. Raises ValueError if it is not in the queue."""
        self._items.remove(item)
