"""What a cache holds and how that changed, for those who route by it."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from itertools import islice

from services.common.page_hash import short_name


@dataclass(frozen=True)
class Changes:
    """Entries by short name. `reset`: `added` is all there is, whatever was known before."""

    reset: bool
    added: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return self.reset or bool(self.added or self.removed)


class CacheJournal:
    """The names in a cache, and its last `memory` changes. One thread writes, any thread reads.

    A reader keeps a cursor; one that falls behind the memory gets everything anew.
    """

    def __init__(self, memory: int = 16_384) -> None:
        self._lock = threading.Lock()
        self._present: set[int] = set()
        self._recent: deque[int] = deque(maxlen=memory)
        self._count = 0

    def added(self, full_hash: bytes) -> None:
        """An entry can be found from now on."""
        name = short_name(full_hash)
        with self._lock:
            self._present.add(name)
            self._note(name)

    def removed(self, full_hash: bytes) -> None:
        """It cannot any more."""
        name = short_name(full_hash)
        with self._lock:
            self._present.discard(name)
            self._note(name)

    def since(self, cursor: int | None) -> tuple[Changes, int]:
        """What changed since a cursor (None: the beginning), net, and the cursor to ask with next."""
        with self._lock:
            missed = self._count - cursor if cursor is not None else None
            if missed == 0:
                return Changes(reset=False), self._count
            if missed is None or missed > len(self._recent):
                return Changes(reset=True, added=tuple(self._present)), self._count
            touched = dict.fromkeys(islice(reversed(self._recent), missed))
            added = tuple(name for name in touched if name in self._present)
            removed = tuple(name for name in touched if name not in self._present)
            return Changes(reset=False, added=added, removed=removed), self._count

    def _note(self, name: int) -> None:
        self._recent.append(name)
        self._count += 1
