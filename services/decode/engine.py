"""Turns requests into tokens: admission, continuous batching, preemption, ends."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence as Several
from dataclasses import dataclass
from typing import Protocol

import structlog
import torch

from perigee.v1 import sampling_pb2
from services.common.errors import (
    DeadlineExceeded,
    InternalError,
    MediaLost,
    Overloaded,
    PagesExhausted,
    PerigeeError,
    TransferFailed,
    Unavailable,
)
from services.decode.fetch import FetchOrder, FetchResult
from services.decode.request import Delta, Prompt, PromptState, Request, Sequence, Session
from services.engine.batch import build_batch
from services.engine.kv_cache.block_table import BlockTable
from services.engine.kv_cache.page_hash import chain_hashes
from services.engine.kv_cache.page_pool import PageCounts, PagePool
from services.engine.kv_cache.prefix_cache import PrefixCache
from services.engine.kv_pages import PAGE_TOKENS
from services.engine.media import media_spans
from services.engine.runner import ModelRunner
from services.engine.sampler import SampledToken, Sampler
from services.engine.sampling.state import SamplingState
from services.engine.scheduler.token_budget import share_budget

log = structlog.get_logger()

_LENGTH = sampling_pb2.FINISH_REASON_LENGTH
_STOP = sampling_pb2.FINISH_REASON_STOP
_ERROR = sampling_pb2.FINISH_REASON_ERROR
_CANCELLED = sampling_pb2.FINISH_REASON_CANCELLED


@dataclass(frozen=True)
class DecodeLimits:
    """Bounds of a decode engine; see DecodeConfig for their meaning."""

    max_running: int
    max_waiting: int
    chunk_tokens: int
    local_prefill_tokens: int
    headroom_pages: int
    context_length: int


@dataclass(frozen=True)
class DecodeLoad:
    """What the engine looked like after its last step."""

    running: int
    waiting: int
    pages: PageCounts
    preemptions: int
    transfer_bytes: int
    integrity_failures: int


class Outside(Protocol):
    """What the engine asks of the event loop; all calls return at once, the answers come back as messages."""

    def start_fetch(self, prompt: Prompt, order: FetchOrder) -> None:
        """Answered by `fetch_ended`, and by `pages_settled` where pages were left at risk."""

    def stop_fetch(self, prompt: Prompt) -> None:
        """The fetch shall end soon."""

    def start_media(self, prompt: Prompt, indices: tuple[int, ...]) -> None:
        """Answered by `media_arrived` or `media_failed`."""


class DecodeEngine:
    """Owns pages, prefix cache and the model of a decode worker. Engine thread only, but for `load`."""

    def __init__(
        self,
        runner: ModelRunner,
        kv_pages: torch.Tensor,
        sampler: Sampler,
        limits: DecodeLimits,
        outside: Outside,
    ) -> None:
        self._runner = runner
        self._kv_pages = kv_pages
        self._sampler = sampler
        self._limits = limits
        self._outside = outside
        self._pool = PagePool(kv_pages.shape[0])
        self._cache = PrefixCache(self._pool)
        self._waiting: deque[Prompt] = deque()
        self._prompts: list[Prompt] = []
        self._running: list[Sequence] = []
        self._sessions: set[Session] = set()
        self._news: dict[Session, list[Delta]] = {}
        self._preemptions = 0
        self._transfer_bytes = 0
        self._integrity_failures = 0
        self._checked_idle = False
        self._draining = False
        self.load = self._measure()

    # -- messages ------------------------------------------------------------------------------------------------

    def submit(self, request: Request) -> None:
        """Queues a request, or refuses it at once by an error delta."""
        session = request.session
        self._sessions.add(session)
        session.requests[request.handle] = request
        request.unfinished = set(range(request.num_choices))
        if self._draining:
            self._fail(request, Unavailable("the decode worker is draining"))
        elif len(self._waiting) >= self._limits.max_waiting:
            self._fail(request, Overloaded(f"{len(self._waiting)} requests are waiting on the decode worker"))
        else:
            context = request.prompt_ids + request.output_ids
            sequences = [
                self._new_sequence(request, choice, context) for choice in range(request.num_choices)
            ]
            self._waiting.append(self._new_prompt(request, sequences))
        self._publish()

    def cancel(self, session: Session, handle: int) -> None:
        """Stops a request; its unfinished choices end as cancelled. Unknown handles are ignored."""
        request = session.requests.get(handle)
        if request is not None:
            self._finish_request(request, _CANCELLED, None)
            self._publish()

    def session_ended(self, session: Session) -> None:
        """The gateway is gone: everything it submitted ends, unheard."""
        for request in list(session.requests.values()):
            self._finish_request(request, _CANCELLED, None)
        self._sessions.discard(session)
        self._news.pop(session, None)

    def fetch_ended(self, prompt: Prompt, result: FetchResult) -> None:
        """The fetch of a prompt's pages is over: no read will be posted any more."""
        self._pool.quarantine(result.pages_at_risk)
        self._transfer_bytes += result.bytes_read
        if prompt.state is PromptState.STOPPING:
            prompt.table.free()
            prompt.state = PromptState.ENDED
        elif result.error is None:
            self._fetched(prompt, result)
        else:
            prompt.table.free()
            self._prompts.remove(prompt)
            self._try_elsewhere(prompt, result.error)
        self._publish()

    def pages_settled(self, pages: Several[int]) -> None:
        """No byte of an ended fetch can land in these pages any more."""
        self._pool.settle(pages)

    def media_arrived(self, prompt: Prompt, embeddings: dict[int, torch.Tensor]) -> None:
        """The media the engine asked for: rows [num_tokens, hidden] by index."""
        if prompt.state is PromptState.NEEDS_MEDIA:
            prompt.request.embeddings.update(embeddings)
            prompt.state = PromptState.EXTENDING

    def media_failed(self, prompt: Prompt, error: PerigeeError) -> None:
        """An embedding cannot be had."""
        if prompt.state is PromptState.NEEDS_MEDIA:
            self._fail(prompt.request, error)
            self._publish()

    def flush(self) -> int:
        """Drops cached pages nobody holds; returns how many."""
        return self._cache.clear()

    def drain(self) -> int:
        """Admits nothing from now on; returns how many requests remain."""
        self._draining = True
        return sum(len(session.requests) for session in self._sessions)

    # -- the step ------------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """One forward pass over all running sequences and a chunk of prompts. Returns whether there is more."""
        self._enforce_deadlines()
        self._admit()
        self._start_sequences()
        self._grow()
        budget = self._limits.chunk_tokens
        extending = (prompt for prompt in self._prompts if prompt.state is PromptState.EXTENDING)
        shares = share_budget(extending, budget)
        running = list(self._running)
        if running or shares:
            self._compute(running, shares)
        self._check_when_idle()
        self._publish()
        return bool(running or shares)

    def _compute(self, running: list[Sequence], shares: Several[tuple[Prompt, int]]) -> None:
        """Runs the model, samples, and moves everybody on."""
        items = [sequence.batch_item() for sequence in running]
        items += [prompt.batch_item(chunk) for prompt, chunk in shares]
        logits = self._runner.forward(build_batch(items, self._kv_pages.device))
        for prompt, chunk in shares:
            prompt.computed += chunk
            if prompt.computed // PAGE_TOKENS > (prompt.computed - chunk) // PAGE_TOKENS:
                self._remember(prompt.hashes, prompt.table, prompt.computed)
        if running:
            tokens = self._sampler.sample(logits, [sequence.sampling for sequence in running])
            for sequence, token in zip(running, tokens, strict=True):
                self._advance(sequence, token)

    def _advance(self, sequence: Sequence, token: SampledToken | InternalError) -> None:
        """Appends a sampled token, remembers a page that became full, and ends the choice if it is to end."""
        request = sequence.request
        if sequence not in self._running:
            return  # another choice of its request failed in this very step
        if isinstance(token, InternalError):
            self._fail(request, token)
            return
        written = len(sequence.context)
        if written % PAGE_TOKENS == 0:
            spans = media_spans(request.media, written)
            sequence.hashes = chain_hashes(
                sequence.context, spans, request.cache_salt, PAGE_TOKENS, sequence.hashes
            )
            self._remember(sequence.hashes, sequence.table, written)
        sequence.context.append(token.token_id)
        sequence.sampling.append(token.token_id)
        finish = self._finish_reason(sequence, token.token_id)
        self._tell(request, Delta(request.handle, sequence.choice, (token,), finish))
        if finish:
            self._end_sequence(sequence)

    def _finish_reason(self, sequence: Sequence, token_id: int) -> sampling_pb2.FinishReason.ValueType:
        request = sequence.request
        if token_id in request.spec.stop_token_ids:
            return _STOP
        outputs = len(sequence.context) - len(request.prompt_ids)
        if outputs >= request.max_tokens or len(sequence.context) >= self._limits.context_length:
            return _LENGTH
        return sampling_pb2.FINISH_REASON_UNSPECIFIED

    # -- prompts -------------------------------------------------------------------------------------------------

    def _new_sequence(self, request: Request, choice: int, context: list[int]) -> Sequence:
        sampling = SamplingState(
            request.spec, request.seed, choice, request.prompt_ids, list(request.output_ids)
        )
        return Sequence(request, choice, sampling, list(context), BlockTable(self._pool, PAGE_TOKENS))

    def _new_prompt(self, request: Request, sequences: list[Sequence]) -> Prompt:
        table = BlockTable(self._pool, PAGE_TOKENS)
        return Prompt(request, sequences, table, list(request.prefill_addresses))

    def _admit(self) -> None:
        """Reserves all pages of waiting prompts plus headroom, first come, first served."""
        while self._waiting:
            prompt = self._waiting[0]
            occupied = len(self._running) + sum(len(other.sequences) for other in self._prompts)
            if occupied and occupied + len(prompt.sequences) > self._limits.max_running:
                return
            if not self._reserve(prompt):
                return
            self._waiting.popleft()
            self._prompts.append(prompt)
            self._proceed(prompt)

    def _reserve(self, prompt: Prompt) -> bool:
        """Takes cached pages and allocates the rest, the next token's slot included; False, with nothing held,
        where pages are short.

        Headroom is asked for only while others run: alone, a prompt that just fits must not wait for ever.
        """
        request = prompt.request
        spans = media_spans(request.media, prompt.num_tokens)
        tokens = prompt.context[:-1]
        prompt.hashes = chain_hashes(tokens, spans, request.cache_salt, PAGE_TOKENS, prompt.hashes)
        cached = self._cache.match(prompt.hashes)
        missing = -(-len(prompt.context) // PAGE_TOKENS) - len(cached)
        others = bool(self._running or self._prompts)
        headroom = self._limits.headroom_pages * len(prompt.sequences) if others else 0
        if missing + headroom > self._pool.available():
            self._pool.release(cached)
            return False
        prompt.table.adopt(cached)
        prompt.table.ensure(len(prompt.context))
        prompt.computed = len(cached) * PAGE_TOKENS
        if not request.stats_sent:
            request.stats.cached_tokens = prompt.computed
        return True

    def _proceed(self, prompt: Prompt) -> None:
        """Decides where the uncached part of a prompt is computed, and starts that."""
        uncached = prompt.num_tokens - prompt.computed
        if uncached > self._limits.local_prefill_tokens and prompt.candidates:
            cached_pages = prompt.computed // PAGE_TOKENS
            order = FetchOrder(
                address=prompt.candidates.pop(0),
                request_id=prompt.request.request_id,
                token_ids=tuple(prompt.context[:-1]),
                media=prompt.request.media,
                cache_salt=prompt.request.cache_salt,
                cached_pages=cached_pages,
                pages=tuple(prompt.table.pages[cached_pages : prompt.num_blocks]),
            )
            prompt.request.stats.prefill_address = order.address
            prompt.state = PromptState.FETCHING
            self._outside.start_fetch(prompt, order)
            return
        missing = prompt.missing_media()
        if missing:
            prompt.state = PromptState.NEEDS_MEDIA
            self._outside.start_media(prompt, missing)
        else:
            prompt.state = PromptState.EXTENDING

    def _fetched(self, prompt: Prompt, result: FetchResult) -> None:
        """All pages of a prompt are here."""
        stats = prompt.request.stats
        if not prompt.request.stats_sent:
            stats.prefill_cached_tokens = max(0, result.cached_tokens - prompt.computed)
            stats.transfer_bytes = result.bytes_read
            stats.transfer_bytes_before_done = result.bytes_before_done
            stats.transfer_tail_s = result.tail_s
        prompt.computed = prompt.num_tokens
        self._remember(prompt.hashes, prompt.table, prompt.computed)
        self._proceed(prompt)

    def _try_elsewhere(self, prompt: Prompt, error: PerigeeError) -> None:
        """After a failed fetch: the next candidate, the same one once more after a bad transfer, or the end."""
        if isinstance(error, TransferFailed) and not prompt.retried:
            prompt.retried = True
            prompt.candidates.append(prompt.request.stats.prefill_address)
        if prompt.candidates and not isinstance(error, MediaLost):
            prompt.state = PromptState.WAITING
            self._waiting.appendleft(prompt)
        else:
            prompt.state = PromptState.ENDED
            self._fail(prompt.request, error)

    def _start_sequences(self) -> None:
        """Prompts whose KV is complete become running sequences, or end where nothing is to be generated."""
        for prompt in list(self._prompts):
            if prompt.state is not PromptState.EXTENDING or prompt.computed < prompt.num_tokens:
                continue
            if prompt.request.max_tokens == 0:
                for sequence in prompt.sequences:
                    self._tell(prompt.request, Delta(prompt.request.handle, sequence.choice, (), _LENGTH))
                self._leave(prompt)
            else:
                self._prompts.remove(prompt)
                prompt.state = PromptState.ENDED
                self._running.extend(self._fork(prompt))

    def _fork(self, prompt: Prompt) -> list[Sequence]:
        """Gives every choice its table: full pages shared, the partial last page copied.

        Returns the sequences that can run; choices for which pages are short queue up as prompts of their own.
        """
        first, *others = prompt.sequences
        first.table, first.hashes = prompt.table, prompt.hashes
        running = [first]
        for sequence in others:
            try:
                sequence.table, copies = prompt.table.fork(prompt.num_tokens)
            except PagesExhausted:
                self._waiting.appendleft(self._new_prompt(sequence.request, [sequence]))
                continue
            sequence.hashes = list(prompt.hashes)
            for source, destination in copies:
                self._kv_pages[destination].copy_(self._kv_pages[source])
            running.append(sequence)
        return running

    # -- running sequences ---------------------------------------------------------------------------------------

    def _grow(self) -> None:
        """Makes room for the next token of every sequence, preempting the youngest where pages are short."""
        for sequence in list(self._running):
            while sequence in self._running:
                try:
                    sequence.table.ensure(len(sequence.context))
                    break
                except PagesExhausted:
                    self._preempt(self._running[-1])

    def _preempt(self, sequence: Sequence) -> None:
        """Lets go of a sequence's pages; it is recomputed like a fresh prompt, in front of the queue."""
        self._preemptions += 1
        self._running.remove(sequence)
        sequence.table.free()
        log.info("preempted", request=sequence.request.request_id, choice=sequence.choice)
        self._waiting.appendleft(self._new_prompt(sequence.request, [sequence]))

    def _remember(self, hashes: Several[bytes], table: BlockTable, num_tokens: int) -> None:
        """Makes the whole pages among the first `num_tokens` findable."""
        for page_hash, page in zip(hashes, table.pages[: num_tokens // PAGE_TOKENS], strict=False):
            self._cache.insert(page_hash, page)

    # -- ends ----------------------------------------------------------------------------------------------------

    def _end_sequence(self, sequence: Sequence) -> None:
        """A choice is over."""
        self._running.remove(sequence)
        sequence.table.free()

    def _leave(self, prompt: Prompt) -> None:
        """A prompt that nobody needs any more lets go of its pages, or will when its fetch has ended."""
        if prompt in self._waiting:
            self._waiting.remove(prompt)
        elif prompt in self._prompts:
            self._prompts.remove(prompt)
        if prompt.state is PromptState.FETCHING:
            prompt.state = PromptState.STOPPING
            self._outside.stop_fetch(prompt)
        elif prompt.state is not PromptState.STOPPING:
            prompt.table.free()
            prompt.state = PromptState.ENDED

    def _fail(self, request: Request, error: PerigeeError) -> None:
        self._finish_request(request, _ERROR, error)

    def _finish_request(
        self, request: Request, finish: sampling_pb2.FinishReason.ValueType, error: PerigeeError | None
    ) -> None:
        """Ends every unfinished choice, wherever it stands. The error goes with the first."""
        for sequence in [s for s in self._running if s.request is request]:
            self._end_sequence(sequence)
        for prompt in [p for p in (*self._waiting, *self._prompts) if p.request is request]:
            self._leave(prompt)
        for choice in sorted(request.unfinished):
            self._tell(request, Delta(request.handle, choice, (), finish, error))
            error = None

    def _enforce_deadlines(self) -> None:
        now = time.monotonic()
        late = [
            request
            for session in self._sessions
            for request in session.requests.values()
            if request.deadline <= now
        ]
        for request in late:
            self._fail(request, DeadlineExceeded("the request's time ran out"))

    def _tell(self, request: Request, delta: Delta) -> None:
        """Puts news into the session's next batch, with the stats where they are due."""
        if delta.finish:
            request.unfinished.discard(delta.choice)
            if not request.unfinished:
                request.session.requests.pop(request.handle, None)
        if not request.stats_sent or delta.error is not None:
            request.stats_sent = True
            delta = Delta(delta.handle, delta.choice, delta.tokens, delta.finish, delta.error, request.stats)
        self._news.setdefault(request.session, []).append(delta)

    def _publish(self) -> None:
        """Sends each session its news in one batch, and makes the load visible to other threads."""
        news, self._news = self._news, {}
        for session, deltas in news.items():
            session.emit(deltas)
        self.load = self._measure()

    def _check_when_idle(self) -> None:
        """Runs the pool's integrity check once whenever the engine falls idle."""
        idle = not (self._running or self._prompts or self._waiting)
        if idle and not self._checked_idle:
            try:
                self._pool.check_integrity()
            except PerigeeError as error:
                self._integrity_failures += 1
                log.error("page pool integrity", detail=error.message)
        self._checked_idle = idle

    def _measure(self) -> DecodeLoad:
        return DecodeLoad(
            running=len(self._running) + len(self._prompts),
            waiting=len(self._waiting),
            pages=self._pool.counts(),
            preemptions=self._preemptions,
            transfer_bytes=self._transfer_bytes,
            integrity_failures=self._integrity_failures,
        )
