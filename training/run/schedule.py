"""The learning rate over a run: warm up, stay, decay to nothing in the last steps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """In steps. `warmup`: so many, from step `first` on, in which the rate rises; `decay`: how many of the
    `total` it falls in, linearly; 0: it stays, so that a later session can go on from where this one stopped.
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
        """Whether the rate falls already."""
        return self.decay > 0 and step >= self.total - self.decay
