"""Prompts without complete KV: the queue, page reservation, and the choice of who computes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import torch

from services.common.errors import (
    MediaLost,
    Overloaded,
    PagesExhausted,
    PerigeeError,
    TransferFailed,
    Unavailable,
)
from services.common.fairness.share import within_share
from services.decode.limits import DecodeLimits
from services.decode.prompts.fetch import FetchOrder, FetchResult
from services.decode.prompts.fetch_attempt import next_order, note_fetch
from services.decode.prompts.prompt_rate import PromptRate
from services.decode.prompts.turns import tokens_before
from services.decode.request import Prompt, PromptState, Request, Sequence
from services.engine.kv_cache.page_manager import PageManager
from services.engine.scheduler.fair_line import FairLine, one_tenant

_SEQUENCE_COST = 256
"""What one more running sequence is worth in computed tokens, when tenants' turns are compared."""


class EngineIO(Protocol):
    """The engine's I/O on the event loop. All calls return at once; results come back as messages."""

    def start_fetch(self, prompt: Prompt, order: FetchOrder) -> None:
        """Starts a fetch. `fetch_ended` follows, and `pages_settled` if pages were left at risk."""

    def stop_fetch(self, prompt: Prompt) -> None:
        """Stops a fetch; `fetch_ended` still follows."""

    def start_media(self, prompt: Prompt, indices: tuple[int, ...]) -> None:
        """Starts reading embeddings. `media_arrived` or `media_failed` follows."""

    def stop_media(self, prompt: Prompt) -> None:
        """Stops reading embeddings; a result may still follow."""


