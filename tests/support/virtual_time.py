"""An event loop whose clock jumps: tests of waits and timeouts take no time and give the same on
any machine.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any

# Real seconds without anything to do and without a timer after which a test counts as hung.
_HANGS_S = 10.0


class _JumpingSelector(selectors.DefaultSelector):
    """Polls; adds the seconds that the loop would have slept to `now`."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None:
            events = super().select(0)
            if not events:
                self.now += max(0.0, timeout)
            return events
        events = super().select(_HANGS_S)
        assert events, "every task waits, and nothing can wake one"
        return events


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Advances `time()` to the next timer as soon as no callback is ready.

    For tests without sockets; mark them `virtual_time`.
    """

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def stand_still(self, seconds: float) -> None:
        """Lets so many seconds pass in which nothing runs, as if the process was stopped."""
        self._jumping.now += seconds


def advance(seconds: float) -> Coroutine[Any, Any, None]:
    """Lets so many seconds of the loop's time pass, and runs everything that happens in them."""
    return asyncio.sleep(seconds)  # virtual time, which takes no real time


def idle() -> Coroutine[Any, Any, None]:
    """Lets tasks run until every one of them waits for a timer or for the test."""
    return advance(1e-6)
