"""The metrics of a worker that count requests and passes, beside those of its load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from services.common.telemetry.cheap_metrics import Distribution, LabelledTally, StageTimes
from services.common.telemetry.peer_transfers import PeerTransfers

_STEP_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_SEQUENCE_BUCKETS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_TOKEN_BUCKETS = (0, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)


class WorkerMetrics(Collector):
    """Everything in it may be read on any thread; each part is written on one."""

    def __init__(self, stages: Sequence[str] = ()) -> None:
        """`stages`: names of the stages that a request passes through here."""
        self.stages = StageTimes(stages)
        self.errors = LabelledTally(
            "perigee_request_errors", "Requests that ended with an error, by its reason", ["reason"]
        )

    def collect(self) -> Iterator[Metric]:
        """Prometheus': all parts."""
        yield from self.stages.collect()
        yield from self.errors.collect()


class TextWorkerMetrics(WorkerMetrics):
    """Those of prefill and decode: also passes, and what was read from peers."""

    def __init__(self, stages: Sequence[str] = ()) -> None:
        super().__init__(stages)
        self.transfers = PeerTransfers()
        self._seconds = Distribution("perigee_step_seconds", "Seconds of a pass", _STEP_BUCKETS)
        self._sequences = Distribution(
            "perigee_step_sequences", "Running sequences in a pass", _SEQUENCE_BUCKETS
        )
        self._prompt_tokens = Distribution(
            "perigee_step_prompt_tokens", "Prompt tokens in a pass", _TOKEN_BUCKETS
        )

    def step(self, seconds: float, sequences: int, prompt_tokens: int) -> None:
        """Notes a pass that has ended."""
        self._seconds.observe(seconds)
        self._sequences.observe(sequences)
        self._prompt_tokens.observe(prompt_tokens)

    def collect(self) -> Iterator[Metric]:
        """Prometheus': all parts."""
        yield from super().collect()
        for part in (self._seconds, self._sequences, self._prompt_tokens, self.transfers):
            yield from part.collect()
