"""The learning rate over a run: it warms up, stays constant, and decays to zero in the last steps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """A learning rate schedule, counted in steps.

    The rate rises over `warmup` steps from step `first` on, and falls linearly over the last `decay` of the
    `total` steps. With `decay` 0 it stays constant, so that a later session can continue the training.
    """

    total: int
    warmup: int
    decay: int
    first: int = 0

    def factor(self, step: int) -> float:
        """The share of the peak rate at a step, counted from 0."""
        rising = min(1.0, (step + 1 - self.first) / self.warmup) if self.warmup else 1.0
        falling = min(1.0, (self.total - step) / (self.decay + 1)) if self.decay else 1.0
        return rising * falling

    def decays(self, step: int) -> bool:
        """Whether the rate is already falling at `step`."""
        return self.decay > 0 and step >= self.total - self.decay
