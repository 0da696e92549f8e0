"""Turns requests into tokens: schedules steps, runs them, and takes what they give."""

from __future__ import annotations

import time
from collections import abc

import torch

from perigee.v1 import sampling_pb2
from services.common.errors import (
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    Overloaded,
    PerigeeError,
    Unavailable,
)
from services.common.fairness.competition import Competition
from services.common.telemetry.tracer import Tracer
from services.common.telemetry.worker_metrics import TextWorkerMetrics
from services.decode.constraint.mask_threads import MaskThreads
from services.decode.constraint.token_constraint import TokenConstraint
from services.decode.delta_outbox import DeltaOutbox
from services.decode.limits import DecodeLimits, DecodeLoad
from services.decode.postprocess import Postprocessor
from services.decode.prompts.fetch import FetchResult
from services.decode.prompts.prompt_queue import EngineIO, PromptQueue
from services.decode.prompts.prompt_rate import PromptRate
from services.decode.request import Prompt, Request, Sequence, Session
from services.decode.request_measures import STAGES, RequestMeasures
from services.decode.running import RunningSequences
from services.decode.stepper import Step, Stepper
from services.engine.kv_cache.idle_check import IdleCheck
from services.engine.kv_cache.page_manager import PageManager
from services.engine.leases.page_lending import PageLending
from services.engine.sampling.scores import joined
from services.engine.sampling.state import SamplingState
from services.engine.scheduler.pass_budget import PassBudget
from services.engine.scheduler.token_budget import share_budget

_LENGTH = sampling_pb2.FINISH_REASON_LENGTH
_SIGN_EVERY_S = 1.0
"""Well below the least time after which a gateway may take a silent worker for lost."""


