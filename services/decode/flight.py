"""A step that the device has, until the host has heard of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from services.decode.request import Prompt, Sequence
from services.engine.host_copy import DeviceEvent
from services.engine.sampling.outcome import Drawn


@dataclass(frozen=True)
class Launch:
    """A forward pass whose tokens are not drawn yet: `running`, row by row of `logits`; `chunks`: tokens
    [start, end) of prompts; `began`: when it was launched, seconds of the engine's clock.
    """

    running: list[Sequence]
    chunks: list[tuple[Prompt, int, int]]
    logits: Tensor
    began: float


@dataclass(frozen=True)
class Flight:
    """`running`: whose tokens are `drawn`, row by row; `chunks`, `began`: as Launch has them; `mark`: its
    end.
    """

    running: list[Sequence]
    chunks: list[tuple[Prompt, int, int]]
    drawn: Drawn
    mark: DeviceEvent
    began: float

    @cached_property
    def rows(self) -> dict[Sequence, int]:
        """Which row each sequence has."""
        return {sequence: row for row, sequence in enumerate(self.running)}
