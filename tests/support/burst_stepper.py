"""A Stepper that gives several tokens of each sequence per step."""

from __future__ import annotations

import os
from collections import abc
from dataclasses import dataclass, field

from services.common.errors import PerigeeError
from services.decode.constraint.mask_threads import MaskThreads
from services.decode.request import Prompt, Sequence
from services.decode.stepper import Landed, Step
from services.engine.batch import BatchBuilder
from services.engine.media import embeds_within
from services.engine.sampling.outcome import Outcome, SampledToken
from services.engine.sampling.sampler import Sampler
from services.engine.sampling.scores import Scores
from services.engine.sampling.scoring_pass import scoring_pass
from services.engine.sampling.state import SamplingState
from tests.support.fake_runner import FakeRunner

JUNK = SampledToken(7, logprob=-9.0, top=((7, -9.0),))
"""Given behind the end of a sequence: the engine must discard it."""


@dataclass
class _Draft:
    """A sequence's burst while it grows: the sequence's own state is the engine's to change."""

    sequence: Sequence
    state: SamplingState
    outcomes: list[Outcome] = field(default_factory=list)
    is_over: bool = False

    def add_to(self, batch: BatchBuilder) -> None:
        """Adds the last token so far."""
        context = [*self.sequence.context, *(token.token_id for token in self.outcomes)]
        position, request = len(context) - 1, self.sequence.request
        embeds = embeds_within(request.media, request.embeddings, position, position + 1)
        batch.add(context[-1:], position, self.sequence.table.pages, True, embeds)

    def take(self, outcome: Outcome) -> None:
        """Appends a token; behind an error, a grammar's end and the last page nothing can be computed."""
        self.outcomes.append(outcome)
        if isinstance(outcome, PerigeeError):
            self.is_over = True
            return
        self.state.append(outcome.token_id)
        constraint = self.state.constraint
        length = len(self.sequence.context) + len(self.outcomes)
        self.is_over = length >= self.sequence.max_length
        if constraint is not None and constraint.is_end(outcome.token_id):
            self.is_over = True
        elif constraint is not None and constraint.advance(outcome.token_id):
            constraint.prepare() or constraint.renew()


class BurstStepper:
    """Computes `burst` tokens one after another, also those behind a stop token, of which it knows nothing.
    What cannot be computed is junk. With `overlaps`, a burst lands after the next step is launched.
    """

    def __init__(
        self, runner: FakeRunner, sampler: Sampler, masks: MaskThreads, burst: int, *, overlaps: bool = False
    ) -> None:
        self.overlaps = overlaps
        self.sequences: dict[Sequence, None] = {}
        """All that ever took part."""
        self._runner = runner
        self._sampler = sampler
        self._masks = masks
        self._burst = burst
        self._launched: Step | None = None
        self._scores: list[tuple[Prompt, Scores]] = []
        self._flight: Landed | None = None
        self._lengths: dict[Sequence, int] = {}
        """The most tokens that each sequence will have once the step in flight has landed."""

    @property
    def in_flight(self) -> bool:
        return self._flight is not None

    def plan(self, running: abc.Iterable[Sequence]) -> list[tuple[Sequence, int]]:
        planned = []
        for sequence in running:
            length = self._lengths.get(sequence, len(sequence.context))
            if sequence not in self._lengths or length < sequence.max_length:
                planned.append((sequence, max(length, min(length + self._burst, sequence.max_length) - 1)))
        return planned

    def launch(self, step: Step) -> None:
        self._scores = []
        if step.chunks:
            batch = BatchBuilder()
            for prompt, start, end in step.chunks:
                prompt.add_to(batch, end - start)
            scoring = scoring_pass(step.chunks)
            self._runner.forward(batch.build(), on_scored=scoring.take if scoring else None)
            self._scores = scoring.results() if scoring else []
        self._launched = step

    def sample(self, running: abc.Container[Sequence]) -> None:
        step, self._launched = self._launched, None
        assert step is not None
        constraints = [sequence.constraint for sequence in step.running]
        while len(self._masks.ready(constraints)) < len(constraints):
            os.sched_yield()
        drafts = [_Draft(sequence, _fork(sequence)) for sequence in step.running if sequence in running]
        self.sequences |= dict.fromkeys(draft.sequence for draft in drafts)
        for _ in range(self._burst):
            self._extend([draft for draft in drafts if not draft.is_over])
        self._lengths = {
            draft.sequence: min(len(draft.sequence.context) + self._burst, draft.sequence.max_length)
            for draft in drafts
        }
        tokens = [(draft.sequence, tuple(self._padded(draft.outcomes))) for draft in drafts]
        self._flight = Landed(step, tokens, self._scores)

    def land(self) -> Landed | None:
        flight, self._flight, self._lengths = self._flight, None, {}
        return flight

    def _extend(self, drafts: list[_Draft]) -> None:
        if drafts:
            batch = BatchBuilder()
            for draft in drafts:
                draft.add_to(batch)
            logits = self._runner.forward(batch.build())
            outcomes = self._sampler.sample(logits, [draft.state for draft in drafts])
            for draft, outcome in zip(drafts, outcomes, strict=True):
                draft.take(outcome)

    def _padded(self, outcomes: list[Outcome]) -> list[Outcome]:
        return outcomes + [JUNK] * (self._burst - len(outcomes))


def _fork(sequence: Sequence) -> SamplingState:
    """The sequence's sampling state, to be changed as if its tokens were certain."""
    before, request = sequence.sampling, sequence.request
    assert before.output_ids == sequence.context[len(request.prompt_ids) :]
    state = SamplingState(before.spec, before.seed, before.choice, request.prompt_ids, before.output_ids)
    if sequence.constraint is not None:
        state.constraint = sequence.constraint.fork()
    return state
