"""Places in a queue that tenants share."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from threading import Lock

from services.common.errors import Overloaded
from services.common.fairness.share import within_share


class Places:
    """At most `most` places, of which a tenant may have its share. Any thread."""

    def __init__(self, most: int, what: str) -> None:
        """`what`: what takes the places and waits for what: "schemas are waiting to be read"."""
        self._most = most
        self._what = what
        self._lock = Lock()
        self._held: Counter[int] = Counter()

    @contextlib.contextmanager
    def taken(self, whose: tuple[int, int] = (0, 1)) -> Iterator[None]:
        """Holds a place for the length of the block. Arguments and errors as of `take`."""
        self.take(whose)
        try:
            yield
        finally:
            self.leave(whose)

    def take(self, whose: tuple[int, int] = (0, 1)) -> None:
        """Takes a place until `leave`. `whose`: the tenant's number and weight; 0: nobody's in particular.

        Raises Overloaded if all places are taken, or the tenant has its share of them.
        """
        tenant, weight = whose
        with self._lock:
            taken = self._held.total()
            if taken >= self._most:
                raise Overloaded(f"{taken} {self._what}")
            held = self._held[tenant]
            if tenant and not within_share(held, weight, self._most - taken):
                raise Overloaded(f"{taken} {self._what}; {held}, the share of this API key, are its own")
            self._held[tenant] += 1

    def leave(self, whose: tuple[int, int] = (0, 1)) -> None:
        """Gives up a place that was taken."""
        with self._lock:
            self._held[whose[0]] -= 1
            if not self._held[whose[0]]:
                del self._held[whose[0]]
