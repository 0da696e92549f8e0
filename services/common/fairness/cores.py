"""How the threads of a process share its cores and its interpreter."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

# A thread that holds the interpreter gives it up after so long if another one wants it: an event loop, or an
# engine between two tensor operations. With Python's own 5 ms, an event loop beside a busy thread waits that
# long each time it wakes up.
_SWITCH_INTERVAL_S = 0.0005

_PIECE_S = 0.001
_HELD_UP = 0.25
_REST = 4.0
_MOST_REST_S = 0.1


def switch_quickly() -> None:
    """Limits how long a thread of this process waits for the interpreter."""
    sys.setswitchinterval(_SWITCH_INTERVAL_S)


class Rests:
    """The rests of a thread whose work can wait. If it was held up, because others wanted the core or the
    interpreter, it rests four times as long as it has worked. Used on that thread only.

    A lower priority would not do: a thread of low priority that holds the interpreter when it loses its core
    keeps the threads of high priority waiting.
    """

    def __init__(
        self,
        wanted: Callable[[], bool],
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        worked: Callable[[], float] = time.thread_time,
    ) -> None:
        """`wanted`: whether there is anybody to make room for. `worked`: core seconds of the thread."""
        self._wanted = wanted
        self._sleep = sleep
        self._clock = clock
        self._worked = worked
        self._begin()

    def take(self) -> None:
        """Rests if it is time to: call it often, between pieces of the work."""
        worked = self._worked() - self._had_worked
        if worked < _PIECE_S:
            return
        held_up = self._clock() - self._began - worked
        if held_up > _HELD_UP * worked and self._wanted():
            self._sleep(min(_MOST_REST_S, _REST * worked))
        self._begin()

    def _begin(self) -> None:
        self._had_worked, self._began = self._worked(), self._clock()
