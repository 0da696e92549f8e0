"""Measures the turns of the thread that uses a worker's device, and finds the one that does not end."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import structlog

from services.common.errors import Unavailable

log = structlog.get_logger()

LEAST_S = 2.0
TIMES_P99 = 20
UNKNOWN_S = 300.0
"""Deadline of a step unlike any before: kernels may be compiled in it, or graphs recorded. Also that of
messages, among which are waits for a peer's bytes.
"""
_KNOWN_STEPS = 8
_RECENT_STEPS = 256
_TICK_S = 0.1


class StepKind(NamedTuple):
    """Steps of one kind take about the same time: powers of two of their tokens, and of the pairs of a token
    and one that it attends to.
    """

    tokens: int = 0
    pairs: int = 0

    @classmethod
    def of(cls, tokens: int, pairs: int) -> StepKind:
        """The kind of a step with so many tokens and pairs."""
        return cls(tokens.bit_length(), pairs.bit_length())

    def joined(self, other: StepKind) -> StepKind:
        """The kind of a step as large as the larger of two."""
        return StepKind(max(self.tokens, other.tokens), max(self.pairs, other.pairs))


NOTHING = StepKind()


@dataclass(frozen=True)
class _Turn:
    """`is_step`: not a message. `kind`: of what it has computed so far."""

    began: float
    is_step: bool
    kind: StepKind = NOTHING
    exempt: bool = False


class StepWatch:
    """The thread that uses the device calls `begin`, `computes` and `end`; another one calls `tick` about ten
    times a second (`report` starts one). The deadline of a step is 20 times the 99th percentile of recent
    steps of its kind, at least 2 s.

    Time counts only while the watching thread runs: not while the process or the machine stands still.
    """

    tick_s = _TICK_S

    def __init__(self, clock: Callable[[], float] = time.monotonic, of: str = "engine") -> None:
        """`clock`: seconds. `of`: whose steps they are, for what is said."""
        self._clock = clock
        self._of = of
        self._turn: _Turn | None = None
        # What a device may still compute while this turn goes on.
        self._before = NOTHING
        self._seconds: dict[StepKind, deque[float]] = {}
        self._seen: float | None = None
        self._ticked = clock()
        self._age = 0.0

    # -- thread that uses the device -----------------------------------------------------------------------

    def begin(self, *, is_step: bool) -> None:
        """A turn begins: a step, or a message."""
        self._turn = _Turn(self._clock(), is_step)

    def computes(self, tokens: int, pairs: int) -> None:
        """The turn begins a pass of this size."""
        turn = self._turn
        if turn is not None:
            self._turn = replace(turn, kind=turn.kind.joined(StepKind.of(tokens, pairs)))

    def exempt(self) -> None:
        """The turn does something that may take long once, such as compiling a kernel."""
        turn = self._turn
        if turn is not None:
            self._turn = replace(turn, exempt=True)

    def end(self) -> None:
        """The turn has ended."""
        turn, self._turn = self._turn, None
        if turn is not None and turn.kind != NOTHING:
            kind = turn.kind.joined(self._before)
            recent = self._seconds.get(kind)
            if recent is None:  # the first one warms up
                self._seconds[kind] = deque(maxlen=_RECENT_STEPS)
            elif not turn.exempt:
                recent.append(self._clock() - turn.began)
            self._before = turn.kind

    # -- watching thread -----------------------------------------------------------------------------------

    def report(self, name: str, ended: threading.Event, on_hang: Callable[[BaseException], None]) -> None:
        """Starts a thread that calls `tick` until `ended` is set, and `on_hang`, once, for a turn that hangs.
        `name`: of the thread that is watched.
        """

        def look() -> None:
            while not ended.wait(self.tick_s):
                if (hangs := self.tick()) is not None:
                    log.error("thread hangs", thread=name, reason=hangs)
                    on_hang(Unavailable(hangs))
                    return

        threading.Thread(target=look, name=f"{name}-watch", daemon=True).start()

    def tick(self) -> str | None:
        """Counts the time since the last call; returns what is wrong if the turn is past its deadline."""
        now, turn = self._clock(), self._turn
        passed, self._ticked = min(now - self._ticked, 2 * _TICK_S), now
        if turn is None or turn.began != self._seen:
            self._seen, self._age = (None if turn is None else turn.began), 0.0
            return None
        self._age += passed
        if self._age <= LEAST_S:
            return None
        deadline = self._deadline(turn)
        if self._age <= deadline:
            return None
        what = f"a step of the {self._of}" if turn.is_step else f"a message to the {self._of}"
        return f"{what} has run for {self._age:.1f} s; its deadline is {deadline:.1f} s"

    def _deadline(self, turn: _Turn) -> float:
        kind = turn.kind.joined(self._before)
        recent = sorted(self._seconds.get(kind, ()))
        if not turn.is_step or turn.exempt or len(recent) < _KNOWN_STEPS:
            return UNKNOWN_S
        return max(LEAST_S, TIMES_P99 * recent[-(-99 * len(recent) // 100) - 1])
