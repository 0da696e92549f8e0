"""Keeps requests from a worker that fails them although it reports that it serves."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

_FAILURES, _WINDOW_S = 3, 30.0
_FIRST_PAUSE_S, _MOST_PAUSE_S = 1.0, 60.0


class Circuit:
    """Opens when a worker has failed three times within 30 s, for a pause of 1 s.

    After the pause one request is let through as a trial. An answer closes the circuit; another failure, or
    no answer for as long as the pause was, means a pause twice as long, 60 s at most. Event loop only.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: deque[float] = deque(maxlen=_FAILURES)
        self._pause_s = 0.0
        self._until = 0.0
        self._on_trial = False

    @property
    def open(self) -> bool:
        """Whether the worker gets no request now."""
        return self._pause_s > 0 and self._clock() < self._until

    def chosen(self) -> None:
        """A request is sent to the worker. If that is the trial, others have to wait for its end."""
        if self._pause_s and not self.open:
            if self._on_trial:
                self._pause_s = min(_MOST_PAUSE_S, 2 * self._pause_s)
            self._on_trial = True
            self._until = self._clock() + self._pause_s

    def failed(self) -> None:
        """The worker broke off what it had, or was silent for too long."""
        now = self._clock()
        if self._on_trial:
            self._on_trial = False
            self._pause_s = min(_MOST_PAUSE_S, 2 * self._pause_s)
            self._until = now + self._pause_s
        elif not self._pause_s:
            self._failures.append(now)
            if len(self._failures) == _FAILURES and now - self._failures[0] <= _WINDOW_S:
                self._pause_s = _FIRST_PAUSE_S
                self._until = now + self._pause_s

    def succeeded(self) -> None:
        """The worker has begun to answer a request."""
        if self._pause_s:
            self.close()

    def close(self) -> None:
        """Forgets all failures: the worker is another one, or works again."""
        self._failures.clear()
        self._pause_s = 0.0
        self._on_trial = False
