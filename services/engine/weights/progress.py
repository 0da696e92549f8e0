"""Shows the progress of loading: a bar on a terminal, else a log line from time to time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

import structlog

from services.common.logs import standard_error

log = structlog.get_logger()

_BAR_WIDTH = 30
_BAR_SECONDS = 0.1
_LOG_SECONDS = 10.0


class LoadProgress:
    """Counts bytes out of `total`; for one thread."""

    def __init__(
        self,
        total: int,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`stream`: stderr by default."""
        self._total = total
        self._stream = stream if stream is not None else standard_error()
        self._clock = clock
        self._terminal = self._stream.isatty()
        self._done = 0
        self._shown_at = clock()
        self._drawn = False

    def advance(self, nbytes: int) -> None:
        """Counts bytes, and shows the progress if it was last shown long ago."""
        self._done += nbytes
        now = self._clock()
        if now - self._shown_at < (_BAR_SECONDS if self._terminal else _LOG_SECONDS):
            return
        self._shown_at = now
        if self._terminal:
            self._draw()
        else:
            log.info("loading weights", done_bytes=self._done, total_bytes=self._total)

    def close(self) -> None:
        """Draws a terminal's bar for the last time and ends its line."""
        if self._drawn:
            self._draw()
            self._stream.write("\n")
            self._stream.flush()
            self._drawn = False

    def _draw(self) -> None:
        share = min(1.0, self._done / max(1, self._total))
        bar = ("#" * int(share * _BAR_WIDTH)).ljust(_BAR_WIDTH, "-")
        amount = f"{self._done / 1e9:.1f} of {self._total / 1e9:.1f} GB"
        self._stream.write(f"\rloading weights [{bar}] {share:4.0%}  {amount}")
        self._stream.flush()
        self._drawn = True
