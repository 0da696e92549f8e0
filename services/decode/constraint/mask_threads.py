"""Computes masks beside the engine."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from services.decode.constraint.token_constraint import TokenConstraint

_MOST_WAIT_S = 0.005


class MaskThreads:
    """Prepare the next token's masks while the model computes its logits. Engine thread only.

    One thread takes all of a step, so that the engine wakes one only, those that took longest the last time
    at the end; others are there for the next step, should one mask take long.
    """

    def __init__(self, num_threads: int = 2) -> None:
        self._executor = ThreadPoolExecutor(num_threads, "mask")
        self._moved: list[TokenConstraint] = []
        self._preparing: Future[None] | None = None

    def advance(self, constraint: TokenConstraint, token_id: int) -> None:
        """A constrained choice goes on with this token; `begin` has the work done."""
        if constraint.advance(token_id):
            self._moved.append(constraint)

    def begin(self) -> None:
        """Begins to prepare all that was advanced since."""
        if self._moved:
            moved, self._moved = self._moved, []
            moved.sort(key=lambda constraint: constraint.took_s)
            self._preparing = self._executor.submit(_prepare, moved)

    def ready(self, constraints: Sequence[TokenConstraint | None]) -> list[int]:
        """Indices of those whose next token may be chosen; None is free, and always is.

        Waits a few milliseconds for all of them together: a mask that takes longer must not hold the others.
        """
        if self._preparing is not None:
            wait([self._preparing], _MOST_WAIT_S)
            self._preparing = None
        return [
            index
            for index, constraint in enumerate(constraints)
            if constraint is None or constraint.is_prepared
        ]

    def close(self) -> None:
        """Idempotent."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def _prepare(constraints: Sequence[TokenConstraint]) -> None:
    for constraint in constraints:
        constraint.prepare()
