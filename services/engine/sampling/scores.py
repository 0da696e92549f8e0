"""Scores of prompt tokens: log-probability, rank, and the likeliest tokens in their place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from perigee.v1 import scores_pb2
from services.common.errors import InvalidRequest
from services.common.sampling.controls import TOP_LOGPROBS

_MESSAGE_VALUES = 16_384
"""The most numbers in a piece: a message of at most 128 KiB."""


@dataclass(frozen=True)
class Scoring:
    """Which tokens of a prompt are scored: token `first`, at least 1, and all after it, each with its `top`
    likeliest alternatives.
    """

    first: int
    top: int

    @classmethod
    def from_proto(cls, message: scores_pb2.PromptScoring) -> Scoring:
        """Raises InvalidRequest naming the field that is out of range."""
        if not message.first_token:
            raise InvalidRequest("first_token is 0: nothing predicts token 0", "scoring.first_token")
        TOP_LOGPROBS.check(message.top, "scoring.top")
        return cls(message.first_token, message.top)

    def to_proto(self) -> scores_pb2.PromptScoring:
        """The same as a message."""
        return scores_pb2.PromptScoring(first_token=self.first, top=self.top)

    @property
    def cacheable(self) -> int:
        """Number of leading tokens that need not be computed: token t gets its score where token t - 1 is."""
        return self.first - 1

    def targets(self, context: Sequence[int], start: int, end: int) -> Sequence[int]:
        """Returns the tokens of `context` that are scored where tokens [start, end) are computed: those after
        the last of these.
        """
        return context[max(start, self.cacheable) + 1 : end + 1]


@dataclass(frozen=True)
class Scores:
    """Scores of N consecutive tokens, the first with index `first` in the prompt; K alternatives for each.

    `logprobs` float32 [N]: natural logarithms under the raw model distribution; `ranks` uint32 [N]: 1 for the
    likeliest, as in `rank_keys`; `top_ids` uint32 [N, K] and `top_logprobs` float32 [N, K], likeliest first.
    """

    first: int
    logprobs: npt.NDArray[np.float32]
    ranks: npt.NDArray[np.uint32]
    top_ids: npt.NDArray[np.uint32]
    top_logprobs: npt.NDArray[np.float32]

    @classmethod
    def from_proto(cls, message: scores_pb2.PromptScores) -> Scores:
        """Raises ValueError for lists that do not fit together."""
        count = len(message.logprobs)
        return cls(
            message.first_token,
            np.array(message.logprobs, np.float32),
            np.array(message.ranks, np.uint32).reshape(count),
            np.array(message.top_ids, np.uint32).reshape(count, -1),
            np.array(message.top_logprobs, np.float32).reshape(count, -1),
        )

    def to_proto(self) -> scores_pb2.PromptScores:
        """The same as a message."""
        return scores_pb2.PromptScores(
            first_token=self.first,
            logprobs=self.logprobs.tolist(),
            ranks=self.ranks.tolist(),
            top_ids=self.top_ids.ravel().tolist(),
            top_logprobs=self.top_logprobs.ravel().tolist(),
        )

    def __len__(self) -> int:
        return len(self.logprobs)

    @property
    def is_usable(self) -> bool:
        """Whether all log-probabilities are finite: logits with NaN or infinity give others."""
        return bool(np.isfinite(self.logprobs).all())

    def rows(self, start: int, end: int, top: int) -> Scores:
        """Returns those of tokens [start, end), counted from the first here, with `top` alternatives."""
        return Scores(
            self.first + start,
            self.logprobs[start:end],
            self.ranks[start:end],
            self.top_ids[start:end, :top],
            self.top_logprobs[start:end, :top],
        )

    def pieces(self) -> Iterator[Scores]:
        """Yields them in pieces, each for one message."""
        top = self.top_ids.shape[1]
        size = _MESSAGE_VALUES // (2 + 2 * top)
        for start in range(0, len(self), size):
            yield self.rows(start, start + size, top)


def joined(parts: Sequence[Scores]) -> Scores:
    """Returns parts that follow one another as one; at least one is given."""
    first, *_ = parts
    return Scores(
        first.first,
        np.concatenate([part.logprobs for part in parts]),
        np.concatenate([part.ranks for part in parts]),
        np.concatenate([part.top_ids for part in parts]),
        np.concatenate([part.top_logprobs for part in parts]),
    )
