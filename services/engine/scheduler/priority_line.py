"""Who comes next: higher priority first, among equals first come, first served."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class Ranked(Protocol):
    """Has a priority, larger first, which does not change."""

    @property
    def priority(self) -> int: ...


R = TypeVar("R", bound=Ranked)


class PriorityLine(Generic[R]):
    """Iterates from the next to the last. Its length is bounded by who fills it, so that moving along it
    costs nothing that counts.
    """

    def __init__(self) -> None:
        self._items: list[R] = []

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[R]:
        return iter(self._items)

    def append(self, item: R) -> None:
        """Behind all of its priority."""
        place = len(self._items)
        while place and self._items[place - 1].priority < item.priority:
            place -= 1
        self._items.insert(place, item)

    def append_front(self, item: R) -> None:
        """In front of all of its priority, behind those of a higher one."""
        place = 0
        while place < len(self._items) and self._items[place].priority > item.priority:
            place += 1
        self._items.insert(place, item)

    def first(self) -> R:
        """Who is next. IndexError where nobody is."""
        return self._items[0]

    def remove(self, item: R) -> None:
        """ValueError where it is not in the line."""
        self._items.remove(item)
