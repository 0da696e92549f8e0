"""DecodeService: protos to requests and deltas to protos."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from perigee.v1 import decode_pb2, decode_pb2_grpc, sampling_pb2
from services.common.errors import Cancelled, InvalidRequest, Overloaded, PerigeeError
from services.common.rpc.status import code_of
from services.common.sampling.controls import MAX_CHOICES
from services.common.telemetry.tracer import Tracer, gone_on
from services.decode import request as domain
from services.decode.constraint.maker import ConstraintMaker
from services.decode.constraint.rules import rules_from_proto
from services.decode.constraint.token_constraint import TokenConstraint
from services.decode.engine import DecodeEngine
from services.decode.request import Delta, Request
from services.engine.media import media_from_proto
from services.engine.sampling.sampler import SampledToken
from services.engine.sampling.scores import Scoring
from services.engine.sampling.spec import SamplingSpec
from services.engine.serving.loop import EngineLoop

if TYPE_CHECKING:
    from services.common.rpc.interceptors import Context

_MAX_BATCHES_BEHIND = 8192


class DecodeServicer(decode_pb2_grpc.DecodeServiceServicer):
    """One bidirectional stream per gateway; the engine does the work on its own thread."""

    def __init__(
        self,
        engine: DecodeEngine,
        loop: EngineLoop,
        constraints: ConstraintMaker,
        vocab_size: int,
        context_length: int,
        request_timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
        tracer: Tracer | None = None,
    ) -> None:
        self._engine = engine
        self._loop = loop
        self._constraints = constraints
        self._vocab_size = vocab_size
        self._context_length = context_length
        self._request_timeout_s = request_timeout_s
        self._clock = clock
        self._tracer = tracer

    async def Session(
        self,
        request_iterator: AsyncIterator[decode_pb2.SessionRequest],
        context: Context,
    ) -> AsyncIterator[decode_pb2.SessionResponse]:
        batches: asyncio.Queue[list[Delta] | None] = asyncio.Queue()
        call_soon = asyncio.get_running_loop().call_soon_threadsafe
        session = domain.Session(lambda deltas: call_soon(batches.put_nowait, deltas))
        hearing = asyncio.create_task(self._hear(session, request_iterator, batches))
        try:
            while (deltas := await batches.get()) is not None:
                if batches.qsize() > _MAX_BATCHES_BEHIND:
                    raise Overloaded(f"the gateway is {batches.qsize()} engine steps behind")
                yield to_response(deltas)
            await hearing
        finally:
            hearing.cancel()
            self._loop.post(lambda: self._engine.session_ended(session))

    async def _hear(
        self,
        session: domain.Session,
        messages: AsyncIterator[decode_pb2.SessionRequest],
        batches: asyncio.Queue[list[Delta] | None],
    ) -> None:
        """Passes submits and cancels on; a submit that is wrong in itself is answered here.

        Nobody would answer what comes after its end, so that is the end of the session too.
        """
        try:
            async for message in messages:
                for submit in message.submits:
                    try:
                        request = self._request(session, submit)
                    except PerigeeError as error:
                        batches.put_nowait(_refusal(submit, error))
                        continue
                    self._loop.post(functools.partial(self._submit, request))
                for cancel in message.cancels:
                    self._loop.post(functools.partial(self._engine.cancel, session, cancel.handle))
        finally:
            batches.put_nowait(None)

    def _submit(self, request: Request) -> None:
        """On the engine thread: hands the request over, and has its grammar compiled while the prompt is
        computed."""
        self._engine.submit(request)
        if request.rules is None or not request.unfinished:
            return

        def deliver(made: TokenConstraint | PerigeeError) -> None:
            self._loop.post(functools.partial(self._engine.constraint_made, request, made))

        self._constraints.make(
            request.request_id,
            request.rules,
            request.max_tokens,
            request.output_ids,
            lambda: bool(request.unfinished),
            deliver,
            (request.tenant, request.weight),
        )

    def _request(self, session: domain.Session, submit: decode_pb2.Submit) -> Request:
        """A checked submit as a request."""
        prompt, outputs, sampling = (
            list(submit.prompt_token_ids),
            list(submit.output_token_ids),
            submit.sampling,
        )
        if not submit.handle:
            raise InvalidRequest("handle is 0; choose one that is unique in the session", "handle")
        if not prompt:
            raise InvalidRequest("prompt_token_ids is empty", "prompt_token_ids")
        if max(max(prompt), max(outputs, default=0)) >= self._vocab_size:
            raise InvalidRequest(f"a token id is not below {self._vocab_size}", "prompt_token_ids")
        choices = _choices(submit)
        if submit.first_choice and choices.stop > MAX_CHOICES:
            raise InvalidRequest(
                f"choices up to {choices.stop - 1} were asked for; {MAX_CHOICES - 1} is the last one",
                "first_choice",
            )
        if len(choices) > 1 and outputs:
            raise InvalidRequest("output_token_ids can be given for one choice only", "output_token_ids")
        left = self._context_length - len(prompt)
        if left < 1:
            raise InvalidRequest(
                f"the prompt has {len(prompt)} tokens; this worker takes {self._context_length - 1} at most",
                "prompt_token_ids",
            )
        scoring = _scoring(submit)
        timeout_s = submit.timeout_ms / 1000 or self._request_timeout_s
        now = self._clock()
        return Request(
            session=session,
            handle=submit.handle,
            request_id=submit.request_id,
            prompt_ids=prompt,
            output_ids=outputs,
            spec=SamplingSpec.from_proto(sampling, self._vocab_size),
            seed=sampling.seed,
            choices=choices,
            max_tokens=min(left, sampling.max_tokens) if sampling.HasField("max_tokens") else left,
            media=media_from_proto(submit.media, len(prompt)),
            cache_salt=submit.cache_salt,
            priority=submit.priority,
            tenant=submit.tenant,
            weight=max(1, submit.tenant_weight),
            prefill_addresses=tuple(submit.prefill_addresses),
            own_address=submit.own_address,
            deadline=now + min(timeout_s, self._request_timeout_s),
            rules=rules_from_proto(submit.constraint) if submit.HasField("constraint") else None,
            output_is_cut=submit.output_is_cut,
            scoring=scoring,
            trace=gone_on(self._tracer, "decode request", submit.traceparent, now),
            arrived_at=now,
        )


def _scoring(submit: decode_pb2.Submit) -> Scoring | None:
    """Which tokens of the prompt are scored. Raises InvalidRequest."""
    if not submit.HasField("scoring"):
        return None
    scoring = Scoring.from_proto(submit.scoring)
    if scoring.first >= len(submit.prompt_token_ids):
        raise InvalidRequest(
            f"token {scoring.first} is not in the prompt of {len(submit.prompt_token_ids)}",
            "scoring.first_token",
        )
    if submit.output_token_ids:
        raise InvalidRequest("a choice that goes on has its scores already", "scoring")
    return scoring


def _refusal(submit: decode_pb2.Submit, error: PerigeeError) -> list[Delta]:
    """An error finish for every choice of a submit that never became a request."""
    finish = sampling_pb2.FINISH_REASON_ERROR
    first, *others = _choices(submit)[:MAX_CHOICES]
    refusal = Delta(submit.handle, first, (), finish, error)
    return [refusal, *(Delta(submit.handle, choice, (), finish) for choice in others)]


def _choices(submit: decode_pb2.Submit) -> range:
    """The indices asked for."""
    return range(submit.first_choice, submit.first_choice + (submit.sampling.n or 1))


def to_response(deltas: list[Delta]) -> decode_pb2.SessionResponse:
    """Returns the wire form of a batch. Scores are a batch of their own."""
    if deltas[0].scores is not None:
        scores = decode_pb2.RequestScores(handle=deltas[0].handle, scores=deltas[0].scores.to_proto())
        return decode_pb2.SessionResponse(scores=scores)
    plain: list[Delta] = []
    others: list[Delta] = []
    for delta in deltas:
        if not delta.waits and not delta.accepts:
            (plain if delta.is_plain else others).append(delta)
    response = decode_pb2.SessionResponse(
        deltas=map(to_proto, others),
        waiting_handles=[delta.handle for delta in deltas if delta.waits],
        accepted_handles=[delta.handle for delta in deltas if delta.accepts],
    )
    if plain:
        columns = response.tokens
        columns.handles.extend([delta.handle for delta in plain for _ in delta.tokens])
        columns.choices.extend([delta.choice for delta in plain for _ in delta.tokens])
        columns.token_ids.extend([token.token_id for delta in plain for token in delta.tokens])
    return response


def to_proto(delta: Delta) -> decode_pb2.SequenceDelta:
    """The wire form."""
    message = decode_pb2.SequenceDelta(
        handle=delta.handle,
        choice=delta.choice,
        token_ids=[token.token_id for token in delta.tokens],
        finish_reason=delta.finish,
        is_cut=delta.is_cut,
    )
    for token in delta.tokens:
        if token.logprob is not None:
            message.logprobs.append(_logprobs(token))
    if delta.error is not None and not isinstance(delta.error, Cancelled):
        message.error.code = code_of(delta.error).value[0]
        message.error.reason = delta.error.reason
        message.error.message = delta.error.message
        if isinstance(delta.error, Overloaded):
            message.error.retry_after_ms = int(delta.error.retry_after_s * 1000)
    if delta.stats is not None:
        stats = delta.stats
        message.stats.CopyFrom(
            decode_pb2.RequestStats(
                cached_tokens=stats.cached_tokens,
                prefill_cached_tokens=stats.prefill_cached_tokens,
                transfer_bytes=stats.transfer_bytes,
                transfer_bytes_before_done=stats.transfer_bytes_before_done,
                transfer_tail_seconds=stats.transfer_tail_s,
                prefill_address=stats.prefill_address,
                queue_seconds=stats.queue_s,
                media_seconds=stats.media_s,
                prefill_seconds=stats.prefill_s,
                transfer_seconds=stats.transfer_s,
                first_step_seconds=stats.first_step_s,
            )
        )
    return message


def _logprobs(token: SampledToken) -> sampling_pb2.PositionLogprobs:
    return sampling_pb2.PositionLogprobs(
        sampled=sampling_pb2.TokenLogprob(token_id=token.token_id, logprob=token.logprob or 0.0),
        top=[
            sampling_pb2.TokenLogprob(token_id=token_id, logprob=logprob) for token_id, logprob in token.top
        ],
    )
