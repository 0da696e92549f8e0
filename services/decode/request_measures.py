"""Where a decode worker's time goes: measured per request and per pass."""

from __future__ import annotations

from collections.abc import Callable

from services.common.errors import Cancelled, PerigeeError
from services.common.telemetry.tracer import Attributes, Tracer
from services.common.telemetry.worker_metrics import TextWorkerMetrics
from services.decode.prompts.fetch import FetchResult
from services.decode.request import Request
from services.decode.stepper import Step

STAGES = ("queue", "media", "grammar", "prefill", "transfer", "first_step", "decode")
"""The stages of a request. queue: it waits for pages; media: embeddings are read; prefill: the prompt is
computed, here or elsewhere; transfer: the rest of its KV is read; first_step: until the first token; decode:
until the last one. Beside them, grammar: it is compiled.
"""


class RequestMeasures:
    """Notes the moments of requests in their timelines, and at their ends in the metrics and traces. Engine
    thread.
    """

    def __init__(self, metrics: TextWorkerMetrics, tracer: Tracer | None, clock: Callable[[], float]) -> None:
        """`tracer`: of the requests' traces; `clock`: the engine's."""
        self._metrics = metrics
        self._tracer = tracer
        self._clock = clock

    def arrived(self, request: Request) -> None:
        """A request has come."""
        request.arrived_at = request.arrived_at or self._clock()

    def grammar_made(self, request: Request) -> None:
        """Its grammar is compiled, or cannot be."""
        request.timeline.add("grammar", request.arrived_at, self._clock())

    def answered(self, request: Request) -> None:
        """It is answered for the first time: fills in its stats."""
        timeline, stats = request.timeline, request.stats
        stats.queue_s, stats.media_s = timeline.seconds("queue"), timeline.seconds("media")
        stats.prefill_s, stats.transfer_s = timeline.seconds("prefill"), timeline.seconds("transfer")
        if request.ready_at:
            request.answered_at = self._clock()
            timeline.add("first_step", request.ready_at, request.answered_at)
            stats.first_step_s = timeline.seconds("first_step")

    def ended(self, request: Request) -> None:
        """Its last choice has ended, or its gateway is gone."""
        now = self._clock()
        if request.answered_at:
            request.timeline.add("decode", request.answered_at, now)
        self._metrics.stages.observe(request.timeline)
        if request.trace is not None and self._tracer is not None:
            stats, seconds = request.stats, now - request.arrived_at
            attributes: Attributes = {
                "request_id": request.request_id,
                "prompt_tokens": len(request.prompt_ids),
                "cached_tokens": stats.cached_tokens,
                "prefill_cached_tokens": stats.prefill_cached_tokens,
                "transfer_bytes": stats.transfer_bytes,
                "transfer_exposed_s": stats.transfer_tail_s,
                "prefill": stats.prefill_address,
                "total_s": seconds,
            }
            self._tracer.end(request.trace, request.timeline, now, attributes, request.failure)

    def failed(self, request: Request, error: PerigeeError) -> None:
        """A request ends with an error."""
        request.failure = error.reason
        self._metrics.errors.inc(error.reason)

    def fetched(self, address: str, result: FetchResult) -> None:
        """A fetch from a prefill worker is over."""
        if not isinstance(result.error, Cancelled):
            failed = result.error is not None
            self._metrics.transfers.note(
                address, result.bytes_read, result.read_s, result.tail_s, failed=failed
            )

    def passed(self, step: Step, seconds: float, prompt_tokens: int) -> None:
        """A pass has ended."""
        self._metrics.step(seconds, len(step.running), prompt_tokens)
