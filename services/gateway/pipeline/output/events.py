"""The pipeline's output, the same for every door."""

from __future__ import annotations

from dataclasses import dataclass

from perigee.v1 import sampling_pb2
from services.families.output import CallPiece


@dataclass(frozen=True)
class Completion:
    """What all parts of an answer share. `created`: Unix seconds; `model`: the name the caller used."""

    id: str
    created: int
    model: str


@dataclass(slots=True)
class ChoiceDelta:
    """An addition to one choice: reasoning, content, a piece of a call or how it ended, never two.

    So a client that reads the first it finds loses nothing. `finish_reason`: unspecified (0) except on the
    choice's last delta. `logprobs`: when asked for, token texts filled in, one for each token that spells the
    text or the piece. Tokens without text (markers, the end) come in deltas that have nothing else, or with
    the finish. `token_ids`: with `logprobs`, the same tokens.
    """

    index: int
    token_ids: tuple[int, ...] = ()
    reasoning: str = ""
    content: str = ""
    call: CallPiece | None = None
    logprobs: tuple[sampling_pb2.PositionLogprobs, ...] = ()
    finish_reason: sampling_pb2.FinishReason.ValueType = sampling_pb2.FINISH_REASON_UNSPECIFIED

    @property
    def silent(self) -> bool:
        """Nothing a caller could see but token ids."""
        return not (self.reasoning or self.content or self.call or self.logprobs or self.finish_reason)

    def join(self, more: ChoiceDelta) -> bool:
        """Appends what came next if it is of the same choice and kind; whether it did."""
        if self.index != more.index or not self._joins_call(more.call):
            return False
        if bool(self.reasoning) != bool(more.reasoning) or bool(self.content) != bool(more.content):
            return False
        self.token_ids += more.token_ids
        self.reasoning += more.reasoning
        self.content += more.content
        self.logprobs += more.logprobs
        self.finish_reason = more.finish_reason
        if self.call and more.call:
            self.call = CallPiece(self.call.index, arguments=self.call.arguments + more.call.arguments)
        return True

    def _joins_call(self, more: CallPiece | None) -> bool:
        """Whether neither is a piece of a call, or both are arguments of the same."""
        if self.call is None or more is None:
            return self.call is more
        return not (self.call.name or more.name) and self.call.index == more.index
