"""How much memory requests may take before anything is made of them."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from services.common.errors import Overloaded


class ByteBudget:
    """Bytes of requests held at once, over all doors. Used on the event loop only.

    Where there is no room for more, the longest of those that are still being read is refused: many long
    bodies that never end keep no short one out.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._growing: set[Hold] = set()

    def hold(self, refuse: Callable[[], None]) -> Hold:
        """For one request. `refuse` is called where its place is needed while it is being read."""
        return Hold(self, refuse)

    def _grow(self, hold: Hold, count: int) -> None:
        while self._held + count > self._limit:
            longest = max(self._growing - {hold}, key=lambda each: each.size, default=hold)
            if longest.size <= hold.size + count:
                raise Overloaded(
                    f"requests of {self._held} bytes are held, the limit is {self._limit}; retry later",
                    retry_after_s=1.0,
                )
            self._drop(longest)
            longest.refuse()
        hold.size += count
        self._held += count
        self._growing.add(hold)

    def _drop(self, hold: Hold) -> None:
        self._growing.discard(hold)
        self._held -= hold.size
        hold.size = 0

    def _keep(self, hold: Hold) -> None:
        self._growing.discard(hold)


class Hold:
    """The bytes of one request, until the end of the block."""

    def __init__(self, budget: ByteBudget, refuse: Callable[[], None]) -> None:
        self._budget = budget
        self.refuse = refuse
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._budget._drop(self)

    def grow(self, count: int) -> None:
        """Raises Overloaded where there is no room."""
        self._budget._grow(self, count)

    def keep(self) -> None:
        """It is read, and not refused any more."""
        self._budget._keep(self)
