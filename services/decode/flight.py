"""A step that the device has, until the host has heard of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from services.decode.request import Prompt, Sequence
from services.engine.host_copy import Moment
from services.engine.sampler import Drawn


@dataclass(frozen=True)
class Flight:
    """`running`: whose tokens are `drawn`, row by row; `chunks`: tokens [start, end) of prompts; `mark`: its
    end.
    """

    running: list[Sequence]
    chunks: list[tuple[Prompt, int, int]]
    drawn: Drawn
    mark: Moment

    @cached_property
    def rows(self) -> dict[Sequence, int]:
        """Which row each sequence has."""
        return {sequence: row for row, sequence in enumerate(self.running)}

    @property
    def may_stay(self) -> bool:
        """Whether the next step can be launched before the host knows what this one gave."""
        return self.drawn.ids is not None
