"""One forward pass over chunks of prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.engine.batch import PAGE_TOKENS, BatchBuilder
from services.engine.runner import ModelRunner
from services.engine.sampling.scoring_pass import scoring_pass
from services.prefill.announcer import Announcer
from services.prefill.events import Scored
from services.prefill.job import Job


class _NobodyWaits(Exception):
    """Every reader of a pass has gone: the rest of it would be computed for nothing."""


class ChunkPass:
    """Computes chunks of jobs, and announces layers as soon as they are written. Engine thread only."""

    def __init__(self, runner: ModelRunner, announcer: Announcer, between_layers: Callable[[], None]) -> None:
        """`between_layers` is called each time some layers are written, before they are announced."""
        self._runner = runner
        self._announcer = announcer
        self._between_layers = between_layers

    def compute(self, shares: Sequence[tuple[Job, int]]) -> bool:
        """Computes the next tokens of each job, as many as its share says, and emits the scores they give.

        Returns False if all readers have left meanwhile: the pages may be written in part then, and no cache
        may have them.
        """
        builder = BatchBuilder()
        for job, chunk in shares:
            job.add_to(builder, chunk)
        batch = builder.build(self._runner.batch_device)
        scoring = scoring_pass([(job, job.computed, job.computed + chunk) for job, chunk in shares])

        def on_layers(first: int, end: int) -> None:
            if self._runner.interruptible and all(job.abandoned for job, _ in shares):
                raise _NobodyWaits
            self._between_layers()
            for job, chunk in shares:
                last = job.computed + chunk
                end_page = job.num_pages if last == job.num_tokens else last // PAGE_TOKENS
                self._announcer.announce(job, job.computed // PAGE_TOKENS, end_page, first, end)

        try:
            self._runner.forward(batch, on_layers, on_scored=scoring.take if scoring else None)
        except _NobodyWaits:
            return False
        if scoring is not None:
            self._runner.mark().wait()
            for job, scores in scoring.results():
                for piece in scores.pieces():
                    job.emit(Scored(piece))
        return True
