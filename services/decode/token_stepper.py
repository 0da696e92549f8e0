"""One token of each sequence per step."""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from services.common.errors import PerigeeError
from services.decode.constraint.mask_threads import MaskThreads
from services.decode.request import Prompt, Sequence
from services.decode.stepper import Landed, Step
from services.engine.batch import BatchBuilder, DeviceTokens
from services.engine.host_copy import DeviceEvent, to_device
from services.engine.runner import BatchRunner
from services.engine.sampling.outcome import Drawn
from services.engine.sampling.sampler import Sampler
from services.engine.sampling.scoring_pass import ScoringPass, scoring_pass


@dataclass(frozen=True)
class _Flight:
    """A step whose tokens the device draws: `drawn`, row by row those of `running`; `mark`: its end.
    `scoring`: what scores its prompts' tokens.
    """

    step: Step
    scoring: ScoringPass[Prompt] | None
    running: list[Sequence]
    drawn: Drawn
    mark: DeviceEvent

    @cached_property
    def rows(self) -> dict[Sequence, int]:
        """Which row each sequence has."""
        return {sequence: row for row, sequence in enumerate(self.running)}


class SingleTokenStepper:
    """A Stepper over a model and a sampler.

    With `overlaps`, the tokens of a step are read only after the next one is launched, so host work overlaps
    device work. The device begins the next step with the tokens that it has drawn itself.
    """

    def __init__(self, runner: BatchRunner, sampler: Sampler, masks: MaskThreads, *, overlaps: bool) -> None:
        self.overlaps = overlaps
        self._runner = runner
        self._device = runner.batch_device
        self._sampler = sampler
        self._masks = masks
        self._launched: tuple[Step, ScoringPass[Prompt] | None, Tensor] | None = None
        self._flight: _Flight | None = None
        # Sequences whose grammar replaced the drawn token after the device had started from it.
        self._diverged: set[Sequence] = set()

    @property
    def in_flight(self) -> bool:
        return self._flight is not None

    def plan(self, running: abc.Iterable[Sequence]) -> list[tuple[Sequence, int]]:
        in_flight = {} if self._flight is None else self._flight.rows
        planned = []
        for sequence in running:
            length = len(sequence.context)
            if sequence not in in_flight:
                planned.append((sequence, length))
            elif length + 1 < sequence.max_length:
                planned.append((sequence, length + 1))
        return planned

    def launch(self, step: Step) -> None:
        self._diverged.clear()
        in_flight = {} if self._flight is None else self._flight.rows
        builder = BatchBuilder()
        for sequence in step.running:
            sequence.add_to(builder, sequence in in_flight)
        for prompt, start, end in step.chunks:
            prompt.add_to(builder, end - start)
        late, scoring = self._late_tokens(step), scoring_pass(step.chunks)
        logits = self._runner.forward(
            builder.build(self._device), late=late, on_scored=scoring.take if scoring else None
        )
        self._launched = step, scoring, logits

    def sample(self, running: abc.Container[Sequence]) -> None:
        """A sequence whose mask is not there yet, or that diverged, sits out and is computed once more."""
        if self._launched is None:
            return
        (step, scoring, logits), self._launched = self._launched, None
        ready = self._masks.ready([sequence.constraint for sequence in step.running])
        rows = [
            row for row in ready if step.running[row] in running and step.running[row] not in self._diverged
        ]
        drawing = [step.running[row] for row in rows]
        if len(rows) < len(step.running):
            logits = logits[to_device(rows, torch.int64, logits.device)]
        drawn = self._sampler.begin(logits, [sequence.sampling for sequence in drawing])
        self._flight = _Flight(step, scoring, drawing, drawn, self._runner.mark())

    def land(self) -> Landed | None:
        flight, self._flight = self._flight, None
        if flight is None:
            return None
        flight.mark.wait()
        tokens = []
        for sequence, outcome in zip(flight.running, flight.drawn.outcomes(), strict=True):
            if not isinstance(outcome, PerigeeError) and outcome.drawn_id is not None:
                self._diverged.add(sequence)
            tokens.append((sequence, (outcome,)))
        return Landed(flight.step, tokens, flight.scoring.results() if flight.scoring else ())

    def _late_tokens(self, step: Step) -> DeviceTokens | None:
        """Returns the tokens that the device has drawn and the host does not know, as inputs of the step."""
        flight = self._flight
        if flight is None:
            return None
        rows = [row for row, sequence in enumerate(step.running) if sequence in flight.rows]
        if not rows:
            return None
        ids = flight.drawn.ids
        drawn = to_device([flight.rows[step.running[row]] for row in rows], torch.int64, ids.device)
        return DeviceTokens(rows, ids[drawn])