class PromptQueue:
    """Waiting and active prompts: tenants take turns, and each one's are ordered by priority, then by
    arrival. Engine thread only.
    """

    def __init__(
        self,
        pages: PageManager,
        limits: DecodeLimits,
        io: EngineIO,
        rate: PromptRate,
        clock: Callable[[], float],
    ) -> None:
        """`clock`: seconds; the requests' deadlines are in its time."""
        self._pages = pages
        self._limits = limits
        self._io = io
        self._rate = rate
        self._clock = clock
        self._waiting: FairLine[Prompt] = FairLine()
        self._active: FairLine[Prompt] = FairLine()

    @property
    def waiting(self) -> int:
        """Prompts without pages."""
        return len(self._waiting)

    @property
    def active(self) -> int:
        """Prompts with pages."""
        return len(self._active)

    @property
    def queued_tokens(self) -> int:
        """Tokens of waiting and active prompts that this worker will compute itself."""
        return sum(self._left_here(prompt) for prompt in (*self._waiting, *self._active))

    def append(self, request: Request, sequences: list[Sequence]) -> Overloaded | None:
        """Queues the prompt of a request, or returns why it is refused.

        A request resumed from another worker has waited already: it precedes new ones of its priority.
        """
        prompt = self._prompt(request, sequences, request.arrived_at)
        refusal = None if prompt.candidates else self._refusal(prompt)
        if refusal is None:
            (self._waiting.append_front if request.output_ids else self._waiting.append)(prompt)
        return refusal

    def is_certain(self, request: Request) -> bool:
        """Whether nobody refuses a request's prompt any more: a prefill worker has admitted it, or it is
        computed here.
        """
        return all(
            prompt.admitted or self._belongs_here(prompt, prompt.computed) for prompt in self.of(request)
        )

    def append_front(self, sequence: Sequence) -> None:
        """Queues a sequence that lost or never got its pages, before others of its priority."""
        self._waiting.append_front(self._prompt(sequence.request, [sequence], self._clock()))

    def of(self, request: Request) -> list[Prompt]:
        """Returns the prompts of a request."""
        return [prompt for prompt in (*self._waiting, *self._active) if prompt.request is request]

    def requests(self) -> Iterable[Request]:
        """Returns the requests that have prompts here."""
        return dict.fromkeys(prompt.request for prompt in (*self._waiting, *self._active))

    def extending(self) -> Iterator[Prompt]:
        """Yields the prompts that are computed here now, in the order of their turns."""
        return (prompt for prompt in self._active if prompt.state is PromptState.EXTENDING)

    def turn(self, without_token: Callable[[], set[int]]) -> Iterator[Prompt]:
        """Yields the prompts that the next pass may compute: of the tenant whose turn it is. None if another
        tenant, which has had less, waits for the first token of a running sequence, which they would delay.

        `without_token`: the tenants of such sequences; not called for prompts that are nobody's.
        """
        lead = next(self._incomplete(), None)
        if lead is None:
            return iter(())
        if lead.tenant and any(self._active.precedes(tenant, lead.tenant) for tenant in without_token()):
            return iter(())
        return one_tenant(self._incomplete())

    def _incomplete(self) -> Iterator[Prompt]:
        """Those of which something is left to compute: others may wait for their grammar alone."""
        return (prompt for prompt in self.extending() if prompt.computed < prompt.num_tokens)

    def computed(self, prompt: Prompt, start: int, end: int) -> None:
        """Tokens `start` to `end` of a prompt have been computed here, or are about to be."""
        prompt.computed = end
        self._active.charge(prompt, end - start)
        if end == prompt.num_tokens:
            self._pass_stage(prompt, "prefill")

    def is_within_share(self, request: Request) -> bool:
        """Whether a request's tenant may have one more waiting; all may who come without one."""
        free = self._limits.max_waiting - len(self._waiting)
        return not request.tenant or within_share(self._waiting.count(request.tenant), request.weight, free)

    def held(self) -> Counter[int]:
        """Sequences that active prompts will become, by tenant."""
        held: Counter[int] = Counter()
        for prompt in self._active:
            held[prompt.tenant] += len(prompt.sequences)
        return held

    def unready_over_share(self, blocked: Prompt, running: Counter[int]) -> Prompt | None:
        """Returns the active prompt that makes room for one of another tenant: the last one, of the tenant
        that holds most for its weight, of those that wait for nothing but their grammar. None if that tenant
        would then hold less for its weight than the blocked one's.

        `running`: sequences that tenants have beside those of active prompts.
        """
        held = self.held() + running
        unready = [
            prompt
            for prompt in self._active
            if prompt.tenant != blocked.tenant and prompt.is_computed and prompt.awaits_constraint
        ]
        if not unready:
            return None
        last = max(reversed(unready), key=lambda prompt: held[prompt.tenant] / prompt.weight)
        wanted = (held[blocked.tenant] + len(blocked.sequences)) / blocked.weight
        left = (held[last.tenant] - len(last.sequences)) / last.weight
        return None if left < wanted else last

    def put_back(self, prompt: Prompt) -> None:
        """Frees the pages of a computed prompt, which waits for room again; those in the cache may still be
        there then.
        """
        self._active.remove(prompt)
        self._pages.retire(prompt.table)
        prompt.table, prompt.computed = self._pages.new_table(), 0
        prompt.state = PromptState.WAITING
        self._waiting.append_front(prompt)

    def admit(self, running: int, may_pass: Callable[[Prompt], bool] = lambda prompt: True) -> Prompt | None:
        """Admits waiting prompts while there are enough pages for all of theirs plus headroom. Returns the
        one that finds no room, if any.

        `running`: the number of running sequences. `may_pass`: which tenants' prompts are looked at.
        """
        while (prompt := next(filter(may_pass, self._waiting.firsts()), None)) is not None:
            occupied = running + sum(len(other.sequences) for other in self._active)
            if occupied and occupied + len(prompt.sequences) > self._limits.max_running:
                return prompt
            if not self._reserve(prompt, alone=not occupied):
                return prompt
            self._waiting.remove(prompt)
            self._pass_stage(prompt, "queue")
            uncached = prompt.num_tokens - prompt.computed
            self._waiting.charge(prompt, uncached + _SEQUENCE_COST * len(prompt.sequences))
            self._active.append(prompt)
            self._proceed(prompt)
        return None

    def take_complete(self) -> list[Prompt]:
        """Removes and returns the prompts that can run; the caller takes over their page tables.

        Their KV is complete, and their grammar and scores, if any, are there.
        """
        complete = [
            prompt
            for prompt in self.extending()
            if prompt.is_computed and not prompt.awaits_constraint and not prompt.awaits_scores
        ]
        for prompt in complete:
            self._active.remove(prompt)
            prompt.state = PromptState.ENDED
            prompt.request.ready_at = prompt.since
        return complete

    def fork(self, prompt: Prompt) -> list[Sequence]:
        """Gives every choice a page table: whole pages are shared, the partial last page is copied.

        Returns the sequences that can run. Choices that get no pages are queued as prompts of their own.
        """
        first, *others = prompt.sequences
        first.table, first.hashes = prompt.table, prompt.hashes
        running = [first]
        for sequence in others:
            try:
                sequence.table = self._pages.fork(prompt.table, prompt.num_tokens)
            except PagesExhausted:
                self.append_front(sequence)
                continue
            sequence.hashes = list(prompt.hashes)
            running.append(sequence)
        return running

    def leave(self, prompt: Prompt) -> None:
        """Removes a prompt and frees its pages; if it is being fetched, frees them when the fetch ends."""
        if prompt in self._waiting:
            self._waiting.remove(prompt)
        elif prompt in self._active:
            self._active.remove(prompt)
        if prompt.state is PromptState.FETCHING:
            prompt.state = PromptState.STOPPING
            self._io.stop_fetch(prompt)
            return
        if prompt.state is PromptState.NEEDS_MEDIA:
            self._io.stop_media(prompt)
        if prompt.state is not PromptState.STOPPING:
            self._pages.retire(prompt.table)
            prompt.state = PromptState.ENDED

    def fetch_ended(self, prompt: Prompt, result: FetchResult) -> PerigeeError | None:
        """Handles the end of a fetch, which posts no read any more. Returns the error that ends the request,
        or None.
        """
        self._pages.quarantine(result.pages_at_risk)
        if result.error is None and prompt.state is PromptState.FETCHING:
            self._pass_stage(prompt, "prefill", result.done_at)
            self._pass_stage(prompt, "transfer")
            note_fetch(prompt, result)
            prompt.scores = list(result.scores)
            first = self._pages.whole_pages(prompt.computed)
            self._pages.share_pages(prompt.table.pages[first : prompt.num_pages])
            prompt.computed = prompt.num_tokens
            self._pages.remember(prompt.hashes, prompt.table, 0, prompt.computed)
            self._proceed(prompt)
            return None
        prompt.table.free()
        if prompt.state is PromptState.STOPPING:
            prompt.state = PromptState.ENDED
            return None
        self._active.remove(prompt)
        self._pass_stage(prompt, "prefill")
        return self._try_elsewhere(prompt, result.error)

    def media_arrived(self, prompt: Prompt, embeddings: dict[int, torch.Tensor]) -> None:
        """Takes the requested embeddings: rows [num_tokens, hidden] by media index."""
        if prompt.state is PromptState.NEEDS_MEDIA:
            prompt.request.embeddings.update(embeddings)
            prompt.state = PromptState.EXTENDING
            self._pass_stage(prompt, "media")

    def _prompt(self, request: Request, sequences: list[Sequence], since: float) -> Prompt:
        table = self._pages.new_table()
        return Prompt(request, sequences, table, list(request.prefill_addresses), since=since)

    def _pass_stage(self, prompt: Prompt, stage: str, until: float = 0.0) -> None:
        """Notes that a prompt has passed a stage, now or at `until`; the next one has begun then."""
        ended = max(prompt.since, until) if until else self._clock()
        prompt.request.timeline.add(stage, prompt.since, ended)
        prompt.since = ended

    def _reserve(self, prompt: Prompt, *, alone: bool) -> bool:
        """Takes cached pages and allocates the rest, including the next token's slot. Returns False, and
        holds nothing, if too few pages are available.

        A prompt that would be `alone` needs no headroom: one that just fits would wait forever for it.
        """
        request = prompt.request
        headroom = 0 if alone else self._limits.headroom_pages * len(prompt.sequences)
        prompt.hashes = self._pages.hashes(request, prompt.context, prompt.num_tokens, prompt.hashes)
        cached = self._pages.reserve_with_tail(
            prompt.table,
            prompt.cacheable_hashes,
            request,
            prompt.context,
            headroom,
            lambda computed: computed <= prompt.cacheable and self._belongs_here(prompt, computed),
        )
        if cached is None:
            return False
        prompt.computed = cached
        if not request.stats_sent:
            request.stats.cached_tokens = cached
        return True

    def _proceed(self, prompt: Prompt) -> None:
        """Decides where the uncached part of a prompt is computed, and starts it."""
        if not self._belongs_here(prompt, prompt.computed):
            prompt.state = PromptState.FETCHING
            self._io.start_fetch(prompt, next_order(prompt, self._pages.whole_pages(prompt.computed)))
            return
        missing = prompt.missing_media()
        if missing:
            prompt.state = PromptState.NEEDS_MEDIA
            self._io.start_media(prompt, missing)
        else:
            prompt.state = PromptState.EXTENDING

    def _belongs_here(self, prompt: Prompt, computed: int) -> bool:
        """Whether the tokens after the first `computed` ones are computed here: they are few, or no prefill
        worker is left to try.
        """
        uncached = prompt.num_tokens - computed
        return uncached <= self._limits.local_prefill_tokens or not prompt.candidates

    def _refusal(self, prompt: Prompt) -> Overloaded | None:
        """Returns why a prompt is not computed here: after the prompts before it, it would miss its deadline.

        A request that has begun to answer is never refused: an estimate is no reason to end it.
        """
        if prompt.request.has_begun:
            return None
        prompt.hashes = self._pages.hashes(prompt.request, prompt.context, prompt.num_tokens, prompt.hashes)
        prompt.computed = self._pages.cached_tokens(prompt.cacheable_hashes)
        left = ((other, self._left_here(other)) for other in (*self._waiting, *self._active))
        before, own = tokens_before(prompt, left), prompt.num_tokens - prompt.computed
        return self._rate.refusal(before, own, prompt.request.deadline - self._clock())

    def _left_here(self, prompt: Prompt) -> int:
        """Number of the prompt's tokens that this worker has yet to compute."""
        fetched = prompt.state in (PromptState.FETCHING, PromptState.STOPPING)
        here = not fetched and self._belongs_here(prompt, prompt.computed)
        return prompt.num_tokens - prompt.computed if here else 0

    def _try_elsewhere(self, prompt: Prompt, error: PerigeeError | None) -> PerigeeError | None:
        """Queues a prompt again after a failed fetch, or returns the error that ends its request.

        The next candidate computes it; after a failed transfer, the same one gets a second try. Once none is
        left, this worker computes it, if the last was unavailable, or full while the request has begun to
        answer.
        """
        if isinstance(error, TransferFailed) and not prompt.retried:
            prompt.retried = True
            prompt.candidates.append(prompt.address)
        if isinstance(error, MediaLost):
            prompt.candidates.clear()  # no other would find it either; this worker may not need it
        if not prompt.candidates:
            sheds = isinstance(error, Overloaded) and not prompt.request.has_begun
            if isinstance(error, Unavailable | Overloaded) and not sheds:
                error = self._refusal(prompt)
            if error is not None:
                prompt.state = PromptState.ENDED
                return error
        prompt.state = PromptState.WAITING
        self._waiting.append_front(prompt)
        return None
