"""PrefillService: converts requests to jobs, and events to responses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from perigee.v1 import prefill_pb2, prefill_pb2_grpc, vision_pb2
from services.common.errors import InvalidRequest, PerigeeError
from services.common.telemetry.tracer import Tracer, gone_on
from services.engine.batch import PAGE_TOKENS
from services.engine.leases.embedding_reader import EmbeddingReader
from services.engine.leases.lease_stream import Authenticate, grant_to_proto
from services.engine.media import media_from_proto
from services.engine.sampling.scores import Scoring
from services.engine.serving.loop import EngineLoop
from services.prefill.engine import PrefillEngine
from services.prefill.events import (
    Admitted,
    Done,
    Event,
    NeedsMedia,
    Ready,
    Refused,
    Released,
    Renewed,
    Scored,
)
from services.prefill.job import Job

if TYPE_CHECKING:
    from services.common.rpc.interceptors import Context


class PrefillServicer(prefill_pb2_grpc.PrefillServiceServicer):
    """Serves one bidirectional stream per request; the engine computes on its own thread."""

    def __init__(
        self,
        engine: PrefillEngine,
        loop: EngineLoop,
        embeddings: EmbeddingReader,
        authenticate: Authenticate,
        vocab_size: int,
        context_length: int,
        tracer: Tracer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock`: the engine's."""
        self._engine = engine
        self._loop = loop
        self._embeddings = embeddings
        self._authenticate = authenticate
        self._vocab_size = vocab_size
        self._context_length = context_length
        self._tracer = tracer
        self._clock = clock

    async def Prefill(
        self,
        request_iterator: AsyncIterator[prefill_pb2.PrefillRequest],
        context: Context,
    ) -> AsyncIterator[prefill_pb2.PrefillResponse]:
        first = await anext(request_iterator, None)
        if first is None or first.WhichOneof("message") != "start":
            raise InvalidRequest("the first message must be start", "start")
        events: asyncio.Queue[Event] = asyncio.Queue()
        call_soon = asyncio.get_running_loop().call_soon_threadsafe
        job = self._job(first.start, lambda event: call_soon(events.put_nowait, event))
        self._loop.post(lambda: self._engine.submit(job))
        requests = asyncio.create_task(self._receive(job, request_iterator))
        fetches: set[asyncio.Task[None]] = set()
        renewals = 0
        try:
            while True:
                event = await events.get()
                if isinstance(event, NeedsMedia):
                    fetches.add(asyncio.create_task(self._fetch(job, event.indices)))
                    continue
                renewals += isinstance(event, Renewed)
                yield to_proto(event, renewals)
                if isinstance(event, Refused | Released):
                    return
        finally:
            for task in (requests, *fetches):
                task.cancel()
            job.abandoned = True
            self._loop.post(lambda: self._engine.abandon(job))

    def _job(self, start: prefill_pb2.PrefillStart, emit: Callable[[Event], object]) -> Job:
        """Validates `start` and returns its job. Raises InvalidRequest or Unavailable."""
        self._authenticate(start.reader_incarnation, start.reader_token)
        if start.lease_key == 0:
            raise InvalidRequest(
                "lease_key is 0; choose one that is unique in the reader's incarnation", "lease_key"
            )
        token_ids = list(start.token_ids)
        if not token_ids:
            raise InvalidRequest("token_ids is empty; a prompt of one token needs no prefill", "token_ids")
        if len(token_ids) >= self._context_length:
            raise InvalidRequest(
                f"{len(token_ids)} tokens; must be at most {self._context_length - 1}", "token_ids"
            )
        if start.reader_cached_pages * PAGE_TOKENS >= len(token_ids):
            raise InvalidRequest(
                f"{start.reader_cached_pages} cached pages already cover all {len(token_ids)} tokens",
                "reader_cached_pages",
            )
        if max(token_ids) >= self._vocab_size:
            raise InvalidRequest(
                f"token id {max(token_ids)} is outside the vocabulary of {self._vocab_size}", "token_ids"
            )
        scoring = Scoring.from_proto(start.scoring) if start.HasField("scoring") else None
        if scoring is not None:
            if start.next_token_id >= self._vocab_size:
                raise InvalidRequest(
                    f"next_token_id {start.next_token_id} is outside the vocabulary of {self._vocab_size}",
                    "next_token_id",
                )
            if start.reader_cached_pages * PAGE_TOKENS > scoring.cacheable:
                raise InvalidRequest(
                    f"{start.reader_cached_pages} cached pages leave out scores from {scoring.first} on",
                    "reader_cached_pages",
                )
        now = self._clock()
        return Job(
            request_id=start.request_id,
            reader=start.reader_incarnation,
            lease_key=start.lease_key,
            token_ids=token_ids,
            media=media_from_proto(start.media, len(token_ids) + 1),
            cache_salt=start.cache_salt,
            priority=start.priority,
            tenant=start.tenant,
            weight=max(1, start.tenant_weight),
            reader_cached_pages=start.reader_cached_pages,
            source_address=start.source_address,
            emit=emit,
            scoring=scoring,
            next_token_id=start.next_token_id,
            since=now,
            trace=gone_on(self._tracer, "prefill request", start.traceparent, now),
        )

    async def _receive(self, job: Job, requests: AsyncIterator[prefill_pb2.PrefillRequest]) -> None:
        """Passes renewals and the release to the engine. A message that cannot be decoded ends the job.

        The end of the requests alone does not release the lease: a crashed reader's stream ends likewise.
        """
        try:
            async for request in requests:
                if request.WhichOneof("message") == "renew":
                    self._engine.leases.request_renewal(job)
                elif request.WhichOneof("message") == "release":
                    release = request.release
                    self._engine.leases.answer_release(job, release.lease_id, release.generation)
                    self._loop.post(lambda: self._engine.release(job))
                    return
        except InvalidRequest as error:
            job.emit(Refused(prefill_pb2.PREFILL_REFUSAL_FAILED, error.message))

    async def _fetch(self, job: Job, indices: tuple[int, ...]) -> None:
        """Reads the embeddings that the engine waits for."""
        try:
            embeddings = await self._embeddings.fetch_all(job.media, indices)
        except PerigeeError as error:
            message = error.message
            self._loop.post(lambda: self._engine.media_failed(job, message))
            return
        self._loop.post(lambda: self._engine.media_arrived(job, embeddings))


