"""Progress bar on a terminal; elsewhere an occasional line."""

from __future__ import annotations

import time
from typing import TextIO

WIDTH = 30
LINE_SECONDS = 10.0


class ProgressBar:
    """Counts up to `total`."""

    def __init__(self, total: int, stream: TextIO) -> None:
        self._total = total
        self._stream = stream
        self._terminal = stream.isatty()
        self._began = time.monotonic()
        self._written = self._began
        self._done = 0
        self._right = 0

    def add(self, right: bool) -> None:
        """Counts one finished item."""
        self._done += 1
        self._right += right
        now, last = time.monotonic(), self._done == self._total
        if self._terminal or last or now - self._written >= LINE_SECONDS:
            self._written = now
            self._write(now - self._began, last)

    def _write(self, seconds: float, last: bool) -> None:
        filled = WIDTH * self._done // self._total
        bar = "#" * filled + "." * (WIDTH - filled)
        text = f"[{bar}] {self._done}/{self._total}, {self._right} right, {seconds:.0f} s"
        end = "\n" if last or not self._terminal else ""
        self._stream.write(("\r" if self._terminal else "") + text + end)
        self._stream.flush()
