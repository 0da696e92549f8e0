"""The sequences that generate tokens."""

from __future__ import annotations

from collections import Counter, abc

import structlog

from services.common.errors import PagesExhausted
from services.decode.request import Prompt, Request, Sequence
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
        `land` returns False if there is none. Then one sequence after another is preempted.
        """
        while True:
            planned = stepper.plan(self.members)
            try:
                for sequence, num_tokens in planned:
                    sequence.table.ensure(num_tokens)
            except PagesExhausted:
                if not land():
                    self.preempt(self._last())
                continue
            return [sequence for sequence, _ in planned]

    def _last(self) -> Sequence:
        """The sequence that is preempted first where pages are short: the youngest of the lowest priority, of
        the tenant that has most pages for its weight.
        """
        pages: Counter[int] = Counter()
        for sequence in self.members:
            pages[sequence.request.tenant] += len(sequence.table.pages)
        if len(pages) == 1:
            return min(reversed(self.members), key=lambda running: running.priority)
        weights = {sequence.request.tenant: sequence.request.weight for sequence in self.members}
        most = max(pages, key=lambda tenant: pages[tenant] / weights[tenant])
        theirs = (sequence for sequence in reversed(self.members) if sequence.request.tenant == most)
        return min(theirs, key=lambda running: running.priority)

    def tenants_without_token(self) -> set[int]:
        """Tenants of sequences that have got no token here yet."""
        return {
            sequence.request.tenant
            for sequence in self.members
            if len(sequence.context) == len(sequence.request.prompt_ids) + len(sequence.request.output_ids)
        }

    def held(self) -> Counter[int]:
        """Running sequences by tenant."""
        return Counter(sequence.request.tenant for sequence in self.members)

    def over_share(self, prompt: Prompt, active: Counter[int]) -> Sequence | None:
        """Returns the sequence that makes room for a prompt of another tenant: the youngest of the lowest
        priority, of the tenant that holds most for its weight. None if that one would then hold less for its
        weight than the prompt's tenant: so no two tenants take room from each other in turn.

        `active`: sequences that tenants have beside those that run.
        """
        held, weights = Counter(active), {prompt.tenant: prompt.weight}
        for sequence in self.members:
            held[sequence.request.tenant] += 1
            weights[sequence.request.tenant] = sequence.request.weight
        others = [tenant for tenant in weights if tenant != prompt.tenant]
        if not others:
            return None
        most = max(others, key=lambda tenant: held[tenant] / weights[tenant])
        wanted = (held[prompt.tenant] + len(prompt.sequences)) / prompt.weight
        if (held[most] - 1) / weights[most] < wanted:
            return None
        theirs = (sequence for sequence in reversed(self.members) if sequence.request.tenant == most)
        return min(theirs, key=lambda running: running.priority)

    def preempt(self, sequence: Sequence) -> None:
        """Takes a sequence's pages away; it is computed again like a fresh prompt, in front of its equals."""
        self.preemptions += 1
        self.end(sequence)
        log.info("preempted", request=sequence.request.request_id, choice=sequence.choice)
        self._on_preempt(sequence)
