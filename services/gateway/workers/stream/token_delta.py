"""What a decode worker adds to one choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from perigee.v1 import decode_pb2, sampling_pb2


@dataclass(frozen=True)
class PromptStats:
    """The origin of the prompt's pages, and how long it took. `cached_tokens`: of the prompt, in the decode
    worker's cache; `prefill_cached_tokens`: beyond these in the prefill worker's. `seconds`: by stage, one
    after the other.
    """

    prefill_address: str
    cached_tokens: int
    prefill_cached_tokens: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def all_cached_tokens(self) -> int:
        """Tokens of the prompt in a cache of either worker."""
        return self.cached_tokens + self.prefill_cached_tokens

    @classmethod
    def from_proto(cls, stats: decode_pb2.RequestStats) -> PromptStats:
        """The same."""
        seconds = {
            "worker_queue": stats.queue_seconds,
            "media": stats.media_seconds,
            "prefill": stats.prefill_seconds,
            "transfer": stats.transfer_seconds,
            "first_step": stats.first_step_seconds,
        }
        return cls(stats.prefill_address, stats.cached_tokens, stats.prefill_cached_tokens, seconds)


@dataclass(slots=True)
class TokenDelta:
    """Tokens of one choice, and how it ended if it did.

    The form of perigee.v1.SequenceDelta inside the gateway: messages of decode.proto end at the session, the
    values of sampling.proto in them (log-probabilities, finish reasons) go on to the doors. `is_cut`: the
    constraint put a token in the place of the one that was drawn. `logprobs`: one per token if asked for,
    without texts. `stats`: once per request and worker.
    """

    choice: int = 0
    token_ids: Sequence[int] = ()
    finish_reason: sampling_pb2.FinishReason.ValueType = sampling_pb2.FINISH_REASON_UNSPECIFIED
    is_cut: bool = False
    logprobs: Sequence[sampling_pb2.PositionLogprobs] = ()
    stats: PromptStats | None = None

    @classmethod
    def from_proto(cls, delta: decode_pb2.SequenceDelta) -> TokenDelta:
        """The same, without the failure that the message may report."""
        stats = None
        if delta.HasField("stats"):
            stats = PromptStats.from_proto(delta.stats)
        return cls(
            delta.choice,
            tuple(delta.token_ids),
            delta.finish_reason,
            delta.is_cut,
            tuple(delta.logprobs),
            stats,
        )
