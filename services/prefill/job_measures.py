"""Where a prefill worker's time goes: measured per job and per pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from perigee.v1 import prefill_pb2
from services.common.telemetry.tracer import Attributes, Tracer
from services.common.telemetry.worker_metrics import TextWorkerMetrics
from services.prefill.job import Job
from services.prefill.source import SourceResult

STAGES = ("queue", "source", "media", "compute")
"""The stages of a job. queue: it waits for pages; source: it reads some that its reader has; media: it reads
embeddings; compute: until the last page is written.
"""


class JobMeasures:
    """Notes the moments of jobs in their timelines, and at their ends in the metrics and traces. Engine
    thread.
    """

    def __init__(self, metrics: TextWorkerMetrics, tracer: Tracer | None, clock: Callable[[], float]) -> None:
        """`tracer`: of the jobs' traces; `clock`: the engine's."""
        self._metrics = metrics
        self._tracer = tracer
        self._clock = clock

    def arrived(self, job: Job) -> None:
        """A job has come."""
        job.since = job.since or self._clock()

    def passed(self, job: Job, stage: str) -> float:
        """A job has passed a stage, and the next one begins; returns when."""
        now = self._clock()
        job.timeline.add(stage, job.since, now)
        job.since = now
        return now

    def read(self, job: Job, result: SourceResult) -> None:
        """A read of pages that the job's reader has is over; the job waited for nothing else."""
        failed = not result.arrived
        seconds = result.read_s
        self._metrics.transfers.note(job.source_address, result.bytes_read, seconds, seconds, failed=failed)

    def refused(self, job: Job, reason: prefill_pb2.PrefillRefusal.ValueType) -> None:
        """A job ends with a refusal."""
        name = prefill_pb2.PrefillRefusal.Name(reason).removeprefix("PREFILL_REFUSAL_")
        self._metrics.errors.inc(name)
        self.ended(job, name)

    def ended(self, job: Job, error: str = "") -> None:
        """A job is finished, or ends before that. Counts once. `error`: the reason why it fails."""
        if job.measured:
            return
        job.measured = True
        self._metrics.stages.observe(job.timeline)
        if job.trace is not None and self._tracer is not None:
            attributes: Attributes = {
                "request_id": job.request_id,
                "prompt_tokens": job.num_tokens,
                "cached_tokens": job.cached_tokens,
                "source_tokens": job.source_tokens,
            }
            self._tracer.end(job.trace, job.timeline, self._clock(), attributes, error)

    def computed(self, shares: Sequence[tuple[Job, int]], seconds: float) -> None:
        """A pass over chunks of jobs has ended."""
        self._metrics.step(seconds, len(shares), sum(chunk for _, chunk in shares))
