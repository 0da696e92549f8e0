"""Computes token masks on threads beside the engine's."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from services.decode.constraint.token_constraint import TokenConstraint

_MOST_WAIT_S = 0.005
# If a mask took more seconds of work than this, the same choice's next one goes to the slow thread.
_SLOW_S = 0.005


class MaskThreads:
    """Prepares the next token's masks while the model computes the logits. Engine thread only.

    One thread takes all masks of a step, so that the engine wakes only one; those that took longest the last
    time come last. The other threads take the next step if one mask takes long. Choices whose masks are slow,
    or whose grammar must be compiled again, share one slow thread and take turns on it.
    """

    def __init__(self, num_threads: int = 2) -> None:
        self._quick = ThreadPoolExecutor(num_threads, "mask")
        self._slow = ThreadPoolExecutor(1, "mask-slow")
        self._moved: dict[TokenConstraint, None] = {}
        self._preparing: Future[None] | None = None
        self._late: set[Future[None]] = set()

    def advance(self, constraint: TokenConstraint, token_id: int) -> None:
        """Advances a constrained choice by this token; `begin` starts the work on its next mask."""
        if constraint.advance(token_id):
            self._moved[constraint] = None

    def begin(self) -> None:
        """Starts preparing the masks of all choices advanced since the last call."""
        moved, self._moved = self._moved, {}
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
        """Returns the indices of constraints whose mask is ready; None (no constraint) is always ready.

        Waits at most a few milliseconds for all of them together, so that a slow mask does not delay the
        other choices. Waits for the slow thread only if nothing else is ready.
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
        """Stops the threads without waiting for them. Idempotent."""
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