class DecodeEngine:
    """The state of a decode worker: requests, running sequences, pages and their leases (`lending`).

    All methods run on the engine thread; `load`, `journal` and `competition` (of tenants) may be read on any.
    """

    def __init__(
        self,
        stepper: Stepper,
        pages: PageManager,
        masks: MaskThreads,
        limits: DecodeLimits,
        io: EngineIO,
        on_serving: abc.Callable[[bool], None],
        *,
        metrics: TextWorkerMetrics | None = None,
        tracer: Tracer | None = None,
        clock: abc.Callable[[], float] = time.monotonic,
    ) -> None:
        """`masks`: those that the stepper waits for. `on_serving` is called with True when the first page is
        pinned for a peer, with False when the last is released. `clock`: seconds, that of the requests'
        deadlines.
        """
        self._stepper = stepper
        self._pages = pages
        self._masks = masks
        self._limits = limits
        self._clock = clock
        self.lending = PageLending(pages, limits.lease_s, on_serving, clock)
        self.competition = Competition(clock)
        self._budget = PassBudget(limits.chunk_tokens, self.competition)
        self._rate = PromptRate()
        self._prompts = PromptQueue(pages, limits, io, self._rate, clock)
        self._running = RunningSequences(pages, self._prompts.append_front)
        self._measures = RequestMeasures(metrics or TextWorkerMetrics(STAGES), tracer, clock)
        self._outbox = DeltaOutbox(self._measures.answered, self._measures.ended)
        self._postprocessor = Postprocessor(pages, masks, self._outbox, self._running.end, self._fail)
        self._idle_check = IdleCheck(pages.check_integrity)
        self._landed_at = self._signed_at = clock()
        self._transfer_bytes = 0
        self._draining = False
        self.journal = pages.journal
        self.load = self._measure()

    # -- messages ------------------------------------------------------------------------------------------

    def submit(self, request: Request) -> None:
        """Queues a request, or refuses it at once by an error."""
        self._measures.arrived(request)
        self._idle_check.note_request()
        self.competition.note(request.tenant)
        if not self._outbox.add_request(request):
            self._fail(request, InvalidRequest(f"handle {request.handle} is in use", "handle"))
        elif self._draining:
            self._fail(request, Unavailable("the decode worker is draining"))
        elif not self._has_place(request):
            self._fail(
                request, Overloaded(f"{self._prompts.waiting} requests are waiting on the decode worker")
            )
        elif request.output_ids and len(request.output_ids) >= request.max_tokens:
            self._outbox.put(request, request.choices.start, (), _LENGTH)
        else:
            sequences = [self._sequence(request, choice) for choice in request.choices]
            refusal = self._prompts.append(request, sequences)
            if refusal is not None:
                self._fail(request, refusal)
            else:
                self._accept_if_certain(request)
        self._publish()

    def cancel(self, session: Session, handle: int) -> None:
        """Stops a request; its unfinished choices end as cancelled. Unknown handles are ignored."""
        request = session.requests.get(handle)
        if request is not None:
            self._withdraw(request)
            for choice in sorted(request.unfinished):
                self._outbox.put(request, choice, (), sampling_pb2.FINISH_REASON_CANCELLED)
            self._publish()

    def session_ended(self, session: Session) -> None:
        """The gateway is gone: everything it submitted ends, and nothing is sent any more."""
        for request in list(session.requests.values()):
            self._withdraw(request)
            request.unfinished.clear()
            self._measures.ended(request)
        session.requests.clear()
        self._outbox.drop_session(session)

    def fetch_ended(self, prompt: Prompt, result: FetchResult) -> None:
        """The fetch of a prompt's pages is over: no read will be posted any more."""
        self._transfer_bytes += result.bytes_read
        self._measures.fetched(prompt.address, result)
        error = self._prompts.fetch_ended(prompt, result)
        if error is not None:
            self._fail(prompt.request, error)
        else:
            self._accept_if_certain(prompt.request)
        self._publish()

    def fetch_admitted(self, prompt: Prompt) -> None:
        """A prefill worker has admitted a prompt."""
        prompt.admitted = True
        self._accept_if_certain(prompt.request)
        self._publish()

    def pages_settled(self, pages: abc.Sequence[int]) -> None:
        """No byte of an ended fetch can land in these pages any more."""
        self._pages.settle(pages)

    def media_arrived(self, prompt: Prompt, embeddings: dict[int, torch.Tensor]) -> None:
        """The media asked for are there: rows [num_tokens, hidden] by index."""
        self._prompts.media_arrived(prompt, embeddings)

    def media_failed(self, prompt: Prompt, error: PerigeeError) -> None:
        """An embedding cannot be had."""
        if prompt.request.unfinished:
            self._fail(prompt.request, error)
            self._publish()

    def constraint_made(self, request: Request, made: TokenConstraint | PerigeeError) -> None:
        """A request's grammar is compiled, or cannot be."""
        self._measures.grammar_made(request)
        if isinstance(made, TokenConstraint):
            made.is_cut = request.output_is_cut
            request.constraint = made
            self._accept_if_certain(request)
            self._publish()
        elif request.unfinished:
            self._fail(request, made)
            self._publish()

    def flush(self) -> int:
        """Drops cached pages nobody holds; returns how many."""
        return self._pages.flush()

    def drain(self) -> int:
        """Admits nothing from now on; returns how many requests remain."""
        self._draining = True
        return len(self._outbox.requests())

    def undrain(self) -> None:
        """Admits again."""
        self._draining = False

    # -- the step ------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Makes one turn: all running sequences get their next tokens, and prompts a chunk. Returns whether
        there is more to do at once.
        """
        self._enforce_deadlines()
        self.lending.expire()
        step = self._schedule()
        busy = self._run(step)
        self._idle_check.note_step(idle=self._is_idle())
        self._send_signs_of_life()
        self._publish()
        return busy

    def _schedule(self) -> Step | None:
        """Decides what the next pass computes; None: nothing."""
        self._admit()
        self._start_sequences()
        running = self._running.plan(self._stepper, self._land)
        prompts = self._prompts.turn(self._running.tenants_without_token)
        budget = self._budget.tokens()
        shares = share_budget(prompts, budget)
        if not running and not shares:
            return None
        chunks = [(prompt, prompt.computed, prompt.computed + chunk) for prompt, chunk in shares]
        return Step(running, chunks, budget, self._clock())

    def _admit(self) -> None:
        """Admits prompts. For one that finds no room, a tenant that has more than its share makes room, until
        it fits or the shares are even. Then it waits, and prompts of tenants that hold less for their weight
        pass it: its own tenant has taken the room.
        """
        passed: dict[int, float] = {}

        def may_pass(prompt: Prompt) -> bool:
            if not passed:
                return True
            return prompt.tenant not in passed and self._held(prompt) < min(passed.values())

        while (blocked := self._prompts.admit(len(self._running), may_pass)) is not None:
            if not self._make_room(blocked):
                passed[blocked.tenant] = self._held(blocked)

    def _make_room(self, blocked: Prompt) -> bool:
        """Takes room from a tenant that has more than its share: that of a prompt that waits for its grammar,
        or else of a sequence, which is preempted. Returns False if there is none.
        """
        unready = self._prompts.unready_over_share(blocked, self._running.held())
        sequence = None if unready else self._running.over_share(blocked, self._prompts.held())
        if unready is None and sequence is None:
            return False
        if self._land():  # it may have ended sequences, and made the room
            return True
        if unready is not None:
            self._prompts.put_back(unready)
        elif sequence is not None:
            self._running.preempt(sequence)
        return True

    def _held(self, prompt: Prompt) -> float:
        """Sequences that a prompt's tenant holds, for its weight."""
        return (self._running.held()[prompt.tenant] + self._prompts.held()[prompt.tenant]) / prompt.weight

    def _run(self, step: Step | None) -> bool:
        """Launches a step and takes the tokens that land. Returns whether the device had anything to do."""
        if step is not None:
            self._pages.step_begins()
            self._stepper.launch(step)
            for prompt, start, end in step.chunks:
                self._prompts.computed(prompt, start, end)
        busy = self._land() or step is not None
        if step is not None:
            self._stepper.sample(self._running.members)
        if not self._stepper.overlaps:
            self._land()
        return busy

    def _land(self) -> bool:
        """Waits for the step in flight and takes what it gave. Returns False if there is none."""
        if not self._stepper.in_flight:
            return False
        self._outbox.publish()  # a batch has one step's deltas of a choice
        landed = self._stepper.land()
        if landed is None:
            return False
        self._note_rate(landed.step)
        for prompt, start, end in landed.step.chunks:
            self._pages.remember(prompt.hashes, prompt.table, start, end)
        for prompt, scores in landed.scores:
            prompt.scores.append(scores)
        running = self._running.members
        for sequence, tokens in landed.tokens:
            if sequence in running:  # else it or another choice of its request has ended meanwhile
                self._postprocessor.take(sequence, tokens)
        self._pages.step_ended()
        self._masks.begin()
        return True

    def _start_sequences(self) -> None:
        """Prompts whose KV is complete become running sequences, or end where nothing is to be generated."""
        for prompt in self._prompts.take_complete():
            if not self._deliver_scores(prompt):
                self._pages.retire(prompt.table)
                continue
            if prompt.request.max_tokens > 0:
                started = self._prompts.fork(prompt)
                for sequence in started:
                    sequence.constrain()
                self._running.add(started)
                continue
            self._pages.retire(prompt.table)
            for sequence in prompt.sequences:
                self._outbox.put(prompt.request, sequence.choice, (), _LENGTH)

    def _deliver_scores(self, prompt: Prompt) -> bool:
        """Sends the scores of a complete prompt, if they are due. Returns False, and ends the request, where
        its logits give none.
        """
        request = prompt.request
        if request.scoring is None:
            return True
        scores, prompt.scores = joined(prompt.scores), []
        if not scores.is_usable:
            self._fail(request, InternalError("the logits of the prompt give no finite log-probabilities"))
            return False
        request.scoring = None
        self._outbox.put_scores(request, scores)
        return True

    def _note_rate(self, step: Step) -> None:
        """Measures a step that has ended. The device began it when it was launched, or when the step before
        had ended.
        """
        began, self._landed_at = max(step.began, self._landed_at), self._clock()
        tokens = sum(end - start for _, start, end in step.chunks)
        seconds = self._landed_at - began
        self._rate.note(tokens, step.budget, seconds)
        self._measures.passed(step, seconds, tokens)

    # -- requests ------------------------------------------------------------------------------------------

    def _has_place(self, request: Request) -> bool:
        """Whether a request may wait here. One that comes from another worker finds twice the places."""
        if request.output_ids:
            return self._prompts.waiting < 2 * self._limits.max_waiting
        return self._prompts.waiting < self._limits.max_waiting and self._prompts.is_within_share(request)

    def _sequence(self, request: Request, choice: int) -> Sequence:
        sampling = SamplingState(request.spec, request.seed, choice, request.prompt_ids, request.output_ids)
        return Sequence(
            request,
            choice,
            sampling,
            context=request.prompt_ids + request.output_ids,
            max_length=min(len(request.prompt_ids) + request.max_tokens, self._limits.context_length),
            table=self._pages.new_table(),
        )

    def _accept_if_certain(self, request: Request) -> None:
        """Informs the gateway, once and before the first token, that a request is no longer refused."""
        if request.has_begun or not request.unfinished:
            return
        if (request.rules is None or request.constraint is not None) and self._prompts.is_certain(request):
            request.accepted = True
            self._outbox.put_accepted(request)

    def _withdraw(self, request: Request) -> None:
        """Takes everything of a request out of the engine, wherever it stands."""
        self._running.end_all(request)
        for prompt in self._prompts.of(request):
            self._prompts.leave(prompt)

    def _fail(self, request: Request, error: PerigeeError) -> None:
        self._measures.failed(request, error)
        self._withdraw(request)
        self._outbox.put_error(request, error)

    def _enforce_deadlines(self) -> None:
        now = self._clock()
        for request in self._outbox.requests():
            if request.deadline <= now:
                self._fail(request, DeadlineExceeded("the request's time ran out"))

    def _send_signs_of_life(self) -> None:
        """Now and then names the requests that get no token in this state, or the gateway would take this
        worker for dead.
        """
        now = self._clock()
        if now - self._signed_at >= _SIGN_EVERY_S:
            self._signed_at = now
            self._outbox.put_waiting(self._prompts.requests())

    # -- the state -----------------------------------------------------------------------------------------

    def _publish(self) -> None:
        """Sends each session its deltas in one batch, and makes the load visible to other threads."""
        self._outbox.publish()
        self.load = self._measure()

    def _is_idle(self) -> bool:
        waits = self._prompts.active or self._prompts.waiting
        return not (waits or self._running.members or self._stepper.in_flight)

    def _measure(self) -> DecodeLoad:
        return DecodeLoad(
            running=len(self._running) + self._prompts.active,
            waiting=self._prompts.waiting,
            pages=self._pages.counts(),
            queued_tokens=self._prompts.queued_tokens,
            preemptions=self._running.preemptions,
            transfer_bytes=self._transfer_bytes,
            integrity_failures=self._idle_check.failures,
        )
