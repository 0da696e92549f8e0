"""The names in a prefix cache and their changes, for routing."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from itertools import islice

from services.common.page_hash import short_name


@dataclass(frozen=True)
class Changes:
    """Cache entries by short name. `reset`: `added` is the whole cache and replaces what was known before."""

    reset: bool
    added: tuple[int, ...] = ()
    removed: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return self.reset or bool(self.added or self.removed)


class CacheJournal:
    """The names in a cache, and its last `memory` changes. One thread writes, any thread reads.

    A reader keeps a cursor; a reader more than `memory` changes behind gets the whole cache again.
    """

    def __init__(self, memory: int = 16_384) -> None:
        self._lock = threading.Lock()
        self._present: set[int] = set()
        self._recent: deque[int] = deque(maxlen=memory)
        self._count = 0

    def added(self, full_hash: bytes) -> None:
        """Records that an entry can be found from now on."""
        name = short_name(full_hash)
        with self._lock:
            self._present.add(name)
            self._note(name)

    def removed(self, full_hash: bytes) -> None:
        """Records that an entry can no longer be found."""
        name = short_name(full_hash)
        with self._lock:
            self._present.discard(name)
            self._note(name)

    def since(self, cursor: int | None) -> tuple[Changes, int]:
        """Net changes since a cursor (None: the whole cache), and the cursor for the next call."""
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
