"""Waiting for a condition, on the event loop and in a thread."""

from __future__ import annotations

import asyncio
import inspect
import os
import time
from collections.abc import Callable
from pathlib import Path


async def let_tasks_run(turns: int = 20) -> None:
    """Turns the event loop, so that every task runs up to where it waits for a timer or for the test."""
    for _ in range(turns):
        await asyncio.sleep(0)  # one turn; takes no time


async def until(condition: Callable[[], object], timeout_s: float = 5.0) -> None:
    """Returns when `condition`, a function or coroutine function, is true; fails if it is not in time."""
    end = time.monotonic() + timeout_s
    while True:
        held = condition()
        if await held if inspect.isawaitable(held) else held:
            return
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(0.005)  # what is waited for happens in another thread or process


def wait_until(
    condition: Callable[[], object],
    timeout_s: float = 5.0,
    *,
    every_s: float = 0.001,
    detail: Callable[[], object] = lambda: "it did not happen",
) -> None:
    """Like `until`, for tests without an event loop. `detail` returns the state for the failure message."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, detail()
        time.sleep(every_s)  # what is waited for happens in another thread or process


def scaled(seconds: float) -> float:
    """The time that something may take now if it takes `seconds` on an idle machine: more if other programs
    use the cores too.
    """
    load, _, _, tasks, _ = Path("/proc/loadavg").read_text().split()
    wanted = max(float(load), int(tasks.partition("/")[0]))
    return seconds * max(1.0, wanted / (os.cpu_count() or 1))
