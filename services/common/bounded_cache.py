"""An LRU cache bounded by number of entries and bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class BoundedCache(Generic[Key, Value]):
    """Evicts the least recently used entries. Any thread."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._kept: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self._num_bytes = 0
        self._lock = Lock()

    def get(self, key: Key) -> Value | None:
        """Returns the value and marks it as used; None if it is not cached."""
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def keep(self, key: Key, value: Value, num_bytes: int) -> None:
        """Adds a value that counts `num_bytes`; does nothing if the key is cached already."""
        with self._lock:
            if key in self._kept:
                return
            self._kept[key] = (value, num_bytes)
            self._num_bytes += num_bytes
            while len(self._kept) > self._most or self._num_bytes > self._most_bytes:
                _, (_, freed) = self._kept.popitem(last=False)
                self._num_bytes -= freed

    def drop(self, key: Key) -> None:
        """Removes a value, if it is cached."""
        with self._lock:
            if key in self._kept:
                _, freed = self._kept.pop(key)
                self._num_bytes -= freed
