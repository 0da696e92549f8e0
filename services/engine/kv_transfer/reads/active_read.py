"""One accepted read: it reports exactly one outcome, then exactly one settlement."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from services.engine.kv_transfer.reads.read_request import ReadOutcome, ReadRequest, ReadStatus

logger = logging.getLogger(__name__)


class ActiveRead:
    """A request from `TransferThread.read` until it is settled. Used by one thread at a time."""

    def __init__(
        self,
        request: ReadRequest,
        on_end: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_end` is called once, just before `on_settled` of the request."""
        self.request = request
        self.attempts = 0
        self.reported = False
        self._clock = clock
        self._started = clock()
        self._settled = False
        self._on_end = on_end

    def is_late(self, now: float) -> bool:
        """Whether the deadline has passed at `now`."""
        return now >= self.request.deadline

    def report(self, status: ReadStatus, message: str = "", num_bytes: int = 0) -> None:
        """Reports the outcome; only the first call counts."""
        if self.reported:
            return
        self.reported = True
        outcome = ReadOutcome(status, num_bytes, self._clock() - self._started, message)
        self._callback_barrier(lambda: self.request.on_complete(outcome))

    def settle(self) -> None:
        """Reports that no byte can land any more; only the first call counts."""
        if self._settled:
            return
        self.report(ReadStatus.FAILED, "the read ended without an outcome")
        self._settled = True
        if self._on_end is not None:
            self._on_end()
        self._callback_barrier(self.request.on_settled)

    def end(self, status: ReadStatus, message: str = "") -> None:
        """Reports the outcome and the settlement of a read that was not posted."""
        self.report(status, message)
        self.settle()

    def _callback_barrier(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception:  # barrier: a caller's bug must end neither the thread nor other callers' reads
            logger.exception("a callback of a read from %s raised", self.request.peer)
