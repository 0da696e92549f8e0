"""An index of the cache entries that workers hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class CacheIndex:
    """For each cache entry's short name, one bit for every worker of a role that holds it.

    A prompt's pages are looked up once for all workers, not once for each of them.
    """

    def __init__(self) -> None:
        self._holders: dict[int, int] = {}
        self._free: list[int] = []
        self._num_slots = 0

    def member(self) -> CachedNames:
        """Adds a worker, which holds nothing yet."""
        if self._free:
            return CachedNames(self, self._free.pop())
        self._num_slots += 1
        return CachedNames(self, self._num_slots - 1)

    def prefixes(self, names: Sequence[int]) -> dict[int, int]:
        """By slot, how many leading entries of `names` its worker holds; only where it has the first."""
        found: dict[int, int] = {}
        holding = -1
        for place, name in enumerate(names):
            still = holding & self._holders.get(name, 0)
            if place:
                self._note(holding & ~still, place, found)
            holding = still
            if not holding:
                return found
        if names:
            self._note(holding, len(names), found)
        return found

    def set(self, name: int, slot: int) -> None:
        """The worker of this slot holds the entry."""
        self._holders[name] = self._holders.get(name, 0) | 1 << slot

    def unset(self, name: int, slot: int) -> None:
        """The worker of this slot, which must hold the entry, drops it."""
        left = self._holders[name] & ~(1 << slot)
        if left:
            self._holders[name] = left
        else:
            del self._holders[name]

    def give_back(self, slot: int) -> None:
        """Frees the slot of a worker; it must hold nothing any more."""
        self._free.append(slot)

    @staticmethod
    def _note(slots: int, count: int, found: dict[int, int]) -> None:
        while slots:
            lowest = slots & -slots
            found[lowest.bit_length() - 1] = count
            slots ^= lowest


class CachedNames:
    """The entries one worker holds. `slot`: its bit in the index."""

    def __init__(self, index: CacheIndex, slot: int) -> None:
        self.slot = slot
        self._index = index
        self._names: set[int] = set()
        self._closed = False

    def __contains__(self, name: int) -> bool:
        return name in self._names

    def prefix(self, names: Sequence[int]) -> int:
        """Returns how many leading entries of `names` the worker holds."""
        for place, name in enumerate(names):
            if name not in self._names:
                return place
        return len(names)

    def change(self, added: Iterable[int], removed: Iterable[int]) -> None:
        """Holds `added` now, and not `removed`, whichever it held before. Nothing once closed."""
        if self._closed:
            return
        for name in added:
            if name not in self._names:
                self._names.add(name)
                self._index.set(name, self.slot)
        for name in removed:
            if name in self._names:
                self._names.remove(name)
                self._index.unset(name, self.slot)

    def clear(self) -> None:
        """Drops all entries."""
        for name in self._names:
            self._index.unset(name, self.slot)
        self._names.clear()

    def close(self) -> None:
        """The worker has left; its slot may be another's now."""
        self.clear()
        self._closed = True
        self._index.give_back(self.slot)
