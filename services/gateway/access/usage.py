"""What one API key uses: requests in flight, and requests and tokens per minute, over all processes."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable

WINDOW_S = 60.0
ROW_BYTES = 64
"""What one process counts in: a cache line."""

_NUMBERS = ROW_BYTES // 8
_IN_FLIGHT, _WINDOW = 0, 1


class Kind(enum.IntEnum):
    """What is counted by the minute. The value is the place of this minute's count in a row; the last
    minute's is next to it.
    """

    REQUESTS = 2
    TOKENS = 4


class Usage:
    """Counts in memory that the processes of a gateway share. Each process writes its own row and reads all:
    so none waits for another, and one that dies leaves nothing half-written that others would wait for.

    The count of the last 60 s is estimated from two fixed minutes: all of this one, and the part of the one
    before that is still within 60 s, as if it had been spread evenly. Two processes that admit at the same
    moment may each take the last place: with N processes a limit can be passed by N - 1. Event loop only.
    """

    def __init__(
        self, memory: memoryview | None = None, own: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`memory`: `ROW_BYTES` for each process, zeros at first; None: of this process alone. `own`: this
        process's number. `clock`: seconds; the same in all processes.
        """
        self._numbers = (memory or memoryview(bytearray(ROW_BYTES))).cast("q")
        self._row = own * _NUMBERS
        self._clock = clock
        # What a process of this number had in flight when it died.
        self._numbers[self._row + _IN_FLIGHT] = 0

    @property
    def in_flight(self) -> int:
        """Requests in flight, of all processes."""
        return sum(self._numbers[_IN_FLIGHT::_NUMBERS])

    @property
    def own_in_flight(self) -> int:
        """Requests in flight, of this process."""
        return self._numbers[self._row + _IN_FLIGHT]

    def enter(self) -> None:
        """A request is in flight."""
        self._numbers[self._row + _IN_FLIGHT] += 1

    def leave(self) -> None:
        """It no longer is."""
        self._numbers[self._row + _IN_FLIGHT] -= 1

    def add(self, kind: Kind, count: int) -> None:
        """Counts requests or tokens, now."""
        numbers, row = self._numbers, self._row
        window = int(self._clock() // WINDOW_S)
        past = window - numbers[row + _WINDOW]
        if past:
            for each in Kind:
                numbers[row + each + 1] = numbers[row + each] if past == 1 else 0
                numbers[row + each] = 0
            numbers[row + _WINDOW] = window
        numbers[row + kind] += count

    def wait_s(self, kind: Kind, count: int, limit: int) -> float:
        """Returns in how many seconds `count` more fit within `limit` per minute; 0: now.

        More than the whole limit fits once nothing is left of the minutes before.
        """
        now = self._clock()
        window, passed = divmod(now, WINDOW_S)
        this, before = self._counted(kind, int(window))
        if this + before + count <= limit:
            return 0.0
        room = max(0, limit - count)
        if this > room:
            # The end of this minute, and then until enough of it is more than a minute ago.
            return WINDOW_S - passed + WINDOW_S * (1 - room / this)
        if not before:
            return 0.0
        return max(0.0, WINDOW_S * (1 - (room - this) / before) - passed)

    def _counted(self, kind: Kind, window: int) -> tuple[int, int]:
        """Counts of this fixed minute and of the one before, of all processes."""
        numbers = self._numbers
        this = before = 0
        for row in range(0, len(numbers), _NUMBERS):
            counted = numbers[row + _WINDOW]
            if counted == window:
                this += numbers[row + kind]
                before += numbers[row + kind + 1]
            elif counted == window - 1:
                before += numbers[row + kind]
        return this, before
