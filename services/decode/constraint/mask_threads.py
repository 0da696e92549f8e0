"""Computes masks beside the engine."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from services.decode.constraint.token_constraint import TokenConstraint

_MOST_WAIT_S = 0.005
# Seconds of work of a mask, from which on the next of the same choice is made where it delays only its like.
_SLOW_S = 0.005


class MaskThreads:
    """Prepare the next token's masks while the model computes its logits. Engine thread only.

    One thread takes all of a step, so that the engine wakes one only, those that took longest the last time
    at the end; others are there for the next step, should one mask take long. Choices whose masks are slow,
    or whose grammar has to be compiled anew, share a thread of their own, each in its turn.
    """

    def __init__(self, num_threads: int = 2) -> None:
        self._quick = ThreadPoolExecutor(num_threads, "mask")
        self._slow = ThreadPoolExecutor(1, "mask-slow")
        self._moved: list[TokenConstraint] = []
        self._preparing: Future[None] | None = None
        self._late: set[Future[None]] = set()

    def advance(self, constraint: TokenConstraint, token_id: int) -> None:
        """A constrained choice goes on with this token; `begin` has the work done."""
        if constraint.advance(token_id):
            self._moved.append(constraint)

    def begin(self) -> None:
        """Begins to prepare all that was advanced since."""
        moved, self._moved = self._moved, []
        self._late = {future for future in self._late if not future.done()}
        self._late |= {
            self._slow.submit(self._prepare, [constraint])
            for constraint in moved
            if constraint.work_s > _SLOW_S
        }
        quick = [constraint for constraint in moved if constraint.work_s <= _SLOW_S]
        if quick:
            quick.sort(key=lambda constraint: constraint.took_s)
            self._preparing = self._quick.submit(self._prepare, quick)

    def ready(self, constraints: Sequence[TokenConstraint | None]) -> list[int]:
        """Indices of those whose next token may be chosen; None is free, and always is.

        Waits a few milliseconds for all of them together: a mask that takes longer must not hold the others.
        For slow ones it waits where there is nobody else.
        """
        if self._preparing is not None:
            wait([self._preparing], _MOST_WAIT_S)
            self._preparing = None
        ready = _prepared(constraints)
        if not ready and self._late:
            wait(self._late, _MOST_WAIT_S, FIRST_COMPLETED)
            ready = _prepared(constraints)
        return ready

    def close(self) -> None:
        """Idempotent."""
        self._quick.shutdown(wait=False, cancel_futures=True)
        self._slow.shutdown(wait=False, cancel_futures=True)

    def _prepare(self, constraints: Sequence[TokenConstraint]) -> None:
        for constraint in constraints:
            if not constraint.prepare():
                self._slow.submit(constraint.renew)


def _prepared(constraints: Sequence[TokenConstraint | None]) -> list[int]:
    return [
        index for index, constraint in enumerate(constraints) if constraint is None or constraint.is_prepared
    ]
