"""A lease on the reader's side."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from perigee.v1 import vision_pb2


class LeaseClock:
    """Tracks when the reader must consider its lease over, and makes its release.

    Clocks of two machines are never compared: the deadline is the time at which the request (or the last
    acknowledged renewal) was *sent*, plus the granted duration, minus a tenth of it as margin.
    """

    _MARGIN = 0.1

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sent_at = clock()
        self._duration_s = 0.0
        self._grant = vision_pb2.LeaseGrant()
        self._renewals: deque[float] = deque()

    def granted(self, grant: vision_pb2.LeaseGrant) -> None:
        """Records the owner's grant."""
        self._grant = grant
        self._duration_s = grant.duration_ms / 1000

    @property
    def deadline(self) -> float:
        """time.monotonic() at which the lease is over; already past before the grant."""
        return self._sent_at + self._duration_s * (1 - self._MARGIN)

    @property
    def expired(self) -> bool:
        """Whether the lease is over."""
        return self._clock() >= self.deadline

    def renewal_due(self, at_most_s: float) -> bool:
        """Whether a third of the duration, or `at_most_s`, has passed since the last request.

        Also due before the grant: the answers show that the owner is alive while the request waits in its
        queue.
        """
        last = self._renewals[-1] if self._renewals else self._sent_at
        period = min(at_most_s, self._duration_s / 3) if self._duration_s else at_most_s
        return self._clock() >= last + period

    def renewal_sent(self) -> None:
        """Records a renewal; call it just before sending."""
        self._renewals.append(self._clock())

    def renewed(self) -> None:
        """Records that the oldest unanswered renewal was acknowledged."""
        if self._renewals:
            self._sent_at = self._renewals.popleft()

    def release(self) -> vision_pb2.LeaseRelease:
        """The message that releases the lease; send it when every read under it is done."""
        return vision_pb2.LeaseRelease(lease_id=self._grant.lease_id, generation=self._grant.generation)

    def is_confirmed_by(self, released: vision_pb2.LeaseReleased) -> bool:
        """Whether the owner held the lease until the release; only then are the bytes read under it valid."""
        return 0 < released.generation == self._grant.generation
