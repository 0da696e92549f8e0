"""What comes out of the pipeline, door by door the same."""

from __future__ import annotations

from dataclasses import dataclass

from perigee.v1 import sampling_pb2
from services.gateway.chat.output.calls import FinishedCall


@dataclass(frozen=True)
class Completion:
    """What all parts of one answer share. `created`: Unix seconds; `model`: the name the caller used."""

    id: str
    created: int
    model: str


@dataclass(slots=True)
class ChoiceDelta:
    """What is new of one choice; everything is to be appended.

    `calls`: each whole. `logprobs`: one per token of `token_ids`, when asked for, token texts filled in.
    `finish_reason`: unspecified (0) but on the choice's last delta.
    """

    index: int
    token_ids: tuple[int, ...] = ()
    reasoning: str = ""
    content: str = ""
    calls: tuple[FinishedCall, ...] = ()
    logprobs: tuple[sampling_pb2.PositionLogprobs, ...] = ()
    finish_reason: sampling_pb2.FinishReason.ValueType = sampling_pb2.FINISH_REASON_UNSPECIFIED

    @property
    def silent(self) -> bool:
        """Nothing a caller could see but token ids."""
        return not (self.reasoning or self.content or self.calls or self.logprobs or self.finish_reason)

    def join(self, more: ChoiceDelta) -> None:
        """Appends what came next of the same choice."""
        self.token_ids += more.token_ids
        self.reasoning += more.reasoning
        self.content += more.content
        self.calls += more.calls
        self.logprobs += more.logprobs
        self.finish_reason = more.finish_reason
