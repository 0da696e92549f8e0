"""What computes the steps of a decode engine."""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass
from typing import Protocol

from services.decode.request import Prompt, Sequence
from services.engine.sampling.outcome import Outcome
from services.engine.sampling.scores import Scores


@dataclass(frozen=True)
class Step:
    """What one pass computes: the next tokens of `running`, and tokens [start, end) of prompts (`chunks`).

    `budget`: the most tokens of prompts that it might have. `began`: when it is launched, in seconds of the
    engine's clock.
    """

    running: abc.Sequence[Sequence]
    chunks: abc.Sequence[tuple[Prompt, int, int]]
    budget: int
    began: float


@dataclass(frozen=True)
class Landed:
    """What a step gave: for each sequence its next tokens, in order; for some prompts, scores of tokens.

    An error stands in place of a token that cannot be had, and ends the request. A sequence without tokens is
    missing; it takes part in the next step again.
    """

    step: Step
    tokens: abc.Sequence[tuple[Sequence, tuple[Outcome, ...]]]
    scores: abc.Sequence[tuple[Prompt, Scores]] = ()


class Stepper(Protocol):
    """Gives one or more tokens of each running sequence per step. Engine thread only.

    In each turn the engine calls `plan`, `launch`, `land` (the step before, if it is in flight still),
    `sample`, and, unless the stepper overlaps steps, `land` again. It appends what has landed to the
    sequences before it calls anything else, up to each sequence's end: a stepper may give tokens beyond that.
    """

    @property
    def overlaps(self) -> bool:
        """Whether a step lands only after the next one is launched, so that host and device work at once."""

    @property
    def in_flight(self) -> bool:
        """Whether a step is to land that `sample` was called for."""

    def plan(self, running: abc.Iterable[Sequence]) -> list[tuple[Sequence, int]]:
        """Returns who takes part in the next step, each with the number of tokens that its page table must
        hold.

        The sequences whose tokens in flight are certainly their last are missing. The number is at least
        `len(sequence.context)` and less than `sequence.max_length`, if that is possible.
        """

    def launch(self, step: Step) -> None:
        """Gives a step to the device. All page tables hold what was planned. What the prompts have computed
        is counted by the engine.
        """

    def sample(self, running: abc.Container[Sequence]) -> None:
        """Chooses the tokens of the step that was launched, for those of its sequences that still run.

        Called once per launch, after the tokens of the step before were appended: penalties and grammars
        depend on them.
        """

    def land(self) -> Landed | None:
        """Waits for the step in flight, and returns what it gave. None: there is none."""
