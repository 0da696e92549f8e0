"""Shows the progress of loading: a bar on a terminal, else a log line per shard and from time to time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TextIO

import structlog

from services.common.logs import standard_error

log = structlog.get_logger()

_BAR_WIDTH = 30
_BAR_SECONDS = 0.1
_LOG_SECONDS = 10.0


class LoadProgress:
    """Counts the bytes to load of each shard, `by_shard`; for one thread."""

    def __init__(
        self,
        by_shard: Mapping[str, int],
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`stream`: stderr by default."""
        self._left = {shard: nbytes for shard, nbytes in by_shard.items() if nbytes}
        self._shards = len(self._left)
        self._total = sum(by_shard.values())
        self._stream = stream if stream is not None else standard_error()
        self._clock = clock
        self._terminal = self._stream.isatty()
        self._done = 0
        self._shown_at = clock()
        self._drawn = False

    def advance(self, shard: str, nbytes: int) -> None:
        """Counts bytes, and shows the progress if a shard is complete or it was last shown long ago."""
        self._done += nbytes
        complete = False
        if shard in self._left:
            self._left[shard] -= nbytes
            if complete := self._left[shard] <= 0:
                del self._left[shard]
        now = self._clock()
        if self._terminal:
            due = now - self._shown_at >= _BAR_SECONDS
        else:
            due = complete or now - self._shown_at >= _LOG_SECONDS
        if not due:
            return
        self._shown_at = now
        if self._terminal:
            self._draw()
        else:
            log.info(
                "loading weights",
                shards=self._shards - len(self._left),
                of_shards=self._shards,
                done_bytes=self._done,
                total_bytes=self._total,
            )

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
        shards = f"{self._shards - len(self._left)} of {self._shards} shards"
        self._stream.write(f"\rloading weights [{bar}] {share:4.0%}  {amount}, {shards}")
        self._stream.flush()
        self._drawn = True
