"""Times at which the engine sent tokens: CLOCK_MONOTONIC, which processes of one machine share."""

from __future__ import annotations

import mmap
from pathlib import Path

MAX_STREAMS = 1024
MAX_TOKENS = 256


class Stamps:
    """A table in a file that engine and client map: one row per stream, one column per token."""

    def __init__(self, path: Path) -> None:
        size = 8 * MAX_STREAMS * MAX_TOKENS
        with path.open("a+b") as file:
            file.truncate(size)
            self._memory = mmap.mmap(file.fileno(), size)
        self._times = memoryview(self._memory).cast("d")

    def set(self, stream: int, token: int, time: float) -> None:
        """Stores the time; call it before the token is sent."""
        self._times[stream * MAX_TOKENS + token] = time

    def get(self, stream: int, token: int) -> float:
        """The time stamp of a token that has arrived."""
        return self._times[stream * MAX_TOKENS + token]
