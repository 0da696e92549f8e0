"""The one way from a request to its text, whatever the door: validate, render, encode, submit, decode."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from perigee.v1 import decode_pb2
from services.common.errors import DeadlineExceeded, Unavailable
from services.common.ids import completion_id
from services.families.output import CallRules
from services.gateway.admission import Ticket
from services.gateway.constraint.builder import Constraint, ConstraintBuilder
from services.gateway.pipeline.failover_policy import FailoverPolicy
from services.gateway.pipeline.generation import Generation
from services.gateway.pipeline.output.call_validator import CallValidator
from services.gateway.pipeline.output.choices import ChoiceMaker
from services.gateway.pipeline.output.events import Completion
from services.gateway.pipeline.output.scored_prompt import ScoredPrompt
from services.gateway.pipeline.prompt.encoding import VisionStage
from services.gateway.pipeline.prompt.limits import RequestRules, check_request, token_budget
from services.gateway.pipeline.prompt.prompt_usage import prompt_usage
from services.gateway.pipeline.prompt.rendering import Renderer
from services.gateway.pipeline.prompt.scoring import ask_scores
from services.gateway.pipeline.prompt.turnstile import Turnstile
from services.gateway.pipeline.request import ChatPrompt, GenerationRequest
from services.gateway.pipeline.submission import Submission
from services.gateway.pipeline.token_source import TokenSource
from services.gateway.sampling import resolve
from services.gateway.served_model import ServedModel
from services.gateway.workers.pool import WorkerPool
from services.gateway.workers.router import Router


class Pipeline:
    """Stages injected by the constructor; holds no request."""

    def __init__(
        self,
        model: ServedModel,
        rules: RequestRules,
        pool: WorkerPool,
        router: Router,
        renderer: Renderer,
        vision: VisionStage,
        choices: ChoiceMaker,
        constraints: ConstraintBuilder,
        timeout_s: float,
        failover: FailoverPolicy,
    ) -> None:
        self._model = model
        self._rules = rules
        self._pool = pool
        self._router = router
        self._renderer = renderer
        self._vision = vision
        self._choices = choices
        self._constraints = constraints
        self._timeout_s = timeout_s
        self._failover = failover
        self._turnstile = Turnstile()

    def check(self, request: GenerationRequest) -> None:
        """All that is known before any work is done. Raises as `open`."""
        if not self._pool.configured:
            raise Unavailable("no workers are configured: this gateway has a tokenizer alone")
        self._model.resolve(request.model)
        check_request(request, self._model, self._rules, self._context_length)

    @property
    def _context_length(self) -> int:
        return self._model.context(self._pool.context_length())

    @asynccontextmanager
    async def open(self, request: GenerationRequest, ticket: Ticket) -> AsyncIterator[Generation]:
        """Submits a request and gives its generation for the length of the block.

        Leaving the block, for whatever reason, cancels what still runs for it on any worker. Raises the
        InvalidRequest family before any worker is asked; later Overloaded, Unavailable, DeadlineExceeded.
        A gateway without workers (of a tokenizer alone) has nothing but Unavailable for it.
        """
        self.check(request)
        record, (tenant, weight) = ticket.record, ticket.whose
        timeout_s = min(self._timeout_s, request.timeout_s or self._timeout_s)
        deadline = time.monotonic() + timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                record.accepted()
                with record.stage("queue"):
                    await self._turnstile.enter(tenant, weight)
                chat = request.prompt.conversation if isinstance(request.prompt, ChatPrompt) else None
                head = Completion(
                    completion_id(chat=chat is not None), int(time.time()), self._model.resolve(request.model)
                )
                record.opened(head.id, head.model)
                with record.stage("render"):
                    began = time.monotonic()
                    constraint = await self._constraints.build(request.output, chat, ticket.whose)
                    if constraint.proto is not None:
                        record.timeline.add("grammar", began, time.monotonic())
                    submit = decode_pb2.Submit(
                        request_id=head.id,
                        cache_salt=request.cache_salt,
                        priority=request.priority,
                        tenant=tenant,
                        tenant_weight=weight,
                        constraint=constraint.proto,
                        traceparent=record.traceparent,
                    )
                    media, pages = await self._renderer.fill(submit, request.prompt)
                rendered, scores, scored = time.monotonic(), None, None
                if request.prompt_logprobs is not None:
                    scores = ask_scores(request.prompt_logprobs, submit)
                    first, token_ids = request.prompt_logprobs.first, submit.prompt_token_ids
                    scored = ScoredPrompt(token_ids, first, scores, self._model.tokenizer)
                budget = token_budget(
                    request,
                    len(submit.prompt_token_ids),
                    self._context_length,
                    self._model.profile.hosted if self._rules.profile == "moonshot" else None,
                )
                defaults = self._model.profile.defaults.of(chat)
                stop_ids = self._model.tokenizer.stop_ids
                submit.sampling.CopyFrom(resolve(request.sampling, defaults, budget, stop_ids))
                submission = Submission(submit, media, pages, deadline, record, scores=scores)
                source = TokenSource(
                    submission, self._router, self._vision, self._failover, ticket.failed_over
                )
                ticket.take_prompt(len(submit.prompt_token_ids), source.count_generated)
                generation = Generation(
                    head=head,
                    source=source,
                    choices=self._choices.make(request, _call_rules(constraint, ticket)),
                    prompt=prompt_usage(submit, media),
                    ticket=ticket,
                    scored=scored,
                    rendered=rendered,
                )
                await source.open()
                try:
                    yield generation
                finally:
                    generation.close()
                    ticket.spent(generation.usage, generation.finishes)
                    ticket.left_unanswered(generation.unanswered)
        except TimeoutError as error:
            raise DeadlineExceeded(f"the request did not finish within {timeout_s:g} s") from error


def _call_rules(constraint: Constraint, ticket: Ticket) -> CallRules:
    """Which calls are streamed, how the others are checked, and where all are counted."""
    return CallRules(
        accept=CallValidator(constraint.checks, ticket.refused_call),
        on_drop=ticket.dropped_call,
        streamed=constraint.streamed,
        on_show=lambda name: ticket.shown_call(constraint.held_for(name)),
    )