def to_proto(event: Event, renewals: int) -> prefill_pb2.PrefillResponse:
    """Converts an event to its response. `renewals`: renewals answered on this stream so far."""
    match event:
        case Admitted(lease, pages, cached_tokens):
            admitted = prefill_pb2.PrefillAdmitted(
                lease=grant_to_proto(lease), pages=pages, cached_tokens=cached_tokens
            )
            return prefill_pb2.PrefillResponse(admitted=admitted)
        case Ready(first_page, page_count, first_layer, end_layer, crc32):
            ready = prefill_pb2.PagesReady(
                first_page=first_page,
                page_count=page_count,
                first_layer=first_layer,
                end_layer=end_layer,
                crc32=crc32,
            )
            return prefill_pb2.PrefillResponse(ready=ready)
        case Scored(scores):
            return prefill_pb2.PrefillResponse(scores=scores.to_proto())
        case Done(computed_tokens, source_tokens, queue_seconds, compute_seconds):
            done = prefill_pb2.PrefillDone(
                computed_tokens=computed_tokens,
                queue_seconds=queue_seconds,
                compute_seconds=compute_seconds,
                source_tokens=source_tokens,
            )
            return prefill_pb2.PrefillResponse(done=done)
        case Refused(reason, message):
            return prefill_pb2.PrefillResponse(
                refused=prefill_pb2.PrefillRefused(reason=reason, message=message)
            )
        case Renewed():
            return prefill_pb2.PrefillResponse(renewed=vision_pb2.LeaseRenewed(sequence=renewals))
        case Released(generation):
            return prefill_pb2.PrefillResponse(released=vision_pb2.LeaseReleased(generation=generation))
    raise TypeError(f"not for the reader: {event}")
