"""Reads a peer's probe, to check the path and to measure its speed."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from services.engine.kv_transfer.agents.offer import Offer
from services.engine.kv_transfer.agents.region import RegionKind
from services.engine.kv_transfer.reads.active_read import ActiveRead
from services.engine.kv_transfer.reads.read_request import ReadOutcome, ReadRequest, ReadStatus

logger = logging.getLogger(__name__)

CONNECT_ROUNDS = 4
"""Reads per connect. The first one makes the connection and is verified; the fastest of the others, which are
not verified, is the measurement.
"""


class PairProbe:
    """`rounds` reads of an offer's PROBE region, one after another; only the first one is verified."""

    def __init__(
        self,
        offer: Offer,
        deadline: float,
        rounds: int,
        post: Callable[[ActiveRead], None],
        on_end: Callable[[float, str], None],
        clock: Callable[[], float],
    ) -> None:
        """`on_end(gigabytes_per_second, reason)` is called at the first failure or after the last round;
        `reason` is empty on success. If `on_end` raises then, it is called once more, with the error as the
        reason.
        """
        self._offer = offer
        self._deadline = deadline
        self._rounds = rounds
        self._post = post
        self._on_end = on_end
        self._clock = clock
        self._best = 0.0
        self._verified = False

    def start(self) -> None:
        """Posts the next round."""
        outcomes: list[ReadOutcome] = []

        def settled() -> None:
            if outcomes[0].status is not ReadStatus.DONE:
                return
            try:
                self._next(outcomes[0])
            except Exception as error:  # barrier: callers that wait for this pair must see it fail
                logger.exception("the probe of %s failed", self._offer.agent_name)
                self._on_end(0.0, f"reading the probe: {type(error).__name__}: {error}")

        def completed(outcome: ReadOutcome) -> None:
            outcomes.append(outcome)
            if outcome.status is not ReadStatus.DONE:
                self._on_end(0.0, f"reading the probe: {outcome.status.value}: {outcome.message}")

        crc32 = None if self._verified else self._offer.probe_crc32
        self._post(probe_read(self._offer, self._deadline, completed, settled, self._clock, crc32))

    def _next(self, outcome: ReadOutcome) -> None:
        self._best = max(self._best, outcome.gigabytes_per_second)
        self._verified = True
        self._rounds -= 1
        if self._rounds:
            self.start()
        else:
            self._on_end(self._best, "")


def probe_read(
    offer: Offer,
    deadline: float,
    on_complete: Callable[[ReadOutcome], None],
    on_settled: Callable[[], None],
    clock: Callable[[], float],
    crc32: int | None = None,
) -> ActiveRead:
    """Creates a read of an offer's whole PROBE region; its time starts now. With `crc32` its bytes are
    verified, and read again once if they differ.
    """
    region = offer.region(RegionKind.PROBE)
    count = region.entry_count if region is not None else 0
    entries = np.arange(count, dtype=np.int32)
    request = ReadRequest(
        peer=offer.agent_name,
        kind=RegionKind.PROBE,
        local_entries=entries,
        remote_entries=entries,
        deadline=deadline,
        on_complete=on_complete,
        on_settled=on_settled,
        crc32=None if crc32 is None else (crc32,),
        crc_entries=count,
    )
    return ActiveRead(request, clock=clock)
