"""The sequences that generate tokens."""

from __future__ import annotations

from collections import abc

import structlog

from services.common.errors import PagesExhausted
from services.decode.request import Request, Sequence
from services.decode.stepper import Stepper
from services.engine.kv_cache.page_manager import PageManager

log = structlog.get_logger()


class RunningSequences:
    """The running sequences, oldest first, and the room in their page tables. Engine thread only.

    `members`: a dict, because each step asks of every sequence whether it still runs. `preemptions` counts
    since the start.
    """

    def __init__(self, pages: PageManager, on_preempt: abc.Callable[[Sequence], None]) -> None:
        """`on_preempt` takes a sequence that has lost its pages and is to be computed again later."""
        self._pages = pages
        self._on_preempt = on_preempt
        self.members: dict[Sequence, None] = {}
        self.preemptions = 0

    def __len__(self) -> int:
        return len(self.members)

    def add(self, sequences: abc.Iterable[Sequence]) -> None:
        """Starts sequences whose KV is complete."""
        self.members |= dict.fromkeys(sequences)

    def end(self, sequence: Sequence) -> None:
        """Removes a sequence and gives up its pages."""
        del self.members[sequence]
        self._pages.retire(sequence.table)

    def end_all(self, request: Request) -> None:
        """Removes all sequences of a request."""
        for sequence in [sequence for sequence in self.members if sequence.request is request]:
            self.end(sequence)

    def plan(self, stepper: Stepper, land: abc.Callable[[], bool]) -> list[Sequence]:
        """Makes room for the next step; returns the sequences that take part in it.

        Where pages are short, the step in flight lands first, because what ends with it may leave pages.
        `land` returns False if there is none. Then the youngest of the lowest priority is preempted.
        """
        while True:
            planned = stepper.plan(self.members)
            try:
                for sequence, num_tokens in planned:
                    sequence.table.ensure(num_tokens)
            except PagesExhausted:
                if not land():
                    self.preempt(min(reversed(self.members), key=lambda running: running.priority))
                continue
            return [sequence for sequence, _ in planned]

    def preempt(self, sequence: Sequence) -> None:
        """Takes a sequence's pages away; it is computed again like a fresh prompt, in front of its equals."""
        self.preemptions += 1
        self.end(sequence)
        log.info("preempted", request=sequence.request.request_id, choice=sequence.choice)
        self._on_preempt(sequence)
