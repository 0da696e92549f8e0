"""Turns requests into tokens: continuous batching, preemption, ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Sequence as Several
from dataclasses import dataclass

import structlog
import torch

from perigee.v1 import sampling_pb2
from services.common.errors import (
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    PagesExhausted,
    PerigeeError,
    Unavailable,
)
from services.decode.constraint.mask_threads import MaskThreads
from services.decode.constraint.token_constraint import TokenConstraint
from services.decode.delta_outbox import DeltaOutbox
from services.decode.flight import Flight, Launch
from services.decode.limits import DecodeLimits
from services.decode.pages.page_manager import PageManager
from services.decode.prompts.fetch import FetchResult
from services.decode.prompts.prompt_queue import EngineIO, PromptQueue
from services.decode.prompts.prompt_rate import PromptRate
from services.decode.request import Prompt, Request, Sequence, Session
from services.engine.batch import DeviceTokens, build_batch
from services.engine.host_copy import to_device
from services.engine.kv_cache.page_pool import PageCounts
from services.engine.runner import BatchRunner
from services.engine.sampling.sampler import SampledToken, Sampler
from services.engine.sampling.state import SamplingState
from services.engine.scheduler.token_budget import share_budget

log = structlog.get_logger()

_SIGN_EVERY_S = 1.0
"""Well below the least time after which a gateway may take a silent worker for lost."""


@dataclass(frozen=True)
class DecodeLoad:
    """What the engine looked like after its last step; the last three count since the start."""

    running: int
    waiting: int
    pages: PageCounts
    queued_tokens: int
    preemptions: int
    transfer_bytes: int
    integrity_failures: int


class DecodeEngine:
    """Owns pages, prefix cache, their leases (`lending`) and the model of a decode worker. Engine thread
    only, but for `load` and `journal`."""

    def __init__(
        self,
        runner: BatchRunner,
        kv_pages: torch.Tensor,
        sampler: Sampler,
        limits: DecodeLimits,
        io: EngineIO,
        on_serving: Callable[[bool], None],
        masks: MaskThreads,
        *,
        ahead: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_serving` hears when the first page is pinned for a peer, and when the last is let go. `ahead`:
        whether a step is left to the device until the next one is launched, which begins with its tokens.
        `clock`: seconds, that of the requests' deadlines.
        """
        self._runner = runner
        self._device = runner.batch_device
        self._sampler = sampler
        self._masks = masks
        self._limits = limits
        self._page_manager = PageManager(kv_pages.shape[0], runner)
        self.lending = self._page_manager.lending(limits.lease_s, on_serving, clock)
        self._clock = clock
        self._rate = PromptRate(limits.chunk_tokens)
        self._prompts = PromptQueue(self._page_manager, limits, io, self._rate, clock)
        # In the order they began; a dict, because each step asks of every one whether it is still in it.
        self._running: dict[Sequence, None] = {}
        self._ahead = ahead
        # The step that the device has and the host has not heard of.
        self._flight: Flight | None = None
        self._landed_at = clock()
        # Whose last token is not the one that was drawn, and that the device goes on with.
        self._diverged: set[Sequence] = set()
        self._news = DeltaOutbox()
        self._signed_at = clock()
        self._preemptions = 0
        self._transfer_bytes = 0
        self._integrity_failures = 0
        self._checked_idle = False
        self._draining = False
        self.journal = self._page_manager.journal
        self.load = self._measure()

    # -- messages ------------------------------------------------------------------------------------------

    def submit(self, request: Request) -> None:
        """Queues a request, or refuses it at once by an error."""
        self._checked_idle = False
        if not self._news.joined(request):
            self._fail(request, InvalidRequest(f"handle {request.handle} is in use", "handle"))
        elif self._draining:
            self._fail(request, Unavailable("the decode worker is draining"))
        elif self._prompts.waiting >= self._limits.max_waiting * (2 if request.output_ids else 1):
            self._fail(
                request, Overloaded(f"{self._prompts.waiting} requests are waiting on the decode worker")
            )
        elif request.output_ids and len(request.output_ids) >= request.max_tokens:
            self._news.tell(request, request.choices.start, None, sampling_pb2.FINISH_REASON_LENGTH)
        else:
            sequences = [self._sequence(request, choice) for choice in request.choices]
            refusal = self._prompts.append(request, sequences)
            if refusal is not None:
                self._fail(request, refusal)
        self._publish()

    def cancel(self, session: Session, handle: int) -> None:
        """Stops a request; its unfinished choices end as cancelled. Unknown handles are ignored."""
        request = session.requests.get(handle)
        if request is not None:
            self._withdraw(request)
            for choice in sorted(request.unfinished):
                self._news.tell(request, choice, None, sampling_pb2.FINISH_REASON_CANCELLED)
            self._publish()

    def session_ended(self, session: Session) -> None:
        """The gateway is gone: everything it submitted ends, unheard."""
        for request in list(session.requests.values()):
            self._withdraw(request)
            request.unfinished.clear()
        session.requests.clear()
        self._news.left(session)

    def fetch_ended(self, prompt: Prompt, result: FetchResult) -> None:
        """The fetch of a prompt's pages is over: no read will be posted any more."""
        self._transfer_bytes += result.bytes_read
        error = self._prompts.fetch_ended(prompt, result)
        if error is not None:
            self._fail(prompt.request, error)
        self._publish()

    def pages_settled(self, pages: Several[int]) -> None:
        """No byte of an ended fetch can land in these pages any more."""
        self._page_manager.settle(pages)

    def media_arrived(self, prompt: Prompt, embeddings: dict[int, torch.Tensor]) -> None:
        """The media asked for: rows [num_tokens, hidden] by index."""
        self._prompts.media_arrived(prompt, embeddings)

    def media_failed(self, prompt: Prompt, error: PerigeeError) -> None:
        """An embedding cannot be had."""
        if prompt.request.unfinished:
            self._fail(prompt.request, error)
            self._publish()

    def constraint_made(self, request: Request, made: TokenConstraint | PerigeeError) -> None:
        """A request's grammar is compiled, or cannot be."""
        if isinstance(made, TokenConstraint):
            made.is_cut = request.output_is_cut
            request.constraint = made
        elif request.unfinished:
            self._fail(request, made)
            self._publish()

    def flush(self) -> int:
        """Drops cached pages nobody holds; returns how many."""
        return self._page_manager.flush()

    def drain(self) -> int:
        """Admits nothing from now on; returns how many requests remain."""
        self._draining = True
        return len(self._news.requests())

    def undrain(self) -> None:
        """Admits again."""
        self._draining = False

    # -- the step ------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """One forward pass over all running sequences and a chunk of prompts. Returns whether there is
        more.

        Ahead, the pass of the last call is heard of behind the launch of this one, and then this one's tokens
        are drawn, by all that is known from those before: the device computes meanwhile.
        """
        self._enforce_deadlines()
        self.lending.expire()
        self._prompts.admit(len(self._running))
        self._start_sequences()
        self._grow()
        shares = share_budget(self._prompts.extending(), self._limits.chunk_tokens)
        running = self._schedulable()
        launch = self._launch(running, shares) if running or shares else None
        busy = launch is not None or self._flight is not None
        self._land()
        if launch is not None:
            self._draw(launch)
        if not self._ahead:
            self._land()
        self._check_when_idle()
        self._give_signs()
        self._publish()
        return busy

    def _schedulable(self) -> list[Sequence]:
        """Those that run, but for those that end with a token that is under way."""
        return [
            sequence
            for sequence in self._running
            if not (self._under_way(sequence) and self._is_last(sequence, 1))
        ]

    def _under_way(self, sequence: Sequence) -> int:
        """How many tokens of a sequence the device knows and the host does not: 0 or 1."""
        return int(self._flight is not None and sequence in self._flight.rows)

    def _launch(self, running: list[Sequence], shares: Several[tuple[Prompt, int]]) -> Launch:
        """Gives the device a step."""
        began = self._clock()
        self._diverged.clear()
        under_way = [self._under_way(sequence) for sequence in running]
        items = [sequence.batch_item(more) for sequence, more in zip(running, under_way, strict=True)]
        items += [prompt.batch_item(chunk) for prompt, chunk in shares]
        self._page_manager.step_begins()
        late = self._late_tokens(running, under_way)
        logits = self._runner.forward(build_batch(items, self._device), late=late)
        for prompt, chunk in shares:
            prompt.computed += chunk
        chunks = [(prompt, prompt.computed - chunk, prompt.computed) for prompt, chunk in shares]
        return Launch(running, chunks, logits, began)

    def _draw(self, launch: Launch) -> None:
        """Draws the tokens of those that still run. A sequence whose mask is not there yet, or that went on
        with another token than the host has, sits out and is computed once more in the next step.
        """
        ready = self._masks.ready([sequence.constraint for sequence in launch.running])
        rows = [
            row
            for row in ready
            if launch.running[row] in self._running and launch.running[row] not in self._diverged
        ]
        running, logits = [launch.running[row] for row in rows], launch.logits
        if len(rows) < len(launch.running):
            logits = logits[to_device(rows, torch.int64, logits.device)]
        drawn = self._sampler.begin(logits, [sequence.sampling for sequence in running])
        self._flight = Flight(running, launch.chunks, drawn, self._runner.mark(), launch.began)

    def _late_tokens(self, running: list[Sequence], under_way: list[int]) -> DeviceTokens | None:
        """Those that begin with what the last step gave."""
        rows, last = [row for row, more in enumerate(under_way) if more], self._flight
        if last is None or not rows:
            return None
        drawn = to_device([last.rows[running[row]] for row in rows], torch.int64, last.drawn.ids.device)
        return DeviceTokens(rows, last.drawn.ids[drawn])

    def _land(self) -> None:
        """Hears what the step under way gave, if there is one, and moves everybody on."""
        flight, self._flight = self._flight, None
        if flight is None:
            return
        self._news.publish()  # of each choice, a batch has the news of one step
        flight.mark.wait()
        self._note_rate(flight)
        for prompt, start, end in flight.chunks:
            self._page_manager.remember(prompt.hashes, prompt.table, start, end)
        for sequence, token in zip(flight.running, flight.drawn.outcomes(), strict=True):
            if sequence in self._running:  # else it or another choice of its request has ended meanwhile
                self._advance(sequence, token)
        self._page_manager.step_ended()
        self._masks.begin()

    def _note_rate(self, flight: Flight) -> None:
        """A step has ended, which the device began when it was launched or the one before it had ended."""
        began, self._landed_at = max(flight.began, self._landed_at), self._clock()
        self._rate.note(sum(end - start for _, start, end in flight.chunks), self._landed_at - began)

    def _advance(self, sequence: Sequence, token: SampledToken | PerigeeError) -> None:
        """Appends a sampled token, remembers a page that became whole, and ends the choice if it is to
        end."""
        request, written = sequence.request, len(sequence.context)
        if isinstance(token, PerigeeError):
            self._fail(request, token)
            return
        if self._page_manager.whole_pages(written) > len(sequence.hashes):
            sequence.hashes = self._page_manager.hashes(request, sequence.context, written, sequence.hashes)
            self._page_manager.remember(sequence.hashes, sequence.table, written - 1, written)
        sequence.context.append(token.token_id)
        sequence.sampling.append(token.token_id)
        finish = self._finish_reason(sequence, token.token_id)
        self._news.tell(request, sequence.choice, token, finish)
        if finish:
            self._page_manager.remember_tail(sequence, written)
            self._end(sequence)
            return
        if token.drawn_id is not None:
            self._diverged.add(sequence)
        if sequence.constraint is not None:
            self._masks.advance(sequence.constraint, token.token_id)

    def _finish_reason(self, sequence: Sequence, token_id: int) -> sampling_pb2.FinishReason.ValueType:
        request, constraint = sequence.request, sequence.constraint
        if constraint is not None and constraint.is_end(token_id):
            # Whole, but closed in haste: the caller is to know that the model had more to say.
            return sampling_pb2.FINISH_REASON_LENGTH if constraint.is_cut else sampling_pb2.FINISH_REASON_STOP
        if token_id in request.spec.stop_token_ids:
            return sampling_pb2.FINISH_REASON_STOP
        if self._is_last(sequence, 0):
            return sampling_pb2.FINISH_REASON_LENGTH
        return sampling_pb2.FINISH_REASON_UNSPECIFIED

    def _is_last(self, sequence: Sequence, under_way: int) -> bool:
        """Whether it is at its end with the tokens that it has and those under way."""
        tokens = len(sequence.context) + under_way
        outputs = tokens - len(sequence.request.prompt_ids)
        return outputs >= sequence.request.max_tokens or tokens >= self._limits.context_length

    def _start_sequences(self) -> None:
        """Prompts whose KV is complete become running sequences, or end where nothing is to be generated."""
        for prompt in self._prompts.take_complete():
            if prompt.request.max_tokens > 0:
                started = self._prompts.fork(prompt)
                for sequence in started:
                    sequence.constrain()
                self._running |= dict.fromkeys(started)
                continue
            self._page_manager.retire(prompt.table)
            for sequence in prompt.sequences:
                self._news.tell(prompt.request, sequence.choice, None, sampling_pb2.FINISH_REASON_LENGTH)

    def _grow(self) -> None:
        """Makes room for the next token of every sequence; where pages are short, the youngest of the lowest
        priority is preempted.
        """
        for sequence in self._schedulable():
            while sequence in self._running:
                try:
                    sequence.table.ensure(len(sequence.context) + self._under_way(sequence))
                    break
                except PagesExhausted:
                    if self._flight is not None:
                        self._land()  # what ends with it may leave pages
                        continue
                    self._preempt(min(reversed(self._running), key=lambda running: running.priority))

    def _preempt(self, sequence: Sequence) -> None:
        """Lets go of a sequence's pages; it is recomputed like a fresh prompt, in front of its equals."""
        self._preemptions += 1
        self._end(sequence)
        log.info("preempted", request=sequence.request.request_id, choice=sequence.choice)
        self._prompts.append_front(sequence)

    # -- ends ----------------------------------------------------------------------------------------------

    def _sequence(self, request: Request, choice: int) -> Sequence:
        sampling = SamplingState(request.spec, request.seed, choice, request.prompt_ids, request.output_ids)
        context = request.prompt_ids + request.output_ids
        return Sequence(request, choice, sampling, context, self._page_manager.new_table())

    def _end(self, sequence: Sequence) -> None:
        """A sequence does not run any more."""
        del self._running[sequence]
        self._page_manager.retire(sequence.table)

    def _withdraw(self, request: Request) -> None:
        """Takes everything of a request out of the engine, wherever it stands."""
        for sequence in [sequence for sequence in self._running if sequence.request is request]:
            self._end(sequence)
        for prompt in self._prompts.of(request):
            self._prompts.leave(prompt)

    def _fail(self, request: Request, error: PerigeeError) -> None:
        self._withdraw(request)
        self._news.tell_error(request, error)

    def _give_signs(self) -> None:
        """Now and then, of requests that get no token in this state: the gateway would take us for dead."""
        now = self._clock()
        if now - self._signed_at >= _SIGN_EVERY_S:
            self._signed_at = now
            self._news.tell_waiting(self._prompts.requests())

    def _enforce_deadlines(self) -> None:
        now = self._clock()
        for request in self._news.requests():
            if request.deadline <= now:
                self._fail(request, DeadlineExceeded("the request's time ran out"))

    def _publish(self) -> None:
        """Sends each session its news in one batch, and makes the load visible to other threads."""
        self._news.publish()
        self.load = self._measure()

    def _check_when_idle(self) -> None:
        """Runs the pool's integrity check once whenever the engine falls idle."""
        idle = not (self._running or self._flight or self._prompts.active or self._prompts.waiting)
        if idle and not self._checked_idle:
            try:
                self._page_manager.check_integrity()
            except PerigeeError as error:
                self._integrity_failures += 1
                log.error("page pool integrity", detail=error.message)
        self._checked_idle = idle

    def _measure(self) -> DecodeLoad:
        return DecodeLoad(
            running=len(self._running) + self._prompts.active,
            waiting=self._prompts.waiting,
            pages=self._page_manager.counts(),
            queued_tokens=self._prompts.queued_tokens,
            preemptions=self._preemptions,
            transfer_bytes=self._transfer_bytes,
            integrity_failures=self._integrity_failures,
        )
